"""From a source and options to a fitted dictionary: seeding, engine, loop."""

from dataclasses import dataclass

import numpy as np
import torch

from pipeline import dense_engine, seeding
from pipeline.config import FitOptions
from pipeline.devices import one_torch_thread
from pipeline.lloyd import fit_full
from pipeline.memory import check_budget
from pipeline.minibatch import fit_minibatch
from pipeline.passes import AssignmentEngine, Fit
from pipeline.progress import Progress
from pipeline.streaming import READ_AHEAD, Source

ENGINES = ("auto", "torch")


def make_engine(name: str, device: torch.device, dim: int, dtype: np.dtype) -> AssignmentEngine:
    """The engine of this name; "auto" takes the one meant for the device."""
    assert name in ENGINES, name  # validated at the public edge
    return dense_engine.DenseEngine(device, dim, dtype)


def projected_bytes(source: Source, k: int) -> int:
    """What fitting K centroids allocates at most, in bytes; the number of rows is not in it."""
    itemsize = source.dtype.itemsize
    blocks = (READ_AHEAD + 3) * source.block_rows * source.dim * itemsize
    loop = dense_engine.projected_bytes(k, source.dim) + 8 * 8 * k * source.dim
    return blocks + max(loop, seeding.projected_bytes(k, source.dim, itemsize))


@dataclass(frozen=True)
class Fitter:
    """Fits dictionaries of one source on one device.

    memory: cap in bytes on the process's resident size, or None.
    """

    source: Source
    options: FitOptions
    device: torch.device
    engine: str
    progress: Progress
    memory: int | None = None

    def fit(self, k: int, init: np.ndarray | None = None) -> Fit:
        """Learn k centroids, starting from `init` where given, up to k centroids, (m, d).

        Raises: InputError for fewer than k distinct rows; MemoryBudgetError.
        """
        options, source = self.options, self.source
        if self.memory is not None:
            check_budget(f"fitting K = {k}", projected_bytes(source, k), self.memory)
        rng = generator(options, k)
        with one_torch_thread():
            init = seeding.seed_centroids(source, k, options.init, rng, self.device, init)
        engine = make_engine(self.engine, self.device, source.dim, source.dtype)
        self.progress.start(f"K={k}", (options.passes + 1) * source.n_rows, "rows")
        try:
            if options.mode == "minibatch":
                return fit_minibatch(
                    source,
                    engine,
                    init,
                    max_iter=options.passes,
                    tol=options.tol,
                    empty=options.empty,
                    batch_size=options.batch_size,
                    rng=rng,
                    progress=self.progress,
                )
            return fit_full(
                source,
                engine,
                init,
                max_iter=options.passes,
                tol=options.tol,
                empty=options.empty,
                rng=rng,
                progress=self.progress,
            )
        finally:
            self.progress.finish()


def generator(options: FitOptions, k: int) -> np.random.Generator:
    """The one generator of a (K, mode, seed) run."""
    mode = ("full", "minibatch").index(options.mode)
    return np.random.default_rng([options.seed, mode, k])
