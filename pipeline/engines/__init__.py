"""The assignment engines."""

from pathlib import Path

from pipeline.engines.kernel_cache import drop_stale

drop_stale(Path(__file__).parent)  # before numba reads any of them

from pipeline.engines.choosing import (  # noqa: E402
    ENGINES,
    AssignmentEngine,
    blocks_at_once,
    engine_name,
    make_engine,
)
from pipeline.engines.choosing import projected_bytes as projected_engine_bytes  # noqa: E402

__all__ = [
    "ENGINES",
    "AssignmentEngine",
    "blocks_at_once",
    "engine_name",
    "make_engine",
    "projected_engine_bytes",
]
