from .curves import decibels_per_bit, dimensions_of_slope, mse_curve
from .elbows import ElbowInterval, elbow, elbow_interval, two_lines
from .galleries import Gallery, gallery
from .kinds import centroid_kinds
from .reconstruction import reconstruct
from .reporting import report
from .use import usage

__all__ = [
    "ElbowInterval",
    "Gallery",
    "centroid_kinds",
    "decibels_per_bit",
    "dimensions_of_slope",
    "elbow",
    "elbow_interval",
    "gallery",
    "mse_curve",
    "reconstruct",
    "report",
    "two_lines",
    "usage",
]
