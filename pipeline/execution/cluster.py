"""Passes on the workers of a Dask cluster.

A worker reads its ranges of chunks itself, gets the centroids of each pass, and returns K·d sums.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from pipeline.engines import AssignmentCache, AssignmentEngine, EngineSpec
from pipeline.execution.executor import LocalExecutor
from pipeline.execution.scheduler import Scheduler
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import RowTransform, StoreSource, block_count, prefix
from pipeline.runtime.devices import use_threads
from pipeline.runtime.progress import Progress, SilentProgress
from storage.errors import IntegrityError
from storage.patch_store import open_patches

# Ranges of a pass, whatever the number of workers, so that float sums do not depend on it.
MAX_RANGES = 64


@dataclass(frozen=True)
class WorkersTask:
    """What workers are told once of a fit: the same for all passes and ranges.

    path: of the store, which the workers must see. seal: of the store that is meant; a worker may
    have another one under that name. remember: whether workers keep what helps the next pass.
    largest, device_memory: see `EngineSpec.make`; of each worker. transform: of the store's rows.
    name: of the fit.
    """

    path: str
    seal: str
    engine: EngineSpec
    remember: bool
    largest: int
    device_memory: int | None
    transform: RowTransform | None = None
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


class ClusterExecutor:
    """Passes over a patch store on the workers of a cluster.

    Sums of integer rows are those of a local pass, bit for bit; those of floats are added range
    by range, and do not depend on the number of workers. A worker that did not run a range before
    takes longer for it. Arguments: see `WorkersTask`.
    """

    def __init__(
        self,
        source: StoreSource,
        scheduler: Scheduler,
        engine: EngineSpec,
        *,
        remember: bool = True,
        largest: int = 1,
        device_memory: int | None = None,
    ) -> None:
        self.source = source
        self._scheduler = scheduler
        path, of_rows = str(source.path.resolve()), source.transform
        self._task = WorkersTask(
            path, source.seal, engine, remember, largest, device_memory, of_rows
        )
        self._successors: np.ndarray | None = None  # for the next pass
        self._held: dict[int, str] = {}  # range -> worker that remembers its rows

    def run_pass(
        self, centroids: np.ndarray, progress: Progress, rows: int | None = None
    ) -> tuple[ClusterSums, float]:
        started = time.perf_counter()
        sums = ClusterSums.zeros(centroids, self.source.dtype)
        exact = sums.squares.dtype == np.int64
        waiting: dict[int, ClusterSums] = {}
        n_rows = self.source.n_rows if rows is None else min(rows, self.source.n_rows)
        for first, part in self._range_sums(centroids, n_rows):
            progress.advance(part.n_rows)
            if exact:  # in any order, so that no part is kept
                sums += part
            else:
                waiting[first] = part
        for first in sorted(waiting):
            sums += waiting[first]
        return sums, time.perf_counter() - started

    def relabel(self, successors: np.ndarray) -> None:
        self._successors = successors

    def close(self) -> None:
        with suppress(Exception):  # a cluster that is gone has forgotten, and its end was told
            self._scheduler.client.run(forget, self._task.name)

    def _range_sums(self, centroids: np.ndarray, rows: int) -> Iterator[tuple[int, ClusterSums]]:
        """Sums of each range of the first rows, by its first block, as they come."""
        client = self._scheduler.client
        # Scattered: in every task's arguments the centroids would be sent once per range.
        shared = client.scatter(centroids, broadcast=True, hash=False)
        blocks = -(-rows // self.source.block_rows)
        futures = {
            client.submit(
                sum_range,
                self._task,
                range(first, stop),
                rows,
                shared,
                self._successors,
                **self._preferred(first),
                pure=False,
            ): first
            for first, stop in ranges(block_count(self.source), blocks)
        }
        self._successors = None
        for future, (part, worker) in self._scheduler.completed(futures):
            self._held[futures[future]] = worker
            yield futures[future], part
            future.release()

    def _preferred(self, first: int) -> dict[str, Any]:
        """The worker that remembers these rows, if it has time."""
        if first not in self._held:
            return {}
        return {"workers": self._held[first], "allow_other_workers": True}


def ranges(blocks: int, wanted: int) -> list[tuple[int, int]]:
    """Cuts blocks into at most MAX_RANGES runs [first, stop) of one length; the first `wanted`."""
    length = -(-blocks // MAX_RANGES)
    return [(first, min(first + length, wanted)) for first in range(0, wanted, length)]


@dataclass
class _WorkerState:
    """What a worker keeps of one fit."""

    engine: AssignmentEngine
    source: StoreSource
    folder: Path
    caches: dict[int, AssignmentCache | None] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)  # the engine uses all threads by itself

    def cache_for(self, first: int) -> AssignmentCache | None:
        """Of the range that begins with this block."""
        if first not in self.caches:
            blocks = block_count(self.source)
            (whole,) = (range(*pair) for pair in ranges(blocks, blocks) if pair[0] == first)
            self.caches[first] = self.engine.cache_for(self.source, self.folder, whole)
        return self.caches[first]

    def close(self) -> None:
        with self.lock:
            for cache in self.caches.values():
                if cache is not None:
                    cache.close()


_states: dict[str, _WorkerState] = {}  # of a worker, by the name of the fit
_states_lock = Lock()


def sum_range(
    task: WorkersTask,
    blocks: range,
    rows: int,
    centroids: np.ndarray,
    successors: np.ndarray | None,
) -> tuple[ClusterSums, str]:
    """Sums over some chunks of the store, and this worker's address; runs on a worker.

    rows: of the store that the pass sees. centroids: of the pass, (k, d). successors: see
    `Executor.relabel`.
    """
    from distributed import get_worker  # only where a cluster is asked for

    worker = get_worker()
    with _states_lock:
        if task.name not in _states:
            use_threads(worker.state.nthreads)
            _states[task.name] = _begun(task, Path(worker.local_directory))
        state = _states[task.name]
    with state.lock:
        cache = state.cache_for(blocks.start) if task.remember else None
        if cache is not None and successors is not None:
            cache.relabel(successors)
        here = LocalExecutor(prefix(state.source, rows), state.engine, cache)
        sums = here.sum_blocks(blocks, centroids, SilentProgress())
        if task.remember:
            state.caches[blocks.start] = here.cache
    return sums, str(worker.address)


def forget(name: str) -> None:
    """Let go of what this worker keeps of a fit."""
    with _states_lock:
        state = _states.pop(name, None)
    if state is not None:
        state.close()


def _begun(task: WorkersTask, folder: Path) -> _WorkerState:
    source, asked = StoreSource(open_patches(task.path), task.transform), task.engine
    if source.seal != task.seal:
        raise IntegrityError(
            f"{task.path} is another store for a worker than for the process that sent it the"
            " work: give all of them the same folder"
        )
    engine = EngineSpec.resolve(asked.name, asked.device, source.dim, source.dtype)
    made = engine.make(largest=task.largest, device_memory=task.device_memory)
    return _WorkerState(made, source, folder)
