from .curves import elbow, mse_curve
from .galleries import Gallery, gallery
from .reconstruction import reconstruct
from .reporting import report
from .use import Usage, usage

__all__ = [
    "Gallery",
    "Usage",
    "elbow",
    "gallery",
    "mse_curve",
    "reconstruct",
    "report",
    "usage",
]
