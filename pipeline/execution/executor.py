"""Where a pass over the rows runs: in this process, or on the workers of a Dask cluster.

A worker reads its ranges of chunks itself, gets the centroids of the pass, and returns K·d sums.
"""

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np

from pipeline.engines import AssignmentCache, AssignmentEngine, EngineSpec
from pipeline.execution.scheduler import Scheduler
from pipeline.rows.cluster_sums import ClusterSums, empty_sums
from pipeline.rows.source import Source, StoreSource, block_count, prefix
from pipeline.runtime.devices import Device
from pipeline.runtime.progress import Progress, SilentProgress
from storage.errors import IntegrityError
from storage.patch_store import open_patches

# Ranges of a pass, whatever the number of workers, so that float sums do not depend on it.
MAX_RANGES = 64


class Executor(Protocol):
    """Runs whole passes over the rows of one source."""

    @property
    def source(self) -> Source:
        """Where the rows come from."""

    def run_pass(
        self, centroids: np.ndarray, progress: Progress, rows: int | None = None
    ) -> tuple[ClusterSums, float]:
        """Assign rows to `centroids`, (k, d) float32. Returns: their sums, seconds.

        rows: the first so many; None: all.
        """

    def relabel(self, successors: np.ndarray) -> None:
        """The centroids of the next pass are others; see `AssignmentCache.relabel`."""

    def close(self) -> None:
        """Let go of what is kept of the rows between passes."""


@dataclass(frozen=True)
class LocalExecutor:
    """Passes in this process.

    memory: what the engine keeps of the rows between them, if anything.
    """

    source: Source
    engine: AssignmentEngine
    memory: AssignmentCache | None = None

    def run_pass(
        self, centroids: np.ndarray, progress: Progress, rows: int | None = None
    ) -> tuple[ClusterSums, float]:
        started = time.perf_counter()
        source = self.source if rows is None else prefix(self.source, rows)
        blocks = range(block_count(source))
        sums = self.engine.run_pass(source, blocks, centroids, self.memory, progress)
        return sums, time.perf_counter() - started

    def relabel(self, successors: np.ndarray) -> None:
        if self.memory is not None:
            self.memory.relabel(successors)

    def close(self) -> None:
        if self.memory is not None:
            self.memory.close()


@dataclass
class ClusterExecutor:
    """Passes over a patch store on the workers of a cluster, which must see the store's path.

    remember: whether workers keep what helps the next pass; a worker that did not run a range
    before takes longer for it. largest: the most centroids that will come. device_memory: cap on
    what each worker takes of its device; None: see `EngineSpec.make`.
    Sums of integer rows are those of a local pass, bit for bit; those of floats are added range
    by range, and do not depend on the number of workers.
    """

    source: StoreSource
    scheduler: Scheduler
    engine: str
    device: str
    remember: bool = True
    largest: int = 1
    device_memory: int | None = None
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    held: dict[int, str] = field(default_factory=dict)  # range -> worker that remembers its rows
    successors: np.ndarray | None = None  # for the next pass

    def run_pass(
        self, centroids: np.ndarray, progress: Progress, rows: int | None = None
    ) -> tuple[ClusterSums, float]:
        started = time.perf_counter()
        rows = self.source.n_rows if rows is None else min(rows, self.source.n_rows)
        # Scattered: in every task's arguments the centroids would be sent once per range.
        shared = self.scheduler.client.scatter(centroids, broadcast=True, hash=False)
        path = str(self.source.path.resolve())
        seal = self.source.seal
        futures = {
            self.scheduler.client.submit(
                sum_range,
                *(path, seal, rows, shared, self.successors, range(first, stop)),
                *(self.engine, self.device),
                *(self.run, self.remember, self.largest, self.device_memory),
                **self._preferred(first),
                pure=False,
            ): first
            for first, stop in ranges(block_count(self.source), -(-rows // self.source.block_rows))
        }
        self.successors = None
        sums = empty_sums(self.source, len(centroids))
        exact = sums.squares.dtype == np.int64
        waiting: dict[int, ClusterSums] = {}
        for future, (part, worker) in self.scheduler.completed(futures):
            self.held[futures[future]] = worker
            progress.advance(part.n_rows)
            if exact:  # in any order, so that no part is kept
                sums += part
            else:
                waiting[futures[future]] = part
            future.release()
        for first in sorted(waiting):
            sums += waiting[first]
        return sums, time.perf_counter() - started

    def relabel(self, successors: np.ndarray) -> None:
        self.successors = successors

    def close(self) -> None:
        with suppress(Exception):  # a cluster that is gone has forgotten, and its end was told
            self.scheduler.client.run(forget, self.run)

    def _preferred(self, first: int) -> dict[str, Any]:
        """The worker that remembers these rows, if it has time."""
        if first not in self.held:
            return {}
        return {"workers": self.held[first], "allow_other_workers": True}


def ranges(blocks: int, wanted: int) -> list[tuple[int, int]]:
    """Cuts blocks into at most MAX_RANGES runs [first, stop) of one length; the first `wanted`."""
    length = -(-blocks // MAX_RANGES)
    return [(first, min(first + length, wanted)) for first in range(0, wanted, length)]


@dataclass
class _Run:
    """What a worker keeps of one run of passes."""

    engine: AssignmentEngine
    source: StoreSource
    folder: Path
    memories: dict[int, AssignmentCache | None] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)  # the engine uses all threads by itself

    def close(self) -> None:
        with self.lock:
            for memory in self.memories.values():
                if memory is not None:
                    memory.close()


_runs: dict[str, _Run] = {}  # of a worker
_runs_lock = Lock()


def sum_range(
    path: str,
    seal: str,
    rows: int,
    centroids: np.ndarray,
    successors: np.ndarray | None,
    blocks: range,
    engine: str,
    device: str,
    run: str,
    remember: bool,
    largest: int,
    device_memory: int | None,
) -> tuple[ClusterSums, str]:
    """Sums over some chunks of the store at `path`, and this worker's address; runs on a worker.

    seal: of the store that is meant; a worker may have another one under that name.
    rows: of the store that the pass sees. centroids: of the pass, (k, d). successors: see
    `Executor.relabel`.
    run: a name, the same for all passes of a fit. remember: whether more passes follow. engine,
    device, largest, device_memory: see `EngineSpec`.
    """
    from distributed import get_worker  # only where a cluster is asked for

    worker = get_worker()
    with _runs_lock:
        if run not in _runs:
            source = _open(path, seal)
            spec = EngineSpec.resolve(engine, Device.named(device), source.dim, source.dtype)
            made = spec.make(largest=largest, device_memory=device_memory)
            _runs[run] = _Run(made, source, Path(worker.local_directory))
        state = _runs[run]
    with state.lock:
        if remember and blocks.start not in state.memories:
            all_blocks = block_count(state.source)
            whole = range(*next(r for r in ranges(all_blocks, all_blocks) if r[0] == blocks.start))
            memory = state.engine.cache_for(state.source, state.folder, whole)
            state.memories[blocks.start] = memory
        memory = state.memories.get(blocks.start)
        seen = prefix(state.source, rows)
        if memory is not None and successors is not None:
            memory.relabel(successors)
        sums = state.engine.run_pass(seen, blocks, centroids, memory, SilentProgress())
    return sums, str(worker.address)


def forget(run: str) -> None:
    """Let go of what this worker keeps of a run."""
    with _runs_lock:
        state = _runs.pop(run, None)
    if state is not None:
        state.close()


@lru_cache(maxsize=4)
def _open(path: str, seal: str) -> StoreSource:
    """The store with this seal, opened once in each worker."""
    source = StoreSource(open_patches(path))
    if source.seal != seal:
        raise IntegrityError(
            f"{path} is another store for a worker than for the process that sent it the work:"
            " give all of them the same folder"
        )
    return source
