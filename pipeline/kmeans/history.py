"""What a run of passes leaves behind."""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from pipeline.rows.cluster_sums import ClusterSums


@dataclass
class History:
    """One entry per pass, in order; the last is the scoring of the final centroids.

    rows: seen in the pass, the first so many. mse: squared pixel levels, of the pass's centroids
    on these rows. shift: squared distance of all centroids from the means of their rows. live:
    centroids with a row; more than K while some are on trial. redrawn: empty ones that got a new
    place. seconds: of the pass.
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

    def follow(self, other: "History") -> None:
        """Put the passes of another run before these."""
        for name, values in vars(other).items():
            setattr(self, name, values + getattr(self, name))


Stopped = Literal["tol", "target", "max_iter"]


@dataclass
class Fit:
    """Final centroids with the sums and scores that belong to them.

    centroids: (k, d) float32. sums: of all rows. sse: (k,) float64, squared pixel levels. inertia:
    of all clusters, added up where all of them were in the normal range of float64.
    updates: how often the centroids were moved. stopped: which option ended the run.
    """

    centroids: np.ndarray
    sums: ClusterSums
    sse: np.ndarray
    inertia: float
    history: History
    updates: int
    stopped: Stopped

    def scaled(self, factor: float) -> "Fit":
        """Of rows multiplied by a power of two."""
        history = replace(
            self.history,
            mse=[mse * factor * factor for mse in self.history.mse],
            shift=[shift * factor * factor for shift in self.history.shift],
        )
        sums, centroids = self.sums.scaled(factor), self.centroids * factor
        with np.errstate(over="ignore"):
            sse = self.sse * factor * factor
        inertia = self.inertia * factor * factor
        return replace(
            self, centroids=centroids, sums=sums, sse=sse, inertia=inertia, history=history
        )

    @property
    def mse(self) -> float:
        return mean_squared_error(self.sse, self.sums)

    @property
    def converged(self) -> bool:
        return self.stopped != "max_iter"


def stopped_by(
    history: History, before: float, variance: float, tol: float, min_gain: float
) -> Stopped | None:
    """Which option ends a run after the last pass; none while empty centroids got new places.

    before: MSE of the pass before, inf for the first. variance: mean over the columns.
    """
    if history.redrawn[-1]:
        return None
    if history.shift[-1] <= tol * variance:
        return "tol"
    mse = history.mse[-1]
    return "target" if before - mse < min_gain * mse else None


def mean_squared_error(sse: np.ndarray, sums: ClusterSums) -> float:
    """SSE / (n · d), in squared pixel levels."""
    return float(sse.sum()) / (sums.n_rows * sums.sums.shape[1])
