"""Kernels that a fit lacks are compiled in other processes, which take the compiler's memory along.

LLVM keeps up to 75 MiB for each kernel that it compiled until its process ends; of one that it
reads from disk, hardly anything.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from pipeline.config import FitOptions
from pipeline.runtime.kernel_cache import end_before, kernel_folder
from pipeline.runtime.memory import give_back, resident
from pipeline.runtime.progress import Progress, SilentProgress

START_BYTES = 272 << 20  # of a process that compiles: its imports and the largest kernel
GO_ON = 75  # its exit status where the memory is used up and kernels are missing
K, ROWS_OF_CENTROID, DIM = 300, 100, 25  # of a fit that calls all kernels


def compile_apart(options: FitOptions, dtype: np.dtype, memory: int, progress: Progress) -> None:
    """Have the kernels of fits on disk before this process loads a compiler.

    What cannot be compiled there, or kept, is compiled where it is called. That process takes what
    the cap leaves beside this one; where it is not enough for all kernels, others follow it.

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
    room = memory - resident()
    if done.exists() or room < START_BYTES:
        return
    root = Path(__file__).parents[__name__.count(".")]
    call = f"import sys; sys.path.insert(0, {str(root)!r}); from {__name__} import call_kernels"
    asked = (options.mode, options.init, dtype.name, room)
    command = [sys.executable, "-c", f"{call}; call_kernels{asked!r}"]
    progress.note("compiling kernels that are missing, which only a first run does")
    progress.start("compiling kernels", 0, "")
    status, before, kept = GO_ON, -1, 0
    while status == GO_ON and kept > before:  # else none can be kept, as on a full disk
        status = subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode
        before, kept = kept, len([*folder.rglob("*.nbc")])
    progress.finish()
    if status == 0:
        done.touch()


def call_kernels(mode: str, init: str, dtype: str, room: int) -> None:
    """Call the kernels of fits once, on random rows; in a process of its own.

    room: bytes that this process may take; it ends with the status GO_ON where more are needed.
    """
    from pipeline.engines import EngineSpec
    from pipeline.execution.scheduler import Scheduler
    from pipeline.kmeans.fitter import Fitter
    from pipeline.kmeans.plan import FitPlan
    from pipeline.kmeans.seeding import kmeans_plus_plus
    from pipeline.rows.source import ArraySource

    end_before(room, GO_ON)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 128, (K * ROWS_OF_CENTROID, DIM)).astype(dtype)
    options = FitOptions.checked(mode=mode, init=init, max_iter=12, breathing=1)
    source = ArraySource(rows)
    plan = FitPlan.make(
        source, [K], options, EngineSpec.for_samples(DIM, source.dtype), Scheduler()
    )
    if init != "random" or plan.most > K:
        kmeans_plus_plus(rows[: 2 * K], K, rng)
    Fitter(plan, SilentProgress()).fit(K)
