"""From a source and options to fitted dictionaries: seeding, executor, loop."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import pipeline.runtime.memory
from pipeline.config import FitOptions
from pipeline.engines import AssignmentEngine, EngineSpec
from pipeline.execution.executor import ClusterExecutor, Executor, LocalExecutor
from pipeline.execution.scheduler import WORKER_BYTES, Scheduler
from pipeline.kmeans import seeding
from pipeline.kmeans.breathing import Breathing
from pipeline.kmeans.checkpoint import FitCheckpoint
from pipeline.kmeans.d2_sampling import SPREADING_KERNELS
from pipeline.kmeans.history import Fit
from pipeline.kmeans.lloyd import Lloyd
from pipeline.kmeans.loop import KMeansLoop, StoppingRules
from pipeline.kmeans.minibatch import MiniBatch
from pipeline.kmeans.nested import Nested, added, planned_rows, rounds_of
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import GatheredSource, Source, StoreSource
from pipeline.runtime.devices import Device, device_budget
from pipeline.runtime.kernel_cache import code_bytes
from pipeline.runtime.memory import check_budget, device_refusal, fits, in_words
from pipeline.runtime.progress import Progress

MOVE_SAMPLE_ROWS, MOVE_SAMPLE_PER_CENTROID = 1 << 17, 16
GAPS = 4  # one byte for so many is lost between blocks of the heap
MENDING_STEPS = 10  # of Lloyd on all rows, where a larger dictionary came out worse


def most_centroids(k: int, options: FitOptions) -> int:
    """Centroids at a time, at most, while k are learned."""
    on_trial = options.mode == "nested" and rounds_of(k, options.breathing)
    return k + added(k) if on_trial else k


def projected_bytes(
    source: Source,
    k: int,
    engine: EngineSpec,
    options: FitOptions,
    blocks: int | None = None,
) -> int:
    """What fitting K centroids allocates at most, in bytes; the number of rows is not in it.

    blocks: of the source that are taken at once; None: as many as the engine works best with.
    What seeding leaves is too scattered for the passes, so both count.
    """
    itemsize, dim = source.dtype.itemsize, source.dim
    most, rows = most_centroids(k, options), min(seeding.sample_rows(k), source.n_rows)
    sampling = seeding.projected_bytes(k, dim, itemsize, rows, options.init)
    if most > k:
        rows = min(_move_sample_rows(k), source.n_rows)
        moving = seeding.projected_bytes(most, dim, itemsize, rows, "k-means++")
        sampling = max(sampling, moving)
    samples = EngineSpec.for_samples(dim, source.dtype)
    if engine != samples:
        sampling += samples.host_bytes(most, rows)
    passes = pass_bytes(source, most, engine, blocks, sample_rows=rows)
    spreading = SPREADING_KERNELS if options.init != "random" or most > k else ()
    code = samples.code_bytes() + code_bytes(spreading)
    return sampling + sampling // GAPS + passes + code


def pass_bytes(
    source: Source,
    k: int,
    engine: EngineSpec,
    blocks: int | None = None,
    *,
    sample_rows: int = 0,
) -> int:
    """What passes over the rows allocate at most, in bytes.

    blocks: see `projected_bytes`. sample_rows: which the same engine labels between passes.
    """
    at_once = blocks or engine.blocks_at_once(k, source)
    block_rows = min(source.block_rows * at_once, source.n_rows)
    in_work = engine.blocks_held * block_rows * source.dim * source.dtype.itemsize
    rows = max(block_rows, sample_rows)
    needed = in_work + engine.host_bytes(k, rows) + 8 * 8 * k * source.dim
    return needed + needed // GAPS


def check_fit(
    source: Source,
    k: int,
    engine: EngineSpec,
    options: FitOptions,
    scheduler: Scheduler,
    cap: int,
) -> tuple[int, int]:
    """What the process tree takes at most while it fits K centroids, in bytes; and how.

    Returns: bytes, and how many blocks of the source to take at once: the engine's choice, or
        fewer where that needs too much.
    Raises: MemoryBudgetError where even one passes the cap.
    """
    worker = _imports_bytes(engine.device) + pass_bytes(source, k, engine, 1)
    worker += engine.code_bytes()
    workers = scheduler.local_workers * worker
    for blocks in range(engine.blocks_at_once(k, source), 0, -1):
        needed = workers + projected_bytes(source, k, engine, options, blocks)
        if blocks == 1 or fits(needed, cap):
            break
    return check_budget(f"fitting K = {k}", needed, cap), blocks


def _imports_bytes(device: Device) -> int:
    """Of a worker before it begins; with drivers of a device as this process has them."""
    if device.type == "cpu":
        return WORKER_BYTES
    return max(WORKER_BYTES, pipeline.runtime.memory.resident())


def check_device(
    source: Source,
    k: int,
    engine: EngineSpec,
    options: FitOptions,
    scheduler: Scheduler,
    device_memory: int | None,
    heldout_rows: int = 0,
) -> str:
    """What fitting K centroids does with the memory of a device, in words; empty for none, where
    none was spoken of.

    device_memory: see `EngineSpec.make`; processes that this machine starts share it. heldout_rows:
    that are scored too.
    Raises: MemoryBudgetError where the cap is too small even if no rows stay.
    """
    most, sharers = most_centroids(k, options), _sharers(scheduler, options)
    share = _share(engine.device, device_memory, sharers)
    plan = engine.device_plan(most, share)
    if plan is None:
        unused = "the engine takes none, and its cap changes nothing"
        return "" if device_memory is None else f"device memory: {unused}"
    if plan.least > plan.allowed:
        raise device_refusal(f"fitting K = {k}", plan.least, plan.allowed, sharers)
    stay = min(sharers * plan.room(source.n_rows, source.block_rows), source.n_rows)
    rows = "all rows stay there"
    if options.mode == "minibatch":
        stay, rows = 0, "mini-batches are sent, their rows do not stay"
    elif stay < source.n_rows:
        rows = f"{stay:,} of {source.n_rows:,} rows stay there, the others are streamed"
    scored = 0 if scheduler.remote else heldout_rows
    kept = stay + plan.room(scored, source.block_rows, stay * plan.row_bytes)
    taken = min(sharers * plan.fixed + kept * plan.row_bytes, sharers * plan.allowed)
    allowed = in_words(sharers * plan.allowed)
    return f"device memory: {in_words(taken)} at most, {allowed} allowed; {rows}"


def _sharers(scheduler: Scheduler, options: FitOptions) -> int:
    """Processes of this machine that a cap on the device's memory is for."""
    return max(1, scheduler.local_workers + (options.mode == "minibatch"))


def _share(device: Device, device_memory: int | None, sharers: int) -> int | None:
    if sharers == 1:
        return device_memory
    return device_budget(device, device_memory) // sharers


class Fitter:
    """Fits dictionaries of one source, one after the other; what is known of the rows is kept.

    largest: the most centroids that will be asked for. scheduler: where whole passes
    run, for a patch store; all else runs here. scratch: folder for what is kept of the rows
    between passes; None: the system's. blocks: of the source that are taken at once; None: as many
    as the engine works best with. device_memory: see `EngineSpec.make`.
    """

    def __init__(
        self,
        source: Source,
        options: FitOptions,
        *,
        engine: EngineSpec,
        largest: int,
        progress: Progress,
        scheduler: Scheduler,
        scratch: Path | None = None,
        blocks: int | None = None,
        device_memory: int | None = None,
    ) -> None:
        self._source, self._options = source, options
        self._engine, self._largest, self._progress = engine, largest, progress
        self._scheduler, self._scratch, self._blocks = scheduler, scratch, blocks
        self._device_memory = _share(engine.device, device_memory, _sharers(scheduler, options))
        self._sample = np.empty((0, source.dim), source.dtype)
        self._scored: LocalExecutor | None = None

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
        options, progress = self._options, self._progress

        def seeds(rng: np.random.Generator) -> np.ndarray:
            source, engine = self._source, self._own_engine
            return seeding.seed_centroids(source, k, options.init, rng, init, progress, engine)

        rng = generator(options, k)
        with self._run(k, rng, checkpoint, warm=warm) as run:
            if not run.resume():
                run.start(seeds(rng))
            progress.start(f"K={k}", self._planned_rows(k, warm=warm), "rows")
            fit = run.finish()
        progress.finish()
        if fit.mse > mse_limit:
            # Lloyd never rises, and more centroids are never worse.
            rules = replace(self._rules, max_iter=min(MENDING_STEPS, options.passes))
            lloyd = Lloyd(self._executor, rules, rng, progress, checkpoint)
            lloyd.name = "mending"
            if not lloyd.resume():
                lloyd.start(seeds(generator(options, k)))
            progress.start(f"K={k}", (rules.max_iter + 1) * self._source.n_rows, "rows")
            mended = lloyd.finish()
            progress.finish()
            mended.history.follow(fit.history)
            mended.updates, mended.stopped = mended.updates + fit.updates, fit.stopped
            fit = min(fit, mended, key=lambda one: one.mse)
        return fit

    def score(self, source: Source, centroids: np.ndarray) -> ClusterSums:
        """Sums of the rows of any source about centroids, (k, d).

        Those of the last source asked for stay on a device, where they leave room for others.
        """
        if self.remote or not self._engine.caches_rows:
            with closing(self._executor_of(source, remember=False)) as executor:
                return executor.run_pass(centroids, self._progress)[0]
        if self._scored is None or self._scored.source is not source:
            self._close_scored()
            self._scored = self._local_executor(source, remember=True)
        return self._scored.run_pass(centroids, self._progress)[0]

    def _close_scored(self) -> None:
        if self._scored is not None:
            self._scored.close()

    def _planned_rows(self, k: int, *, warm: bool) -> int:
        options, n = self._options, self._source.n_rows
        if options.mode != "nested":
            return (options.passes + 1) * n
        return planned_rows(n, k, rounds_of(k, options.breathing), warm=warm)

    @property
    def _rules(self) -> StoppingRules:
        options = self._options
        return StoppingRules(options.passes, options.tol, options.least_gain, options.empty)

    @contextmanager
    def _run(
        self, k: int, rng: np.random.Generator, checkpoint: FitCheckpoint | None, *, warm: bool
    ) -> Iterator[KMeansLoop[Any]]:
        options, common = self._options, (self._rules, rng, self._progress, checkpoint)
        if options.mode == "full":
            yield Lloyd(self._executor, *common)
        elif options.mode == "minibatch":
            with closing(self._local_executor(self._source, remember=False)) as here:
                yield MiniBatch(here, *common, batch_size=options.batch_size)
        else:
            rounds = rounds_of(k, options.breathing)
            breathing = self._breathing(k) if rounds else None
            yield Nested(
                self._executor, *common, k=k, breathing=breathing, rounds=rounds, warm=warm
            )

    def _breathing(self, k: int) -> Breathing:
        rows = min(_move_sample_rows(k), self._source.n_rows)
        if len(self._sample) != rows:
            # Of its own generator, so that no other K has a part in it.
            rng = np.random.default_rng([self._options.seed, rows])
            self._sample = seeding.draw_sample(self._source, rows, rng)
        return Breathing(self._sample, self._own_engine)

    @property
    def remote(self) -> bool:
        """Whether whole passes run on the workers of a cluster."""
        return self._scheduler.remote and isinstance(self._source, StoreSource)

    @cached_property
    def _own_engine(self) -> AssignmentEngine | None:
        """That of the passes where it labels samples, too: one's threads serve all."""
        samples = EngineSpec.for_samples(self._source.dim, self._source.dtype)
        return None if self.remote or self._engine != samples else self._local_engine

    @cached_property
    def _local_engine(self) -> AssignmentEngine:
        """Of all passes in this process, which share what it may take of a device."""
        return self._engine.make(largest=self._most, device_memory=self._device_memory)

    @property
    def _most(self) -> int:
        return most_centroids(self._largest, self._options)

    @cached_property
    def _executor(self) -> Executor:
        """Of the passes over the source, which remembers its rows."""
        return self._executor_of(self._source, remember=True)

    def _executor_of(self, source: Source, *, remember: bool) -> Executor:
        if self._scheduler.remote and isinstance(source, StoreSource):
            return ClusterExecutor(
                *(source, self._scheduler, self._engine.name, str(self._engine.device)),
                remember=remember,
                largest=self._most,
                device_memory=self._device_memory,
            )
        return self._local_executor(source, remember=remember)

    def _local_executor(self, source: Source, *, remember: bool) -> LocalExecutor:
        engine = self._local_engine
        if not remember:
            return LocalExecutor(source, engine)
        blocks = self._blocks
        if blocks is None:
            blocks = self._engine.blocks_at_once(self._largest, source)
        source = GatheredSource(source, blocks) if blocks > 1 else source
        return LocalExecutor(source, engine, engine.cache_for(source, self._scratch))


def generator(options: FitOptions, k: int) -> np.random.Generator:
    """The one generator of a (K, mode, seed) run."""
    mode = ("full", "minibatch", "nested").index(options.mode)
    return np.random.default_rng([options.seed, mode, k])


def _move_sample_rows(k: int) -> int:
    return max(MOVE_SAMPLE_ROWS, MOVE_SAMPLE_PER_CENTROID * k)
