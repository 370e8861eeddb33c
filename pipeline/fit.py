"""From a source and options to a fitted dictionary: seeding, executor, loop."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline import seeding
from pipeline.config import FitOptions
from pipeline.devices import one_torch_thread
from pipeline.engines import blocks_at_once, make_engine, projected_engine_bytes
from pipeline.executors import ClusterExecutor, Executor, LocalExecutor
from pipeline.lloyd import fit_full
from pipeline.memory import check_budget
from pipeline.minibatch import fit_minibatch
from pipeline.passes import Fit
from pipeline.progress import Progress
from pipeline.scheduling import WORKER_BYTES, Scheduler
from pipeline.streaming import READ_AHEAD, GatheredSource, Source, StoreSource
from pipeline.sums import ClusterSums


def projected_bytes(source: Source, k: int, engine: str, device: torch.device) -> int:
    """What fitting K centroids allocates at most, in bytes; the number of rows is not in it."""
    itemsize = source.dtype.itemsize
    block_rows = min(source.block_rows * blocks_at_once(engine, device, k, source), source.n_rows)
    blocks = (READ_AHEAD + 3) * block_rows * source.dim * itemsize
    loop = projected_engine_bytes(engine, device, k, source.dim, block_rows)
    loop += 8 * 8 * k * source.dim
    return blocks + max(loop, seeding.projected_bytes(k, source.dim, itemsize))


def check_fit(
    source: Source,
    k: int,
    engine: str,
    device: torch.device,
    scheduler: Scheduler,
    cap: int | None,
) -> None:
    """Raises MemoryBudgetError where fitting K centroids would pass the cap; None: no cap."""
    if cap is not None:
        needed = projected_bytes(source, k, engine, device)
        workers = scheduler.local_workers * (WORKER_BYTES + needed)
        check_budget(f"fitting K = {k}", needed + workers, cap)


@dataclass(frozen=True)
class Fitter:
    """Fits dictionaries of one source.

    scheduler: where whole passes run, for a patch store; seeding and mini-batches run here.
    scratch: folder for what is kept of the rows between passes; None: the system's.
    """

    source: Source
    options: FitOptions
    device: torch.device
    engine: str
    progress: Progress
    scheduler: Scheduler
    scratch: Path | None = None

    def fit(self, k: int, init: np.ndarray | None = None) -> Fit:
        """Learn k centroids, starting from `init` where given, up to k centroids, (m, d).

        Raises: InputError for fewer than k distinct rows.
        """
        options, source = self.options, self.source
        rng = generator(options, k)
        with one_torch_thread():
            init = seeding.seed_centroids(
                source, k, options.init, rng, self.device, init, self.progress
            )
        self.progress.start(f"K={k}", (options.passes + 1) * source.n_rows, "rows")
        try:
            if options.mode == "minibatch":
                with closing(self._local_executor(source, k, passes=1)) as here:
                    return fit_minibatch(
                        here,
                        init,
                        max_iter=options.passes,
                        tol=options.tol,
                        empty=options.empty,
                        batch_size=options.batch_size,
                        rng=rng,
                        progress=self.progress,
                    )
            with closing(self._executor(source, k, passes=options.passes + 1)) as executor:
                return fit_full(
                    executor,
                    init,
                    max_iter=options.passes,
                    tol=options.tol,
                    empty=options.empty,
                    rng=rng,
                    progress=self.progress,
                )
        finally:
            self.progress.finish()

    def score(self, source: Source, centroids: np.ndarray) -> ClusterSums:
        """Sums of the rows of any source about centroids, (k, d)."""
        with closing(self._executor(source, len(centroids), passes=1)) as executor:
            return executor.run_pass(centroids, self.progress)[0]

    def _executor(self, source: Source, k: int, *, passes: int) -> Executor:
        """What runs so many passes over a source."""
        if self.scheduler.remote and isinstance(source, StoreSource):
            remember = passes > 1
            return ClusterExecutor(
                source, self.scheduler, self.engine, str(self.device), remember=remember
            )
        return self._local_executor(source, k, passes=passes)

    def _local_executor(self, source: Source, k: int, *, passes: int) -> LocalExecutor:
        engine = make_engine(self.engine, self.device, source.dim, source.dtype)
        if passes == 1:
            return LocalExecutor(source, engine)
        blocks = blocks_at_once(self.engine, self.device, k, source)
        source = GatheredSource(source, blocks) if blocks > 1 else source
        memory = engine.remember(source, self.scratch)
        return LocalExecutor(source, engine, memory)


def generator(options: FitOptions, k: int) -> np.random.Generator:
    """The one generator of a (K, mode, seed) run."""
    mode = ("full", "minibatch").index(options.mode)
    return np.random.default_rng([options.seed, mode, k])
