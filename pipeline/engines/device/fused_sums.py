"""Exact sums of byte rows on a CUDA GPU, by Triton: see `fused_sum_programs`."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from subprocess import SubprocessError

import torch
import triton
from triton.errors import TritonError

from pipeline.engines.device.fused_sum_programs import add_few, move_rows
from pipeline.engines.device.kernels import SumsTable
from pipeline.runtime.devices import accelerator_error, first_line
from pipeline.runtime.kernel_cache import place_triton_kernels

FEW = 256  # up to so many clusters, rows are added up by products
NARROWEST = 16  # that a product takes
ROWS_ADDED, BLOCK_ADDED, BLOCK_MOVED = 8192, 128, 64  # rows of a program, of its products, moved


class FusedSums(SumsTable):
    """`Uint8Sums` by Triton, on the device."""

    def add(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        n, k = len(rows), len(self._table)
        if k > FEW:
            self.move(rows, labels, labels, anew=True)
        elif n > 0:
            width = min(max(NARROWEST, triton.next_power_of_2(self._dim + 4)), 64)
            clusters = 64 if k <= 64 else 128
            columns = width - 4
            grid = (triton.cdiv(n, ROWS_ADDED), triton.cdiv(k, clusters), -(-self._dim // columns))
            with launching_on(rows.device):
                add_few[grid](
                    *(rows, labels, self._table, n, k),
                    ROWS=ROWS_ADDED,
                    DIM=self._dim,
                    WIDTH=width,
                    BLOCK_ROWS=BLOCK_ADDED,
                    BLOCK_CLUSTERS=clusters,
                    num_warps=8,
                )

    def move(
        self, rows: torch.Tensor, before: torch.Tensor, labels: torch.Tensor, *, anew: bool = False
    ) -> None:
        if len(rows) == 0:
            return
        with launching_on(rows.device):
            move_rows[(triton.cdiv(len(rows), BLOCK_MOVED),)](
                *(rows, before, labels, self._table, len(rows)),
                DIM=self._dim,
                WIDTH=min(triton.next_power_of_2(self._dim), 32),
                BLOCK_ROWS=BLOCK_MOVED,
                ANEW=anew,
                num_warps=8,
            )


def launching_on(device: torch.device) -> AbstractContextManager[object]:
    """Kernels are launched on the current GPU, and kept where there is a place."""
    place_triton_kernels()
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@cache
def triton_problem(device: torch.device) -> str:
    """Why kernels cannot be built or do not work on a device, in words; empty where they do.

    Triton needs a C compiler and Python's headers, and a driver that takes what it compiles.
    """
    rows = torch.full((1, 1), 7, dtype=torch.uint8, device=device)
    labels = torch.zeros(1, dtype=torch.int32, device=device)
    sums = FusedSums(device, 1, 1)
    try:
        sums.move(rows, labels - 1, labels)
        found = [part.item() for part in sums.fetch()]
    except (torch.OutOfMemoryError, accelerator_error()):
        raise  # of the device, whatever computes
    except (TritonError, RuntimeError, OSError, ImportError, SubprocessError) as error:
        return f"Triton cannot build or run kernels ({first_line(str(error))})"
    return "" if found == [7, 1, 49] else f"Triton's kernels give {found} for 7, 1 and 49"
