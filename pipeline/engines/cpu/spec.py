"""What is known of the pruned engine before it computes; loads nothing that does."""

from pipeline.engines.engine import AssignmentEngine, EngineSpec
from pipeline.rows.source import RowSource
from pipeline.runtime.devices import thread_count
from pipeline.runtime.kernel_cache import code_bytes

BLOCK_BYTES = 24 << 20  # of rows that are labelled together, at most
BLOCK_OF_CLUSTER = 1024  # rows for each centroid among them, where they fit


class PrunedSpec(EngineSpec):
    """The exact engine for CPUs; see `pipeline.engines.cpu.engine`."""

    @property
    def exactness(self) -> str:
        return "float64"

    def problem(self) -> str:
        if self.device.type == "cpu":
            return ""
        return f"it runs on the cpu, not on {self.device}"

    def make(self, *, largest: int = 1, device_memory: int | None = None) -> AssignmentEngine:
        from pipeline.engines.cpu.engine import PrunedEngine  # numba takes a second to load

        return PrunedEngine(self.dim, self.dtype)

    def host_bytes(self, k: int, block_rows: int) -> int:
        from pipeline.engines.cpu.bounds import RINGS
        from pipeline.engines.cpu.neighbour_lists import LIST_ENTRIES
        from pipeline.engines.cpu.scan.heads import LEAST_DIM, SIZES
        from pipeline.engines.cpu.threads import PIECES
        from pipeline.engines.ordered_sums import piece_rows

        dim = self.dim
        lists = min(LIST_ENTRIES + 4 * k, k * (k + 3)) * 8
        tables = 8 * k * (8 * dim + 2 * len(RINGS))
        heads = (SIZES[-1] + 1) * 8 * k if dim >= LEAST_DIM else 0
        per_row = 64  # labels, bounds and place
        # sums, counters, and a piece of float rows
        per_thread = 8 * k * (dim + 2 + PIECES) + 2 * 8 * dim * piece_rows(dim) + 64 * k
        per_thread += 64 * (k + dim) if heads else 0  # a tile by heads
        return lists + tables + heads + per_row * block_rows + thread_count() * per_thread

    def scratch_bytes(self, n_rows: int, k: int) -> int:
        from pipeline.engines.cpu.assignment_cache import scratch_bytes

        return scratch_bytes(n_rows, k)

    def code_bytes(self) -> int:
        from pipeline.engines.cpu.engine import PRUNED_KERNELS

        return code_bytes(PRUNED_KERNELS)

    def blocks_at_once(self, k: int, source: RowSource) -> int:
        """So many that clusters have rows to share, for those of late passes are few."""
        from pipeline.engines.ordered_sums import piece_rows

        # Float rows are summed in pieces, which must not be cut anew.
        if source.dtype.kind == "f" and source.block_rows % piece_rows(source.dim):
            return 1
        room = BLOCK_BYTES // (source.block_rows * source.dim * source.dtype.itemsize)
        wanted = min(BLOCK_OF_CLUSTER * k, source.n_rows)
        return max(1, min(room, -(-wanted // source.block_rows)))
