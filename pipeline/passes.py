"""What a run of passes leaves behind."""

from dataclasses import dataclass, field

import numpy as np

from pipeline.executors import Executor
from pipeline.progress import Progress
from pipeline.sums import ClusterSums


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


def final_fit(
    executor: Executor,
    centroids: np.ndarray,
    history: History,
    *,
    updates: int,
    converged: bool,
    progress: Progress,
) -> Fit:
    """The end of a run: a last pass that scores the final centroids on all rows."""
    sums, seconds = executor.run_pass(centroids, progress)
    sse = sums.sse(centroids)
    mse = mean_squared_error(sse, sums)
    history.add(sums, mse, shift=0.0, redrawn=0, seconds=seconds)
    return Fit(centroids, sums, sse, history, updates, converged)


def mean_squared_error(sse: np.ndarray, sums: ClusterSums) -> float:
    """SSE / (n · d), in squared pixel levels."""
    return float(sse.sum()) / (sums.n_rows * sums.sums.shape[1])
