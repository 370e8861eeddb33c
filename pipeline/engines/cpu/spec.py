"""What is known of the pruned engine before it computes; loads nothing that does."""

from pipeline.engines.engine import AssignmentEngine, EngineSpec
from pipeline.rows.source import RowSource
from pipeline.runtime.kernel_cache import code_bytes


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
        from pipeline.engines.cpu import engine

        return engine.projected_bytes(k, self.dim, block_rows)

    def scratch_bytes(self, n_rows: int, k: int) -> int:
        from pipeline.engines.cpu.assignment_cache import scratch_bytes

        return scratch_bytes(n_rows, k)

    def code_bytes(self) -> int:
        from pipeline.engines.cpu.engine import PRUNED_KERNELS

        return code_bytes(PRUNED_KERNELS)

    def blocks_at_once(self, k: int, source: RowSource) -> int:
        from pipeline.engines.cpu import engine

        return engine.blocks_at_once(k, source)
