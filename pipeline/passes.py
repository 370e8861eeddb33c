"""One pass over the rows, and what a run of passes leaves behind."""

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pipeline.progress import Progress
from pipeline.streaming import Source, read_ahead
from pipeline.sums import ClusterSums


class AssignmentEngine(Protocol):
    """Finds nearest centroids, ties to the lowest index, and adds up exact sums."""

    def load(self, centroids: np.ndarray) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32."""

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """Labels of the rows; (n, d) -> (n,) int64."""

    def step(self, rows: np.ndarray, into: ClusterSums) -> None:
        """Assign the rows and add them to `into`, in place; (n, d)."""


@dataclass
class History:
    """One entry per pass, in order; the last is the scoring of the final centroids.

    rows: seen in the pass. mse: squared pixel levels, of the pass's centroids. shift: squared
    distance that all centroids moved after it. live: centroids with a row. redrawn: empty ones
    that got a new place. seconds: of the pass.
    """

    rows: list[int] = field(default_factory=list)
    mse: list[float] = field(default_factory=list)
    shift: list[float] = field(default_factory=list)
    live: list[int] = field(default_factory=list)
    redrawn: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(
        self, sums: ClusterSums, mse: float, *, shift: float, redrawn: int, seconds: float
    ) -> None:
        """Record one pass."""
        self.rows.append(sums.n_rows)
        self.mse.append(mse)
        self.shift.append(shift)
        self.live.append(sums.live)
        self.redrawn.append(redrawn)
        self.seconds.append(seconds)


@dataclass
class Fit:
    """Final centroids with the sums and scores that belong to them.

    centroids: (k, d) float32. sums: of all rows. sse: (k,) float64, squared pixel levels.
    updates: how often the centroids were moved. converged: whether `tol` ended the run.
    """

    centroids: np.ndarray
    sums: ClusterSums
    sse: np.ndarray
    history: History
    updates: int
    converged: bool

    @property
    def mse(self) -> float:
        return mean_squared_error(self.sse, self.sums)


def mean_squared_error(sse: np.ndarray, sums: ClusterSums) -> float:
    """SSE / (n · d), in squared pixel levels."""
    return float(sse.sum()) / (sums.n_rows * sums.sums.shape[1])


def run_pass(
    source: Source, engine: AssignmentEngine, centroids: np.ndarray, progress: Progress
) -> tuple[ClusterSums, float]:
    """Assign all rows to `centroids` and add them up. Returns: sums, seconds."""
    started = time.perf_counter()
    engine.load(centroids)
    sums = ClusterSums.zeros(len(centroids), source.dim, source.dtype)
    with closing(read_ahead(source)) as blocks:
        for block in blocks:
            engine.step(block, sums)
            progress.advance(len(block))
    return sums, time.perf_counter() - started


def score(
    source: Source, engine: AssignmentEngine, centroids: np.ndarray, progress: Progress
) -> tuple[ClusterSums, np.ndarray, float]:
    """A pass that only scores. Returns: sums, SSE of each centroid (k,), seconds."""
    sums, seconds = run_pass(source, engine, centroids, progress)
    return sums, sums.sse(centroids), seconds
