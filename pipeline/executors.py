"""Where a pass over the rows runs: in this process, or on the workers of a Dask cluster.

A worker reads its ranges of chunks itself, gets the centroids of the pass, and returns K·d sums.
"""

import time
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch

from pipeline.engines import AssignmentEngine, make_engine
from pipeline.progress import Progress
from pipeline.scheduling import Scheduler
from pipeline.streaming import Source, StoreSource, block_count, read_ahead
from pipeline.sums import ClusterSums
from storage.patch_store import open_patches

# Ranges of a pass, whatever the number of workers, so that float sums do not depend on it.
MAX_RANGES = 64


class Executor(Protocol):
    """Runs whole passes over the rows of one source."""

    @property
    def source(self) -> Source:
        """Where the rows come from."""

    def run_pass(self, centroids: np.ndarray, progress: Progress) -> tuple[ClusterSums, float]:
        """Assign all rows to `centroids`, (k, d) float32. Returns: their sums, seconds."""


@dataclass(frozen=True)
class LocalExecutor:
    """Passes in this process."""

    source: Source
    engine: AssignmentEngine

    def run_pass(self, centroids: np.ndarray, progress: Progress) -> tuple[ClusterSums, float]:
        started = time.perf_counter()
        self.engine.load(centroids)
        sums = empty_sums(self.source, len(centroids))
        with closing(read_ahead(self.source)) as blocks:
            for block in blocks:
                self.engine.step(block, sums)
                progress.advance(len(block))
        return sums, time.perf_counter() - started


@dataclass(frozen=True)
class ClusterExecutor:
    """Passes over a patch store on the workers of a cluster, which must see the store's path.

    Sums of integer rows are those of a local pass, bit for bit; those of floats are added range
    by range, and do not depend on the number of workers.
    """

    source: StoreSource
    scheduler: Scheduler
    engine: str
    device: str

    def run_pass(self, centroids: np.ndarray, progress: Progress) -> tuple[ClusterSums, float]:
        started = time.perf_counter()
        # Scattered: in every task's arguments the centroids would be sent once per range.
        shared = self.scheduler.client.scatter(centroids, broadcast=True, hash=False)
        path = str(self.source.path.resolve())
        futures = {
            self.scheduler.client.submit(
                sum_range, path, shared, first, stop, self.engine, self.device, pure=False
            ): first
            for first, stop in ranges(block_count(self.source))
        }
        sums = empty_sums(self.source, len(centroids))
        exact = sums.squares.dtype == np.int64
        waiting: dict[int, ClusterSums] = {}
        for future, part in self.scheduler.completed(futures):
            progress.advance(part.n_rows)
            if exact:  # in any order, so that no part is kept
                sums += part
            else:
                waiting[futures[future]] = part
            future.release()
        for first in sorted(waiting):
            sums += waiting[first]
        return sums, time.perf_counter() - started


def empty_sums(source: Source, k: int) -> ClusterSums:
    """Sums of no rows of this source yet."""
    return ClusterSums.zeros(k, source.dim, source.dtype, source.origin)


def ranges(blocks: int) -> list[tuple[int, int]]:
    """Cuts blocks into at most MAX_RANGES runs [first, stop) of one length."""
    length = -(-blocks // MAX_RANGES)
    return [(first, min(first + length, blocks)) for first in range(0, blocks, length)]


def sum_range(
    path: str, centroids: np.ndarray, first: int, stop: int, engine: str, device: str
) -> ClusterSums:
    """Sums over the chunks [first, stop) of the store at `path`; runs on a worker.

    centroids: of the pass, (k, d).
    """
    source = _open(path)
    found = make_engine(engine, torch.device(device), source.dim, source.dtype)
    found.load(centroids)
    sums = empty_sums(source, len(centroids))
    with closing(read_ahead(source, range(first, stop))) as blocks:
        for block in blocks:
            found.step(block, sums)
    return sums


@lru_cache(maxsize=4)
def _open(path: str) -> StoreSource:
    """A store, opened once in each worker."""
    return StoreSource(open_patches(path))
