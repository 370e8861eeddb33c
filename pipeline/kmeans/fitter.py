"""From a plan to fitted dictionaries: seeding, executor, loop."""

from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.config import FitOptions
from pipeline.engines import AssignmentEngine, EngineSpec
from pipeline.execution.blocks import BlocksOnWorkers
from pipeline.execution.cluster import ClusterExecutor
from pipeline.execution.executor import Executor, LocalExecutor
from pipeline.execution.gather import ReadByWorkers
from pipeline.kmeans import seeding
from pipeline.kmeans.breathing import Breathing, rounds_of
from pipeline.kmeans.checkpoint import FitCheckpoint
from pipeline.kmeans.history import Fit
from pipeline.kmeans.lloyd import Lloyd
from pipeline.kmeans.loop import KMeansLoop, StoppingRules
from pipeline.kmeans.minibatch import MiniBatch
from pipeline.kmeans.nested import Nested, planned_rows
from pipeline.kmeans.plan import FitPlan
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import LargerBlocks, RowSource, StoreSource
from pipeline.rows.units import InUnit, unit_of
from pipeline.runtime.memory import give_back
from pipeline.runtime.progress import Progress

SEEDING = 0.05  # of the time of the passes, about
MENDING_STEPS = 10  # of Lloyd on all rows, where a larger dictionary came out worse


class Fitter:
    """Fits dictionaries of one source, one after the other; what is known of the rows is kept.

    Args:
        plan: of the fits.
        progress: told of passes and rows.
    """

    def __init__(self, plan: FitPlan, progress: Progress) -> None:
        self._plan, self._progress = plan, progress
        self._source, self._options = plan.source, plan.options
        self._unit = 1.0 if self.remote else unit_of(plan.source)
        if self._unit != 1:
            self._source = InUnit(plan.source, self._unit)
        self._source = self.spread(self._source)
        self._sample = np.empty((0, plan.source.dim), plan.source.dtype)
        self._scored: Executor | None = None

    def close(self) -> None:
        """Let go of what is kept of the rows."""
        self._close_scored()
        if "_executor" in self.__dict__:
            self._executor.close()

    def fit(
        self,
        k: int,
        init: np.ndarray | None = None,
        *,
        mse_limit: float = np.inf,
        warm: bool = False,
        checkpoint: FitCheckpoint | None = None,
    ) -> Fit:
        """Learn k centroids.

        init: up to k centroids to start from, (m, d); missing ones are added by k-means++.
        mse_limit: MSE of these on all rows, which the result must not exceed. warm: they come
        from a fit on all rows. checkpoint: where the fit's state is kept, and taken up.
        Raises: InputError for fewer than k distinct rows.
        """
        unit = self._unit
        start = init if init is None or unit == 1 else init * unit
        fit = self._fit(k, start, mse_limit * unit * unit, warm, checkpoint)
        return fit if unit == 1 else fit.scaled(1 / unit)

    def _fit(
        self,
        k: int,
        init: np.ndarray | None,
        mse_limit: float,
        warm: bool,
        checkpoint: FitCheckpoint | None,
    ) -> Fit:
        rng = generator(self._options, k)
        loop = self._loop(k, rng, checkpoint, warm=warm)
        fit = self._finished(loop, k, init, rng, self._planned_rows(k, warm=warm))
        if fit.mse > mse_limit:  # the line of the fit stays where it is until this is done
            # Lloyd never rises, and more centroids are never worse.
            rules = replace(self._rules, max_iter=min(MENDING_STEPS, self._options.passes))
            lloyd = Lloyd(self._executor, rules, rng, self._progress, checkpoint)
            lloyd.name, rows = "mending", (rules.max_iter + 1) * self._source.n_rows
            mended = self._finished(lloyd, k, init, generator(self._options, k), rows)
            mended.history.follow(fit.history)
            mended.updates, mended.stopped = mended.updates + fit.updates, fit.stopped
            fit = min(fit, mended, key=lambda one: one.mse)
        self._progress.finish()
        return fit

    def _finished(
        self,
        loop: KMeansLoop[Any],
        k: int,
        init: np.ndarray | None,
        rng: np.random.Generator,
        rows: int,
    ) -> Fit:
        """What comes of a loop, resumed or seeded by `rng`; rows: that it will see, about."""
        source, progress = self._source, self._progress
        if not loop.resume():
            how, engine = self._options.init, self._own_engine
            sample = self._sample_of(k) if self._rounds(k) else None
            seeds = seeding.seed_centroids(source, k, how, rng, init, progress, engine, sample)
            loop.start(seeds)
            give_back()
        progress.start(f"K={k}", rows, "rows")
        return loop.finish()

    def spread(self, source: RowSource) -> RowSource:
        """The source itself, or a store of which workers take rows and make results."""
        if self.remote and isinstance(source, StoreSource):
            return ReadByWorkers(source, self._plan.scheduler)
        return source

    def score(self, source: RowSource, centroids: np.ndarray) -> ClusterSums:
        """Sums of the rows of any source about centroids, (k, d).

        What reads the last source asked for stays; so do its rows on a device of this machine,
        where they leave room for others.
        """
        if self._unit != 1:
            with closing(LocalExecutor(InUnit(source, self._unit), self._local_engine)) as executor:
                sums, _ = executor.run_pass(centroids * self._unit, self._progress)
            return sums.scaled(1 / self._unit)
        if self._scored is None or self._scored.source is not source:
            self._close_scored()
            remember = self._plan.engine.caches_rows and not self.remote
            self._scored = self._executor_of(source, remember=remember)
        return self._scored.run_pass(centroids, self._progress)[0]

    def _close_scored(self) -> None:
        if self._scored is not None:
            self._scored.close()

    def _planned_rows(self, k: int, *, warm: bool) -> int:
        options, n = self._options, self._source.n_rows
        if options.mode != "nested":
            return (options.passes + 1) * n
        return planned_rows(n, k, self._rounds(k), options.passes, warm=warm)

    def steps(self, k: int, *, warm: bool) -> dict[str, float]:
        """Steps of a fit with their shares, in rows, for its line."""
        rows = self._planned_rows(k, warm=warm)
        return {f"K={k} seeding": SEEDING * rows, f"K={k}": float(rows)}

    @property
    def _rules(self) -> StoppingRules:
        return StoppingRules.of(self._options)

    def _loop(
        self, k: int, rng: np.random.Generator, checkpoint: FitCheckpoint | None, *, warm: bool
    ) -> KMeansLoop[Any]:
        options, common = self._options, (self._rules, rng, self._progress, checkpoint)
        if options.mode == "full":
            return Lloyd(self._executor, *common)
        if options.mode == "minibatch":
            here = self._local_executor(self._source, remember=False)
            return MiniBatch(here, *common, batch_size=options.batch_size)
        rounds = self._rounds(k)
        breathing = Breathing(self._sample_of(k), self._own_engine) if rounds else None
        return Nested(self._executor, *common, k=k, breathing=breathing, rounds=rounds, warm=warm)

    def _rounds(self, k: int) -> int:
        """How often centroids are moved."""
        options = self._options
        return rounds_of(k, options.breathing) if options.mode == "nested" else 0

    def _sample_of(self, k: int) -> np.ndarray:
        """The rows by which k centroids are drawn and moved."""
        of = self._source
        rows = min(seeding.sample_rows(k, of.dim, of.dtype.itemsize), of.n_rows)
        if len(self._sample) != rows:
            # Of its own generator, so that no other K has a part in it.
            rng = np.random.default_rng([self._options.seed, rows])
            self._sample = seeding.draw_sample(self._source, rows, rng)
        return self._sample

    @property
    def remote(self) -> bool:
        """Whether whole passes run on the workers of a cluster."""
        return self._plan.remote

    @cached_property
    def _own_engine(self) -> AssignmentEngine:
        """The one that labels samples: that of the passes where it can be, with its threads."""
        samples = EngineSpec.for_samples(self._source.dim, self._source.dtype)
        here = not self.remote and self._plan.engine == samples
        return self._local_engine if here else samples.make()

    @cached_property
    def _local_engine(self) -> AssignmentEngine:
        """Of all passes in this process, which share what it may take of a device."""
        plan = self._plan
        return plan.engine.make(largest=plan.most, device_memory=plan.device_share)

    @cached_property
    def _executor(self) -> Executor:
        """Of the passes over the source, which remembers its rows."""
        return self._executor_of(self._source, remember=True)

    def _executor_of(self, source: RowSource, *, remember: bool) -> Executor:
        plan = self._plan
        if plan.remote and isinstance(source, (StoreSource, BlocksOnWorkers)):
            return ClusterExecutor(
                source,
                plan.scheduler,
                plan.engine,
                remember=remember,
                largest=plan.most,
                device_memory=plan.device_share,
                at_once=plan.blocks,
            )
        return self._local_executor(source, remember=remember)

    def _local_executor(self, source: RowSource, *, remember: bool) -> LocalExecutor:
        engine, plan = self._local_engine, self._plan
        if not remember:
            return LocalExecutor(source, engine)
        source = LargerBlocks(source, plan.blocks) if plan.blocks > 1 else source
        return LocalExecutor(source, engine, engine.cache_for(source, plan.scratch))


def generator(options: FitOptions, k: int) -> np.random.Generator:
    """The one generator of a (K, mode, seed) run."""
    mode = ("full", "minibatch", "nested").index(options.mode)
    return np.random.default_rng([options.seed, mode, k])
