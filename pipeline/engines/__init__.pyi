from .engine import ENGINES, AssignmentCache, AssignmentEngine, EngineSpec

__all__ = ["ENGINES", "AssignmentCache", "AssignmentEngine", "EngineSpec"]
