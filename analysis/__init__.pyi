from .curves import elbow, mse_curve
from .galleries import Gallery, gallery
from .kinds import centroid_kinds
from .reconstruction import reconstruct
from .reporting import report
from .use import Usage, usage

__all__ = [
    "Gallery",
    "Usage",
    "centroid_kinds",
    "elbow",
    "gallery",
    "mse_curve",
    "reconstruct",
    "report",
    "usage",
]
