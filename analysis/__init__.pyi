from .covering import coverage
from .curves import decibels_per_bit, dimensions_of_slope, mse_curve
from .elbows import ElbowInterval, elbow, elbow_interval, two_lines
from .galleries import Gallery, gallery
from .kinds import centroid_kinds
from .reconstruction import reconstruct
from .reporting import report
from .scoring import by_class, reconstruction_scores
from .use import usage

__all__ = [
    "ElbowInterval",
    "Gallery",
    "by_class",
    "centroid_kinds",
    "coverage",
    "decibels_per_bit",
    "dimensions_of_slope",
    "elbow",
    "elbow_interval",
    "gallery",
    "mse_curve",
    "reconstruct",
    "reconstruction_scores",
    "report",
    "two_lines",
    "usage",
]
