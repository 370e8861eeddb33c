from .choosing import (
    ENGINES,
    AssignmentEngine,
    Choice,
    PassMemory,
    blocks_at_once,
    blocks_in_memory,
    choose,
    device_plan,
    engine_name,
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
    "device_plan",
    "engine_name",
    "make_engine",
    "projected_engine_bytes",
]
