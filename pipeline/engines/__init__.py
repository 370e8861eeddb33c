"""The assignment engines.

Names load their module when they are first used: what computes on a GPU can be imported where what
the other engines need is not installed.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engines.kernel_cache import drop_stale

if TYPE_CHECKING:
    from pipeline.engines.choosing import (
        ENGINES,
        AssignmentEngine,
        blocks_at_once,
        engine_name,
        make_engine,
    )
    from pipeline.engines.choosing import projected_bytes as projected_engine_bytes

drop_stale(Path(__file__).parent)  # before numba reads any of them

__all__ = [
    "ENGINES",
    "AssignmentEngine",
    "blocks_at_once",
    "engine_name",
    "make_engine",
    "projected_engine_bytes",
]
_RENAMED = {"projected_engine_bytes": "projected_bytes"}

if not TYPE_CHECKING:  # to which an unknown name is an error

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from pipeline.engines import choosing  # only now, see above

        return getattr(choosing, _RENAMED.get(name, name))
