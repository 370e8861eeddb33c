"""Where a pass over the rows of one source runs; here: in this process. See also `cluster`."""

import errno
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from pipeline.engines import AssignmentCache, AssignmentEngine
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import RowSource, block_count, prefix
from pipeline.runtime.progress import Progress


class Executor(Protocol):
    """Runs whole passes over the rows of one source."""

    @property
    def source(self) -> RowSource:
        """Where the rows come from."""

    def run_pass(
        self, centroids: np.ndarray, progress: Progress, rows: int | None = None
    ) -> tuple[ClusterSums, float]:
        """Assign rows to their nearest centroids.

        Args:
            centroids: (k, d) float32, or float64 for float64 rows.
            progress: told of rows as they are done.
            rows: the first so many; None: all.

        Returns:
            Sums of each centroid's rows, and seconds.
        """

    def relabel(self, successors: np.ndarray) -> None:
        """The centroids of the next pass are others; see `AssignmentCache.relabel`."""

    def close(self) -> None:
        """Let go of what is kept of the rows between passes."""


FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class LocalExecutor:
    """Passes in this process.

    cache: what the engine keeps of the rows between them, if anything; it is given up where its
    disk is full, which costs time alone. at_once: see `AssignmentEngine.run_pass`.
    """

    source: RowSource
    engine: AssignmentEngine
    cache: AssignmentCache | None = None
    at_once: int = 1
    _first: RowSource | None = field(default=None, init=False)

    def run_pass(
        self, centroids: np.ndarray, progress: Progress, rows: int | None = None
    ) -> tuple[ClusterSums, float]:
        started = time.perf_counter()
        source = self._first_rows(rows)
        sums = self.sum_blocks(range(block_count(source)), centroids, progress, source)
        return sums, time.perf_counter() - started

    def _first_rows(self, rows: int | None) -> RowSource:
        """The first so many, or all; the same source for as long as they are as many."""
        if rows is None:
            self._first = None
            return self.source
        if self._first is None or self._first.n_rows != min(rows, self.source.n_rows):
            self._first = None  # what it holds goes before others are read
            self._first = prefix(self.source, rows)
        return self._first

    def sum_blocks(
        self,
        blocks: range,
        centroids: np.ndarray,
        progress: Progress,
        source: RowSource | None = None,
        *,
        goes_on: bool = False,
    ) -> ClusterSums:
        """Sums over some blocks of the source, or of one that is a prefix of it.

        goes_on: see `AssignmentEngine.run_pass`.
        """
        source, cache = source or self.source, self.cache
        work = partial(self.engine.run_pass, source, blocks, centroids, at_once=self.at_once)
        try:
            return work(cache, progress, goes_on=goes_on)
        except OSError as error:
            if cache is None or error.errno not in FULL_DISK:
                raise
            progress.note("the disk of the scratch file is full: passes go on without it, slower")
            self.close()
            self.cache = None
        return work(None, progress)

    def relabel(self, successors: np.ndarray) -> None:
        if self.cache is not None:
            self.cache.relabel(successors)

    def close(self) -> None:
        if self.cache is not None:
            self.cache.close()
