from .classification.classify import classify
from .comparison import compare
from .encoding.decode import decode
from .encoding.distance_map import distance_map
from .encoding.encode import encode, features
from .encoding.stages import open_stages
from .experiment import Experiment, open_experiment
from .export.export_dictionary import export_dictionary
from .export.torch_dictionary import TorchDictionary
from .html_report.build import report
from .measures.coverage import coverage
from .measures.elbow import ElbowInterval, elbow, elbow_interval, two_lines
from .measures.gallery import Gallery, gallery
from .measures.kinds import centroid_kinds
from .measures.mse_curve import decibels_per_bit, dimensions_of_slope, mse_curve
from .measures.usage import usage
from .reconstruction.reconstruct import reconstruct
from .reconstruction.scores import by_class, reconstruction_scores

__all__ = [
    "ElbowInterval",
    "Experiment",
    "Gallery",
    "TorchDictionary",
    "by_class",
    "centroid_kinds",
    "classify",
    "compare",
    "coverage",
    "decibels_per_bit",
    "decode",
    "dimensions_of_slope",
    "distance_map",
    "elbow",
    "elbow_interval",
    "encode",
    "export_dictionary",
    "features",
    "gallery",
    "mse_curve",
    "open_experiment",
    "open_stages",
    "reconstruct",
    "reconstruction_scores",
    "report",
    "two_lines",
    "usage",
]
