"""What is known of the pruned engine before it computes; loads nothing that does."""

from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.engines.engine import AssignmentEngine, EngineSpec
from pipeline.rows.source import RowSource
from pipeline.runtime.devices import thread_count

BLOCK_BYTES = 24 << 20  # of rows that are labelled together, at most
LEAST_LISTS = 8  # of the usual lists, 1 / 8 at least
BLOCK_OF_CLUSTER = 1024  # rows for each centroid among them, where they fit


@dataclass(frozen=True)
class PrunedSpec(EngineSpec):
    """The exact engine for CPUs; see `pipeline.engines.cpu.engine`.

    lists: this share of the usual lists of neighbours is kept, 1 / lists.
    """

    lists: int = field(default=1, compare=False)  # the speed is another, no result

    @property
    def exactness(self) -> str:
        return "float64"

    def problem(self) -> str:
        if self.device.type == "cpu":
            return ""
        return f"it runs on the cpu, not on {self.device}"

    def make(self, *, largest: int = 1, device_memory: int | None = None) -> AssignmentEngine:
        from pipeline.engines.cpu.engine import PrunedEngine  # numba takes a second to load

        return PrunedEngine(self.dim, self.dtype, self._list_entries())

    def host_bytes(self, k: int, block_rows: int, threads: int | None = None) -> int:
        from pipeline.engines.cpu.bounds import RINGS
        from pipeline.engines.cpu.scan.heads import LEAST_DIM, SIZES
        from pipeline.engines.cpu.threads import PIECES
        from pipeline.engines.ordered_sums import piece_rows

        dim = self.dim
        lists = min(self._list_entries() + 4 * k, k * (k + 3)) * 8
        tables = 8 * k * (8 * dim + 2 * len(RINGS))
        heads = (SIZES[-1] + 1) * 8 * k if dim >= LEAST_DIM else 0
        per_row = 64  # labels, bounds and place
        # sums, counters, and a piece of float rows
        per_thread = 8 * k * (dim + 2 + PIECES) + 2 * 8 * dim * piece_rows(dim) + 64 * k
        per_thread += 64 * (k + dim) if heads else 0  # a tile by heads
        threads = thread_count() if threads is None else threads
        return lists + tables + heads + per_row * block_rows + threads * per_thread

    def with_less(self) -> "EngineSpec | None":
        return replace(self, lists=2 * self.lists) if self.lists < LEAST_LISTS else None

    def _list_entries(self) -> int:
        from pipeline.engines.cpu.neighbour_lists import LIST_ENTRIES

        return LIST_ENTRIES // self.lists

    def scratch_bytes(self, n_rows: int, k: int) -> int:
        from pipeline.engines.cpu.assignment_cache import scratch_bytes

        return scratch_bytes(n_rows, k)

    def kept_sums_bytes(self, k: int, parts: int) -> int:
        from pipeline.engines.cpu.assignment_cache import kept_sums_bytes

        return kept_sums_bytes(k, self.dim, parts) if self.dtype.itemsize == 1 else 0

    def numba_kernels(self) -> tuple[Any, ...]:
        from pipeline.engines.cpu.engine import PRUNED_KERNELS

        return PRUNED_KERNELS

    def blocks_at_once(self, k: int, source: RowSource) -> int:
        """So many that clusters have rows to share, for those of late passes are few."""
        from pipeline.engines.ordered_sums import piece_rows

        # Float rows are summed in pieces, which must not be cut anew.
        if source.dtype.kind == "f" and source.block_rows % piece_rows(source.dim):
            return 1
        room = BLOCK_BYTES // (source.block_rows * source.dim * source.dtype.itemsize)
        wanted = min(BLOCK_OF_CLUSTER * k, source.n_rows)
        return max(1, min(room, -(-wanted // source.block_rows)))
