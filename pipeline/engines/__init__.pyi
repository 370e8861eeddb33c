from .engine import (
    ENGINES,
    AssignmentEngine,
    Choice,
    PassMemory,
    blocks_at_once,
    blocks_in_memory,
    choose,
    engine_name,
    engine_plan,
    make_engine,
    projected_engine_bytes,
)

__all__ = [
    "ENGINES",
    "AssignmentEngine",
    "Choice",
    "PassMemory",
    "blocks_at_once",
    "blocks_in_memory",
    "choose",
    "engine_name",
    "engine_plan",
    "make_engine",
    "projected_engine_bytes",
]
