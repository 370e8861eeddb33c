from .config import USUAL_MEMORY, MemoryOptions, PatchOptions, SweepOptions
from .engines.cpu.activations import Activations
from .engines.nearest import NearestCentroids, assign
from .estimator import StreamingKMeans
from .estimator_files import sklearn_kmeans
from .execution.scheduler import Scheduler
from .experiment_file import read_experiment_file
from .extraction.extract import extract
from .extraction.patches import cut_patches, keep_mask
from .k_sweep import sweep
from .option_values import named_today
from .preprocessing import Preprocessing
from .rows.residuals import residuals
from .rows.source import RowSource, as_source, read_ahead
from .runtime.memory import check_budget, fits
from .runtime.progress import Progress, SilentProgress, TerminalProgress
from .stages.learning import learn_stages
from .upkeep.sweep_result import SweepResult

__all__ = [
    "USUAL_MEMORY",
    "Activations",
    "MemoryOptions",
    "NearestCentroids",
    "PatchOptions",
    "Preprocessing",
    "Progress",
    "RowSource",
    "Scheduler",
    "SilentProgress",
    "StreamingKMeans",
    "SweepOptions",
    "SweepResult",
    "TerminalProgress",
    "as_source",
    "assign",
    "check_budget",
    "cut_patches",
    "extract",
    "fits",
    "keep_mask",
    "learn_stages",
    "named_today",
    "read_ahead",
    "read_experiment_file",
    "residuals",
    "sklearn_kmeans",
    "sweep",
]
