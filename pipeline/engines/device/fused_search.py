"""What a CUDA GPU computes by Triton: see `fused_programs` for how.

Bytes are exact in float16, and a centroid is the sum of two float16 numbers to 22 bits or more, so
two tensor-core products are as good as one in float32. Half squared lengths are those of the
centroids as represented, so that rounding counts by the distance from a row, not by its length;
where two columns are free they are part of the products too.

Dtypes: stored integers of 8 or 16 bits or float32; compute float16 pairs for bytes, else float32 in
three products of TensorFloat-32, float64 where these cannot tell; accumulate float32 for scores,
int64 for sums of bytes (see `fused_sums`); returned labels int32.
"""

import math

import numpy as np
import torch
import triton

from pipeline.engines.cpu.centroid_table import duplicates
from pipeline.engines.device.float64_ties import Float64Ties, slack_of
from pipeline.engines.device.fused_layout import (
    CONFIGURATIONS,
    FLOATS,
    FOLDS,
    LONG,
    LONG_FLOATS,
    SHORT,
    SHORT_FLOATS,
    SIDE,
    STEP,
    STEP_FLOATS,
    UNGROUPED_CENTROIDS,
    Configuration,
    arranged,
    fold_unit,
    shared_bytes,
    widths,
)
from pipeline.engines.device.fused_programs import nearest_long, nearest_short
from pipeline.engines.device.fused_sums import FusedSums, launching_on
from pipeline.engines.device.kernels import widened
from pipeline.rows.units import scale_of
from storage.errors import InputError

LARGEST_HALF = 60_000.0  # of what float16 holds
LARGEST_UNIT = 2.0**15  # that float16 holds
ONE_MORE = 1024.0  # what bytes have more as the last bits of a float16, see `_tile`
LOOKED_AT, DECIDED = 1 << 20, 1 << 14  # labels, and rows that float64 decides, at a time
COMPILER_BYTES = 256 << 20  # of host memory, Triton and what it compiles with


class FusedKernels:
    """`DeviceKernels` by Triton, for a CUDA GPU, or the CPU where Triton interprets.

    configuration, group: to be taken instead of the usual ones, for measuring.
    Raises: InputError for float64 rows.
    """

    sums_bytes = True

    def __init__(
        self,
        device: torch.device,
        dim: int,
        dtype: np.dtype,
        *,
        configuration: Configuration | None = None,
        group: int | None = None,
    ) -> None:
        if dtype == np.float64:
            raise InputError("the fused engine takes no float64 rows: use engine torch, or float32")
        self.device, self._dim, self._dtype = device, dim, dtype
        self.row_dtype = torch.from_numpy(np.empty(0, dtype)).dtype
        self._bytes, self._integers = dtype.itemsize == 1, dtype.kind in "ui"
        self._asked, self._asked_group = configuration, group
        # as in float32, and some for the parts that three products of TensorFloat-32 leave out
        self._slack = slack_of(dim + 16, torch.float32)
        self._shared, self._capability = 1 << 20, 9
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            limits = triton.runtime.driver.active.utils.get_device_properties(index)
            self._shared = limits["max_shared_mem"]
            self._capability = torch.cuda.get_device_capability(index)[0]

    def load(self, centroids: np.ndarray) -> None:
        k, dim = centroids.shape
        wide = centroids.astype(np.float64)
        shift = self._shift_of(wide)
        largest = float(np.abs(wide - shift).max())
        scale = 1.0 if self._integers else scale_of(largest, self._dtype)
        again, _ = duplicates(centroids)
        self._half = self._bytes and largest <= LARGEST_HALF
        self._first, self._second = widths(dim, self._half)
        self._width = width = self._first + self._second
        self._short = width <= (SHORT if self._half else SHORT_FLOATS)
        self._launch, self._group = self._configuration(k)
        self._k_padded = -(-k // self._launch.centroids) * self._launch.centroids
        shifted = torch.from_numpy((wide - shift) * scale).to(self.device)
        kind = torch.float16 if self._half else torch.float32
        leading = torch.zeros((self._k_padded, width), dtype=kind, device=self.device)
        trailing = torch.zeros_like(leading) if self._half else leading
        leading[:k, :dim] = shifted.to(kind)
        represented = leading[:k, :dim].double()
        if self._half:
            trailing[:k, :dim] = (shifted - represented).to(kind)
            represented += trailing[:k, :dim].double()
        half_norms = 0.5 * represented.square().sum(dim=1)
        half_norms[again] = math.inf
        self._shift = torch.zeros(width, dtype=kind, device=self.device)
        self._shift[:dim] = torch.from_numpy(shift).to(self.device, kind)
        if self._half:
            self._shift += ONE_MORE + self._bias
        self._centroids = torch.full(
            (self._k_padded, width), math.inf, dtype=torch.float32, device=self.device
        )
        self._centroids[:k] = 0
        self._centroids[:k, :dim] = shifted.float()
        self._centroids[again] = math.inf
        unit = fold_unit(dim, largest)
        self._folded = self._short and self._half and width - dim >= FOLDS and unit <= LARGEST_UNIT
        if self._folded:
            self._fold(half_norms, leading, trailing, unit)
        norms = torch.full((self._k_padded,), math.inf, dtype=torch.float32, device=self.device)
        norms[:k] = half_norms.float()
        self._leading, self._half_norms = self._arranged(leading), self._arranged(norms)
        self._trailing = self._arranged(trailing) if self._half else self._leading
        self._ties = None
        if not self._half:
            self._ties = Float64Ties(self.device, centroids, shift, scale, again)
        self._scale = scale

    def label(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        n, launch = len(rows), self._launch
        if n == 0:
            return
        common = (n, self._k_padded, self._scale, self._slack)
        constants = {
            "DIM": self._dim,
            "BLOCK_ROWS": launch.rows,
            "BLOCK_CENTROIDS": launch.centroids,
            "HALF": self._half,
            "BIAS": self._bias,
            "PRECISION": "tf32x3" if self._capability >= 8 else "ieee",
            "num_warps": launch.warps,
            "num_stages": launch.stages,
        }
        grid = (triton.cdiv(n, launch.rows),)
        pair = (rows, self._leading, self._trailing)
        with launching_on(self.device):
            if self._short:
                nearest_short[grid](
                    *(*pair, self._centroids, self._half_norms, self._shift, labels, *common),
                    FIRST=self._first,
                    SECOND=self._second,
                    GROUP=self._group,
                    FOLDED=self._folded,
                    **constants,
                )
            else:
                nearest_long[grid](
                    *(*pair, self._half_norms, self._shift, labels, *common),
                    WIDTH=self._width,
                    STEP=STEP if self._half else STEP_FLOATS,
                    **constants,
                )
        if self._ties is not None:
            self._decide(rows, labels)

    def _decide(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        """In float64, where the kernel could not tell."""
        assert self._ties is not None  # else it always can
        stored = rows.view(torch.int16) if self._dtype == np.uint16 else rows
        for some, found in zip(stored.split(LOOKED_AT), labels.split(LOOKED_AT), strict=True):
            (left,) = (found < 0).nonzero(as_tuple=True)
            for part in left.split(DECIDED):
                wide = widened(some[part], self._dtype, torch.float32)
                found[part] = self._ties.decide(wide).to(found.dtype)

    def sums(self, k: int) -> FusedSums:
        return FusedSums(self.device, k, self._dim)

    def device_bytes(self, k: int) -> int:
        """Device memory that they take beside rows and labels, at most, for k centroids.

        Centroids in three forms, float64 copies on the way there, and two sets of sums; what
        decides in float64.
        """
        ties = Float64Ties.bytes(k, self._dim, DECIDED) + 16 * LOOKED_AT
        padded = k + 2 * LONG.centroids
        forms = sum(widths(self._dim, self._bytes)) * (12 + 3 * 8) + 2 * 8 * self._dim + 64
        return padded * forms + ties

    def host_bytes(self, k: int) -> int:
        return COMPILER_BYTES + 4 * 8 * k * (self._dim + 2)

    @property
    def _bias(self) -> int:
        return 128 if self._dtype.kind == "i" else 0

    def _shift_of(self, wide: np.ndarray) -> np.ndarray:
        """What rows are less of, to the bit: whole numbers among integer rows', so exactly."""
        shift = wide.mean(axis=0)
        if self._integers:
            limits = np.iinfo(self._dtype)
            shift = np.clip(np.rint(shift), limits.min, limits.max)
        return shift.astype(np.float32).astype(np.float64)

    def _configuration(self, k: int) -> tuple[Configuration, int]:
        """How to launch, and how many columns compete as one."""
        width = self._width
        if not self._short:
            floats = next(one for least, one in LONG_FLOATS.items() if self._capability >= least)
            return self._asked or (LONG if self._half else floats), 1
        # Settling which of a group it was costs as much as some columns for each member.
        group = self._asked_group or (8 if k >= 16 * width else 4 if k >= 4 * width else 1)
        if self._asked is not None:
            launch = self._asked
        elif not self._half:
            launch = FLOATS
        else:
            columns = min(limit for limit in CONFIGURATIONS if width <= limit)
            fitting = (c for c in CONFIGURATIONS[columns] if shared_bytes(c, width) <= self._shared)
            launch = next(fitting, CONFIGURATIONS[columns][-1])
            if group == 1:
                launch = launch._replace(centroids=UNGROUPED_CENTROIDS)
        return launch, min(group, launch.centroids // SIDE)

    def _fold(
        self, half_norms: torch.Tensor, leading: torch.Tensor, trailing: torch.Tensor, unit: float
    ) -> None:
        """Write half squared lengths into free columns, where all rows have the unit.

        In three parts of 11 bits; those that fill up the last tile are infinitely far away.
        """
        k, dim = len(half_norms), self._dim
        away = torch.isinf(half_norms)
        rest = torch.where(away, 0, half_norms) / unit
        for place, part in ((dim, leading), (dim + 1, leading), (dim, trailing)):
            part[:k, place] = -rest.half()
            rest = rest + part[:k, place].double()
        leading[:k, dim][away] = leading[k:, dim] = -math.inf
        self._shift[dim : dim + FOLDS] -= unit
        self._centroids[:k, dim : dim + FOLDS] = unit

    def _arranged(self, values: torch.Tensor) -> torch.Tensor:
        """In the order of the tiles' columns, in which members of a group are not side by side."""
        return arranged(values, self._launch.centroids, self._group)
