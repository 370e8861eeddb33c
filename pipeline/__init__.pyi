from .config import USUAL_MEMORY, MemoryOptions, PatchOptions, SweepOptions
from .engines.nearest import NearestCentroids, RowBlocks, assign
from .estimator import StreamingKMeans
from .extraction.extract import extract
from .extraction.patches import cut_patches, keep_mask
from .k_sweep import sweep
from .runtime.memory import check_budget, fits
from .runtime.progress import Progress, SilentProgress, TerminalProgress

__all__ = [
    "USUAL_MEMORY",
    "MemoryOptions",
    "NearestCentroids",
    "PatchOptions",
    "Progress",
    "RowBlocks",
    "SilentProgress",
    "StreamingKMeans",
    "SweepOptions",
    "TerminalProgress",
    "assign",
    "check_budget",
    "cut_patches",
    "extract",
    "fits",
    "keep_mask",
    "sweep",
]
