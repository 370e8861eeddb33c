"""What the parameters of the estimator mean: options of a fit, engine, scheduler, start."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import numpy as np
import psutil
from sklearn.utils import check_random_state

from pipeline.config import FitOptions
from pipeline.engines import ENGINES, AssignmentEngine, EngineSpec
from pipeline.execution.blocks import (
    BlocksOnWorkers,
    SchedulerOfClient,
    address_of,
    client_at_work,
    lazy_array,
)
from pipeline.execution.cluster import ClusterExecutor
from pipeline.execution.executor import Executor, LocalExecutor
from pipeline.execution.scheduler import Scheduler
from pipeline.kmeans.plan import check_preprocessing
from pipeline.kmeans.seeding import INITS, check_start
from pipeline.option_values import FORMER_NAMES, check_address, parse_size
from pipeline.preprocessing import Preprocessing
from pipeline.rows.source import ArraySource, RowSource, StoreSource, TransformedRows
from pipeline.rows.units import unit_of
from pipeline.runtime.devices import resolve_device
from pipeline.runtime.progress import Progress, SilentProgress
from storage.errors import InputError
from storage.images.pixel_range import PixelRange

_OF_FIT = ("mode", "max_iter", "tol", "min_gain", "breathing", "batch_size", "empty")
OF_ROWS = ("preprocess", "contrast_floor", "zca_epsilon", "distance")


class Parameters:
    """Part of an estimator that has the parameters of `StreamingKMeans`.

    Attributes:
        preprocessing_: what is done to rows before they meet centroids; None: nothing.
    """

    n_clusters: int
    init: Any
    engine: str
    device: str
    device_memory: str | int | None
    scheduler: str | None
    mode: str
    memory: str | int | None
    random_state: Any
    preprocessing_: Preprocessing | None
    _of_rows: dict[str, Any]

    def _options(self) -> FitOptions:
        if not isinstance(self.n_clusters, (int, np.integer)) or self.n_clusters < 1:
            raise InputError(f"n_clusters={self.n_clusters!r} is not valid: use an integer >= 1")
        if isinstance(self.init, str) and self.init not in INITS:
            raise InputError(f"no init {self.init!r}: use {', '.join(INITS)}, or an array")
        if self.engine not in ENGINES:
            raise InputError(f"no engine {self.engine!r}: use {', '.join(ENGINES)}")
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31 - 1)
        fields = {name: getattr(self, name) for name in (*_OF_FIT, *OF_ROWS)}
        for old, new in FORMER_NAMES.items():
            if getattr(self, old) != "deprecated":
                fields[old] = getattr(self, old)
                if fields[new] is None:  # else both are given, and the old one is refused
                    del fields[new]
        init = self.init if isinstance(self.init, str) else "k-means++"
        return FitOptions.checked(**fields, init=init, seed=int(seed))

    def _scheduler(self, source: RowSource, memory: int | None, progress: Progress) -> Scheduler:
        cap = memory or psutil.virtual_memory().total
        address, lazy = check_address(self.scheduler or ""), lazy_array(source) is not None
        client = client_at_work() if lazy and self.mode != "minibatch" else None
        if client is not None and address in ("", address_of(client)):
            return SchedulerOfClient(client, cap, progress)
        scheduler = Scheduler(address, cap, progress)
        if scheduler.remote and not isinstance(source, StoreSource) and not lazy:
            raise InputError(
                f"scheduler={self.scheduler!r} is for patch stores, which workers read themselves,"
                " and for Dask arrays: others are clustered in this process"
            )
        if scheduler.remote and self.mode == "minibatch":
            raise InputError(
                f"scheduler={self.scheduler!r} is not for mode='minibatch', whose batches follow"
                " one another in this process: leave it out"
            )
        return scheduler

    def _lazily(self, source: RowSource) -> bool:
        """Whether these are rows of a Dask array, which workers of a cluster compute."""
        at_work = bool(self.scheduler) or client_at_work() is not None
        return lazy_array(source) is not None and at_work

    def _spread(self, source: RowSource, scheduler: Scheduler) -> RowSource:
        """The source itself, or a Dask array's blocks on the workers."""
        if not scheduler.remote or lazy_array(source) is None:
            return source
        assert isinstance(source, ArraySource)
        blocks = BlocksOnWorkers(source, scheduler)
        return blocks if unit_of(blocks) == 1 else source

    @contextmanager
    def _executor(self, source: RowSource, k: int) -> Iterator[Executor]:
        """Runs one pass over the rows, with k centroids."""
        with ExitStack() as stack:
            if self._lazily(source):
                scheduler = stack.enter_context(self._scheduler(source, None, SilentProgress()))
                source = self._spread(source, scheduler)
            met = self._met(source)
            if not isinstance(met, BlocksOnWorkers):
                yield LocalExecutor(met, self._engine(met))
                return
            cap, spec = parse_size("device_memory", self.device_memory), self._engine_spec(met)
            given = ClusterExecutor(
                met, scheduler, spec, remember=False, largest=k, device_memory=cap
            )
            yield stack.enter_context(closing(given))

    def _engine(self, source: RowSource) -> AssignmentEngine:
        device_memory = parse_size("device_memory", self.device_memory)
        return self._engine_spec(source).make(largest=self.n_clusters, device_memory=device_memory)

    def _engine_spec(self, source: RowSource) -> EngineSpec:
        device = resolve_device(self.device or "auto", source.dtype)
        return EngineSpec.resolve(self.engine, device, source.dim, source.dtype)

    def _initial(self, dim: int) -> np.ndarray | None:
        if isinstance(self.init, str):
            return None
        return check_start(np.asarray(self.init, np.float64), self.n_clusters, dim)

    def _prepare(self, source: RowSource, options: FitOptions, progress: Progress) -> None:
        """Learn how rows are preprocessed.

        Raises: MemoryBudgetError where the cap is too small.
        """
        if isinstance(source, StoreSource):
            levels = PixelRange.of_source(source.store.source)
        else:
            levels = PixelRange.of_type(source.dtype)
        check_preprocessing(source, options, parse_size("memory", self.memory))
        self.preprocessing_ = Preprocessing.learn(source, options, levels.span, progress)
        self._of_rows = {name: getattr(self, name) for name in OF_ROWS}

    def _check_goes_on(self, options: FitOptions) -> None:
        """Raise InputError where rows would be preprocessed otherwise than those before."""
        matter = {"preprocess", "distance", *options.in_use()}
        for name, begun in self._of_rows.items():
            if name in matter and getattr(self, name) != begun:
                raise InputError(
                    f"{name} is {getattr(self, name)} where the stream began with {begun}: set it"
                    " back, or begin another estimator"
                )

    def _met(self, source: RowSource) -> RowSource:
        """Rows as they meet the centroids."""
        found = vars(self).get("preprocessing_")
        if found is None:
            return source
        if isinstance(source, StoreSource):
            return StoreSource(source.store, found)
        if isinstance(source, BlocksOnWorkers):
            return source.transformed(found)
        return TransformedRows(source, found)
