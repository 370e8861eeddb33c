from .assignment import assign
from .config import PatchOptions, SweepOptions
from .cutting import cut_patches, keep_mask
from .estimator import StreamingKMeans
from .extraction import extract
from .sweeping import sweep

__all__ = [
    "PatchOptions",
    "StreamingKMeans",
    "SweepOptions",
    "assign",
    "cut_patches",
    "extract",
    "keep_mask",
    "sweep",
]
