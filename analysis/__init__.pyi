from .covering import coverage
from .curves import elbow, mse_curve
from .galleries import Gallery, gallery
from .reconstruction import reconstruct
from .reporting import report
from .scoring import by_class, reconstruction_scores
from .use import Usage, usage

__all__ = [
    "Gallery",
    "Usage",
    "by_class",
    "coverage",
    "elbow",
    "gallery",
    "mse_curve",
    "reconstruct",
    "reconstruction_scores",
    "report",
    "usage",
]
