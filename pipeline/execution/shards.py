"""Shards of a patch store, and what a worker makes of them in a pass.

Shard r of R holds the chunks r, r + R, r + 2R, …, where R depends on the store alone: so the first
rows, however many they are, lie in all shards. Sums of shards are added by a tree over their
numbers. Those of integer rows are the local pass's, bit for bit; those of floats are the same
whatever the workers, but their last bits are not a local pass's, nor those that versions before
November 2026 stored.
"""

import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, RLock
from typing import Any

import numpy as np

from pipeline.engines import AssignmentCache, AssignmentEngine, EngineSpec
from pipeline.engines.cpu.assignment_cache import KEPT_SUMS_BYTES
from pipeline.execution.blocks import Block, BlockRows, BlocksOnWorkers
from pipeline.execution.executor import LocalExecutor
from pipeline.execution.gather import StoreOnWorkers
from pipeline.rows.source import RowSource, StoreSource, block_count, prefix
from pipeline.runtime.devices import use_threads
from pipeline.runtime.progress import SilentProgress

MAX_SHARDS = 4096
SHARD_CHUNKS = 3  # at least: engines are a third slower with a chunk at a time
FAN_IN = 8  # sums that are added at a time

# Sums, (k, d), counts, (k,), and squares, (k,), as in `ClusterSums`; the origin need not travel.
Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


def shard_count(blocks: int) -> int:
    """Shards of a store of so many chunks."""
    return min(-(-blocks // SHARD_CHUNKS), MAX_SHARDS)


def shards_of(source: RowSource, rows: int) -> int:
    """Shards that the first rows of a source lie in; of blocks on workers each is one."""
    if isinstance(source, BlocksOnWorkers):
        return int(np.searchsorted(source.starts[:-1], rows))
    return len(shard_sizes(source, rows))


def shard_sizes(source: RowSource, rows: int) -> list[int]:
    """Chunks of the first rows of a source in each shard that they lie in."""
    blocks, shards = block_count(prefix(source, rows)), shard_count(block_count(source))
    return [len(range(shard, blocks, shards)) for shard in range(min(shards, blocks))]


def fold_levels(n: int) -> Iterator[list[range]]:
    """Which sums are added, level by level, until one is left of n; each level has its own count.

    The first level adds shards, the next one what the first gave, and so on.
    """
    while True:
        groups = [range(first, min(first + FAN_IN, n)) for first in range(0, n, FAN_IN)]
        yield groups
        n = len(groups)
        if n == 1:
            return


def sums_held(shards: int) -> int:
    """Sums that a worker which runs all shards in order holds at a time, at most."""
    waiting = sum(min(FAN_IN, max(map(len, groups))) for groups in fold_levels(shards))
    return waiting + 2  # the one that is made, and what the last ones are added up to


def sums_bytes(spec: EngineSpec, k: int, shards: int) -> int:
    """What a worker keeps of sums about k centroids, those for the next pass included, bytes."""
    return sums_held(shards) * 8 * k * (spec.dim + 2) + spec.kept_sums_bytes(k, shards)


def add_up(parts: Sequence[Parts]) -> Parts:
    """The sum of some, in order; they stay what they are."""
    sums, counts, squares = (part.copy() for part in parts[0])
    for more_sums, more_counts, more_squares in parts[1:]:
        sums += more_sums
        counts += more_counts
        squares += more_squares
    return sums, counts, squares


@dataclass(frozen=True)
class WorkersTask:
    """What workers are told of a fit: the same for all passes.

    name: of the fit. rows: of a store that the workers must see, or how those of blocks are read
    that are given with their tasks. remember: whether workers keep what helps the next pass.
    largest, device_memory: see `EngineSpec.make`; of each worker. at_once: blocks that are worked
    on together, see `AssignmentEngine.run_pass`.
    """

    name: str
    rows: StoreOnWorkers | BlockRows
    engine: EngineSpec
    remember: bool
    largest: int
    device_memory: int | None
    at_once: int = 1


@dataclass(frozen=True, eq=False)
class ClusterPass:
    """What workers are told of a pass: the same for all shards.

    number: of the pass, from 1. centroids: (k, d). successors: see `Executor.relabel`. rows: of
    the store that the pass sees.
    """

    task: WorkersTask
    number: int
    centroids: np.ndarray
    successors: np.ndarray | None
    rows: int


@dataclass
class _WorkerState:
    """What a worker keeps of one fit.

    source: of the rows; or how those of each block are read. number: of the pass that the engine
    is in; None: of none that it could go on with.
    """

    task: WorkersTask
    engine: AssignmentEngine
    source: StoreSource | BlockRows
    folder: Path
    number: int | None = None
    caches: dict[int, AssignmentCache | None] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)  # the engine uses all threads by itself

    def sums(self, told: ClusterPass, shard: int, block: Block | None = None) -> Parts:
        """Those of a shard; block: that it is; None: it is of the store."""
        with self.lock:
            goes_on, self.number = self.number == told.number, None
            if not goes_on and told.successors is not None:
                for one in self.caches.values():
                    if one is not None:
                        one.relabel(told.successors)
            if isinstance(self.source, StoreSource):
                rows, shards = prefix(self.source, told.rows), shard_count(block_count(self.source))
                at = self._cache_of(self.source, shard, shards)
                blocks = range(shard, block_count(rows), shards)
            else:
                assert block is not None
                rows, at = prefix(block, told.rows - block.first), shard
                self._add_cache(at, block, range(block_count(block)))
                blocks, goes_on = range(block_count(rows)), False  # but begins its own cache
            here = LocalExecutor(rows, self.engine, self.caches.get(at), self.task.at_once)
            sums = here.sum_blocks(blocks, told.centroids, SilentProgress(), goes_on=goes_on)
            if at in self.caches:
                self.caches[at] = here.cache
                # Each block's cache would keep sums of all centroids.
                if block and here.cache and len(self.caches) * sums.sums.nbytes > KEPT_SUMS_BYTES:
                    here.cache.forget_sums()
            self.number = told.number
        return sums.sums, sums.counts, sums.squares

    def _cache_of(self, source: StoreSource, shard: int, shards: int) -> int:
        """Number of the shard's cache, if it has one: rows have theirs, labels share one."""
        blocks = None
        if self.task.engine.caches_rows:
            blocks = range(shard, block_count(source), shards)
        at = shard if blocks else 0
        self._add_cache(at, source, blocks)
        return at

    def _add_cache(self, at: int, source: RowSource, blocks: range | None = None) -> None:
        if self.task.remember and at not in self.caches:
            self.caches[at] = self.engine.cache_for(source, self.folder, blocks)

    def close(self) -> None:
        """Let go of the caches, unless they are in use: then the last user does, as it ends."""
        if self.lock.acquire(blocking=False):
            for cache in self.caches.values():
                if cache is not None:
                    cache.close()
            self.lock.release()


class Lease:
    """Kept by Dask on one worker for as long as a client wants it; a fit's state is, too."""


_states: dict[str, _WorkerState] = {}  # of a worker, by the name of the fit
_holders: Counter[str] = Counter()  # leases and passes that are left of a fit
_passes: "weakref.WeakSet[ClusterPass]" = weakref.WeakSet()  # those among them
_lock, _making = RLock(), Lock()  # the first is taken by finalizers as well, which come at any time


def lease_state(name: str) -> Lease:
    """The state of a fit stays on this worker until the result goes."""
    lease = Lease()
    _hold(name, lease)
    return lease


def sum_shard(told: ClusterPass, shard: int, *block: Any) -> Parts:
    """Sums over a shard; runs on a worker.

    block: that it is, with the numbers of its first row and of its rows; none: it is of the store.
    """
    with _lock:
        if told not in _passes:  # on a worker that has no lease the pass takes its place
            _passes.add(told)
            _hold(told.task.name, told)
    state, how = _state_of(told.task), told.task.rows
    return state.sums(told, shard, Block(how, *block) if isinstance(how, BlockRows) else None)


def shard_done(parts: Parts) -> tuple[int, str]:
    """Rows of a shard whose sums are there, and the address of their worker."""
    from distributed import get_worker  # only where a cluster is asked for

    return int(parts[1].sum()), str(get_worker().address)


def _hold(name: str, holder: object) -> None:
    with _lock:
        _holders[name] += 1
    weakref.finalize(holder, _let_go, name).atexit = False


def _let_go(name: str) -> None:
    """One holder of a fit's state is gone; with the last goes the state."""
    with _lock:
        _holders[name] -= 1
        if _holders[name] > 0:
            return
        del _holders[name]
        state = _states.pop(name, None)
    if state is not None:
        state.close()


def _state_of(task: WorkersTask) -> _WorkerState:
    """What this worker keeps of a fit, which begins with its first shard."""
    with _making:
        state = _states.get(task.name)
        if state is None:
            state = _begun(task)
            with _lock:
                _states[task.name] = state
    return state


def _begun(task: WorkersTask) -> _WorkerState:
    from distributed import get_worker  # only where a cluster is asked for

    rows, asked = task.rows, task.engine
    source = rows if isinstance(rows, BlockRows) else rows.opened()
    worker = get_worker()
    use_threads(worker.state.nthreads)
    EngineSpec.resolve(asked.name, asked.device, source.dim, source.dtype)  # or it cannot run here
    made = asked.make(largest=task.largest, device_memory=task.device_memory)
    return _WorkerState(task, made, source, Path(worker.local_directory))
