"""Rows of a patch store by their numbers, taken by the workers of a cluster.

Samples are spread over nearly all chunks. Each worker reads some of these and hands back the rows
that were drawn; this process reads none.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.execution.scheduler import Scheduler
from pipeline.rows.source import RowTransform, StoreSource, take_rows
from storage.errors import IntegrityError
from storage.patch_store import open_patches

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


class SampledByWorkers(StoreSource):
    """A patch store, read block by block here, and row by row on the workers of a cluster."""

    def __init__(self, source: StoreSource, scheduler: Scheduler) -> None:
        super().__init__(source.store, source.transform)
        self._scheduler = scheduler

    def take_rows(self, rows: np.ndarray) -> np.ndarray:
        """See `pipeline.rows.source.take_rows`."""
        client = self._scheduler.client
        tasks = TASKS_PER_THREAD * max(1, sum(client.nthreads().values()))
        order = np.argsort(rows, kind="stable")
        blocks, starts = np.unique(rows[order] // self.block_rows, return_index=True)
        each = max(1, -(-len(blocks) // tasks))  # a block is read by one task alone
        groups = np.split(order, starts[each::each])
        there, taken = StoreOnWorkers.of(self), np.empty((len(rows), self.dim), self.dtype)
        futures = {
            client.submit(take_on_worker, there, rows[places], pure=False): places
            for places in groups
        }
        for future, part in self._scheduler.completed(futures):
            taken[futures[future]] = part
            future.release()
        return taken


def take_on_worker(store: StoreOnWorkers, rows: np.ndarray) -> np.ndarray:
    """Rows of a store with these numbers, in this order; runs on a worker."""
    return take_rows(store.opened(), rows)
