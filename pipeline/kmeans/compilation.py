"""Kernels that a fit lacks are compiled in other processes, which take the compiler's memory along.

LLVM keeps some 10 MiB for each kernel that it compiled until its process ends; of one that it
reads from disk, hardly anything.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from pipeline.config import FitOptions
from pipeline.runtime.kernel_cache import kernel_folder
from pipeline.runtime.memory import give_back, in_words, resident
from pipeline.runtime.progress import Progress, SilentProgress

COMPILING_BYTES = 320 << 20  # of a process that compiles one part, as measured: 310 MiB
# One after the other, as each takes so much; with their shares of the time.
PARTS = {"seeding": 0.4, "passes": 0.6}
K, ROWS_OF_CENTROID, DIM = 300, 100, 25  # of a fit that calls all kernels


def compile_apart(options: FitOptions, dtype: np.dtype, memory: int, progress: Progress) -> None:
    """Have the kernels of fits on disk before this process loads a compiler.

    What cannot be compiled there, or kept, is compiled where it is called. Where the cap has no
    room for that process beside this one, too.

    Args:
        options: of the fits.
        dtype: of the rows.
        memory: cap on the process tree, bytes.
        progress: told of it.
    """
    folder = kernel_folder()
    if folder is None:
        return
    done = folder / f"compiled-{options.mode}-{options.init}-{dtype.name}"
    give_back()
    if done.exists() or resident() + COMPILING_BYTES > memory:
        return
    root = Path(__file__).parents[__name__.count(".")]
    call = f"import sys; sys.path.insert(0, {str(root)!r}); from {__name__} import call_kernels"
    most = in_words(resident() + COMPILING_BYTES)
    progress.note(
        f"compiling kernels that are missing, which only a first run does: {most} at most"
    )
    progress.stage({_label(part): share for part, share in PARTS.items()})
    for part in PARTS:
        progress.start(_label(part), 0, "")
        asked = (part, options.mode, options.init, dtype.name)
        command = [sys.executable, "-c", f"{call}; call_kernels{asked!r}"]
        if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode:
            return
        progress.finish()
    done.touch()


def _label(part: str) -> str:
    return f"compiling kernels of {part}"


def call_kernels(part: str, mode: str, init: str, dtype: str) -> None:
    """Call the kernels of fits once, on random rows; in a process of its own."""
    from pipeline.engines import EngineSpec
    from pipeline.execution.scheduler import Scheduler
    from pipeline.kmeans.fitter import Fitter
    from pipeline.kmeans.plan import FitPlan
    from pipeline.kmeans.seeding import kmeans_plus_plus
    from pipeline.rows.source import ArraySource

    rng = np.random.default_rng(0)
    rows = rng.integers(0, 128, (K * ROWS_OF_CENTROID, DIM)).astype(dtype)
    options = FitOptions.checked(mode=mode, init=init, max_iter=12, breathing=1)
    source = ArraySource(rows)
    plan = FitPlan.make(
        source, [K], options, EngineSpec.for_samples(DIM, source.dtype), Scheduler()
    )
    if part == "passes":
        Fitter(plan, SilentProgress()).fit(K)
    elif init != "random" or plan.most > K:
        kmeans_plus_plus(rows[: 2 * K], K, rng)
