"""Rows of a patch store by their numbers, taken by the workers of a cluster.

Samples are spread over nearly all chunks. Each worker reads some of these and hands back the rows
that were drawn; this process reads none.
"""

import numpy as np

from pipeline.execution.scheduler import Scheduler
from pipeline.rows.source import RowTransform, StoreSource, take_rows
from storage.errors import IntegrityError
from storage.patch_store import open_patches

TASKS_PER_THREAD = 2  # of the workers, lest the slowest be waited for


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
        path, taken = str(self.path.resolve()), np.empty((len(rows), self.dim), self.dtype)
        futures = {
            client.submit(
                rows_on_worker, path, self.seal, self.transform, rows[places], pure=False
            ): places
            for places in groups
        }
        for future, part in self._scheduler.completed(futures):
            taken[futures[future]] = part
            future.release()
        return taken


def rows_on_worker(
    path: str, seal: str, transform: RowTransform | None, rows: np.ndarray
) -> np.ndarray:
    """The rows of a store with these numbers, in this order; runs on a worker."""
    return take_rows(source_on_worker(path, seal, transform), rows)


def source_on_worker(path: str, seal: str, transform: RowTransform | None) -> StoreSource:
    """The store at a path as a worker sees it.

    Raises: IntegrityError where that is not the one of this seal.
    """
    source = StoreSource(open_patches(path), transform)
    if source.seal != seal:
        raise IntegrityError(
            f"{path} is another store for a worker than for the process that sent it the"
            " work: give all of them the same folder"
        )
    return source
