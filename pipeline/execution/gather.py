"""Rows of a patch store by their numbers, taken by the workers of a cluster.

Samples are spread over nearly all chunks. Each worker reads some of these and hands back the rows
that were drawn, or what a task made of the chunks; this process reads none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.execution.scheduler import Scheduler
from pipeline.rows.source import RowSource, RowTransform, StoreSource, block_count, take_rows
from pipeline.runtime.progress import Progress, SilentProgress
from storage.errors import IntegrityError
from storage.patch_store import open_patches

if TYPE_CHECKING:
    from distributed import Future

T = TypeVar("T")
TASKS_PER_THREAD = 2  # of the workers, lest the slowest be waited for


@dataclass(frozen=True)
class StoreOnWorkers:
    """What workers are told of a store, which they must see.

    seal: of the store that is meant; a worker may have another one under that name. transform: of
    its rows.
    """

    path: str
    seal: str
    transform: RowTransform | None = None

    @classmethod
    def of(cls, source: StoreSource) -> "StoreOnWorkers":
        """That of a source."""
        return cls(str(source.path.resolve()), source.seal, source.transform)

    def opened(self) -> StoreSource:
        """The store as this process sees it; raises IntegrityError where it is another one."""
        source = StoreSource(open_patches(self.path), self.transform)
        if source.seal != self.seal:
            raise IntegrityError(
                f"{self.path} is another store for a worker than for the process that sent it the"
                " work: give all of them the same folder"
            )
        return source


def gather_rows(
    scheduler: Scheduler, futures: "dict[Future, np.ndarray]", into: np.ndarray
) -> np.ndarray:
    """Rows that tasks take, each into its places of an array, (m, dim); returns it."""
    for future, rows in scheduler.completed(futures):
        into[futures[future]] = rows
        future.release()
    return into


class ReadByWorkers(StoreSource):
    """A patch store, read block by block here, and row by row on the workers of a cluster."""

    def __init__(self, source: StoreSource, scheduler: Scheduler) -> None:
        super().__init__(source.store, source.transform)
        self._scheduler = scheduler

    def take_rows(self, rows: np.ndarray) -> np.ndarray:
        """See `pipeline.rows.source.take_rows`."""
        order = np.argsort(rows, kind="stable")
        blocks, starts = np.unique(rows[order] // self.block_rows, return_index=True)
        each = self._blocks_at_once(len(blocks))  # a block is read by one task alone
        groups = np.split(order, starts[each::each])
        there, taken = StoreOnWorkers.of(self), np.empty((len(rows), self.dim), self.dtype)
        futures = {
            self._scheduler.client.submit(take_on_worker, there, rows[places], pure=False): places
            for places in groups
        }
        return gather_rows(self._scheduler, futures, taken)

    def map_blocks(
        self, task: Callable[[RowSource, range, Progress], list[T]], progress: Progress
    ) -> list[T]:
        """See `pipeline.rows.source.map_blocks`."""
        blocks, there = block_count(self), StoreOnWorkers.of(self)
        each, sent = self._blocks_at_once(blocks), self._scheduler.copied(task)
        parts = [range(first, min(first + each, blocks)) for first in range(0, blocks, each)]
        submit, found = self._scheduler.client.submit, dict[int, list[T]]()
        futures = {submit(map_on_worker, there, part, sent, pure=False): part for part in parts}
        for future, results in self._scheduler.completed(futures):
            part = futures[future]
            found[part.start] = results
            rows = min(part.stop * self.block_rows, self.n_rows) - part.start * self.block_rows
            progress.advance(rows)
            future.release()
        return [one for part in parts for one in found[part.start]]

    def _blocks_at_once(self, blocks: int) -> int:
        threads = max(1, sum(self._scheduler.client.nthreads().values()))
        return max(1, -(-blocks // (TASKS_PER_THREAD * threads)))


def take_on_worker(store: StoreOnWorkers, rows: np.ndarray) -> np.ndarray:
    """Rows of a store with these numbers, in this order; runs on a worker."""
    return take_rows(store.opened(), rows)


def map_on_worker(
    store: StoreOnWorkers, blocks: range, task: Callable[[RowSource, range, Progress], list[T]]
) -> list[T]:
    """What a task makes of some blocks of a store; runs on a worker."""
    with threadpool_limits(1, "blas"):  # the same bits, however many cores there are
        return task(store.opened(), blocks, SilentProgress())
