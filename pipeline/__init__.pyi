from .assignment import NearestCentroids, RowBlocks, assign
from .config import MemoryOptions, PatchOptions, SweepOptions
from .cutting import cut_patches, keep_mask
from .estimator import StreamingKMeans
from .extraction import extract
from .memory import check_budget, fits
from .progress import Progress, SilentProgress, TerminalProgress
from .sweeping import sweep

__all__ = [
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
