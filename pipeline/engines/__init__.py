"""The assignment engines."""

from pipeline.engines.choosing import ENGINES, AssignmentEngine, blocks_at_once, make_engine
from pipeline.engines.choosing import projected_bytes as projected_engine_bytes

__all__ = ["ENGINES", "AssignmentEngine", "blocks_at_once", "make_engine", "projected_engine_bytes"]
