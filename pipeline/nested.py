"""Nested batches: Lloyd on a prefix of the rows that grows when more passes over it gain nothing.

Any prefix of a patch store is a sample of the whole. As long as a step gains more than sampling
errors cost, more rows would only make it slower; then the prefix is doubled (Newling & Fleuret
2016, arXiv 1602.02934, who compare the noise of each centroid with its move). The last steps run on
all rows. On the way, centroids are added and removed where that helps (see `breathing`).
"""

import math
from dataclasses import dataclass, field

import numpy as np

from pipeline.breathing import Breathing
from pipeline.empty_clusters import fill_empty
from pipeline.executors import Executor
from pipeline.passes import Fit, History, Stopped, final_fit, mean_squared_error, stopped_by
from pipeline.progress import Progress
from pipeline.streaming import centroid_dtype

FIRST_ROWS, FIRST_PER_CENTROID = 1 << 17, 100  # of the shortest prefix
MOVE_ROWS, MOVE_PER_CENTROID = 1 << 21, 300  # of that on which centroids are added, removed
ADDED = 2.0  # centroids for each √K, in the first round
PART = 0.07  # of the centroids that are removed at once; utilities hold for few at a time
INHALE_STEPS, PART_STEPS, LAST_STEPS = 2, 1, 3  # of Lloyd with those added, and after a removal
# Steps go farther than to the means, which takes six for ten (Lee, Baek & Sung 1997, Modified
# K-means algorithm for vector quantizer design, IEEE Signal Processing Letters 4; 1.8 there).
FARTHER = 1.7
USUAL_STEPS = 4  # on a prefix
ENOUGH = 4e-4  # gain of a pass below which rounds begin


def prefixes(n: int, k: int, *, settled: bool) -> tuple[list[int], int]:
    """Row counts of the growing prefix, each about twice the one before; the last is n.

    settled: the centroids come from a fit on all rows, so that small samples say nothing new.
    Returns: them, and the place of the one on which centroids are moved.
    """
    sizes = [n]
    while sizes[0] >= 2 * max(FIRST_ROWS, FIRST_PER_CENTROID * k):
        sizes.insert(0, -(-sizes[0] // 2))
    enough = [size >= max(MOVE_ROWS, MOVE_PER_CENTROID * k) for size in sizes]
    moving = enough.index(True) if any(enough) else len(sizes) - 1
    return (sizes[moving:], 0) if settled else (sizes, moving)


def noise(k: int, rows: int) -> float:
    """What the sampling of so many rows adds to the MSE on all rows, relative to it.

    A mean of m rows is off by the variance of its cluster over m; summed over clusters, weighted
    by their rows, that is k / rows of the MSE.
    """
    return k / rows


def planned_rows(n: int, k: int, rounds: int, *, settled: bool) -> int:
    """Rows that the passes of a fit will see, about; for progress alone."""
    sizes, moving = prefixes(n, k, settled=settled)
    steps = sum(round_steps(k, many_of(k, place, rounds)) for place in range(rounds))
    return USUAL_STEPS * sum(sizes) + steps * sizes[moving] + n


@dataclass
class _Steps:
    """Lloyd steps on prefixes, recorded.

    means, variance: (k, d) of the clusters and mean column variance of the rows of the last step.
    """

    executor: Executor
    empty: str
    rng: np.random.Generator
    progress: Progress
    history: History = field(default_factory=History)
    means: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    variance: float = 0.0

    def step(
        self,
        centroids: np.ndarray,
        rows: int,
        heirs: np.ndarray | None = None,
        *,
        length: float = FARTHER,
    ) -> tuple[np.ndarray, float]:
        """One step, `length` times as far as to the means, which are kept.

        Returns: the new centroids, and the MSE on these rows of those given.
        """
        sums, seconds = self.executor.run_pass(centroids, self.progress, rows, heirs)
        mse = mean_squared_error(sums.sse(centroids), sums)
        means = sums.means(centroids)
        self.means, self.variance = means.astype(centroids.dtype), sums.mean_variance()
        moved = (centroids + length * (means - centroids)).astype(centroids.dtype)
        before = self.means.copy()
        redrawn = fill_empty(
            self.means, centroids, sums, self.empty, self.executor.source, self.rng
        )
        elsewhere = np.any(before != self.means, axis=1)
        moved[elsewhere] = self.means[elsewhere]
        shift = float(np.square(self.means.astype(np.float64) - centroids).sum())
        self.history.add(sums, mse, shift=shift, redrawn=redrawn, seconds=seconds)
        self.progress.advance(0, **{"pass": self.count, "K": len(centroids), "MSE": mse})
        return moved, mse

    @property
    def count(self) -> int:
        return len(self.history.rows)

    def settle(
        self,
        centroids: np.ndarray,
        rows: int,
        heirs: np.ndarray | None = None,
        *,
        most: int,
        tol: float,
        target: float,
    ) -> tuple[np.ndarray, Stopped]:
        """Steps until one gains less than `target`, relative to the MSE; the last to the means."""
        before, length = np.inf, FARTHER
        if most < 1:
            return centroids, "max_iter"
        for _ in range(most):
            centroids, mse = self.step(centroids, rows, heirs, length=length)
            heirs = None
            if mse > before and length > 1:
                length = 1.0  # too far
            elif stopped := stopped_by(self.history, before, self.variance, tol, target):
                return self.means, stopped
            before = mse
        return self.means, "max_iter"


def fit_nested(
    executor: Executor,
    centroids: np.ndarray,
    *,
    max_iter: int,
    tol: float,
    target: float,
    empty: str,
    breathing: Breathing | None,
    rounds: int,
    settled: bool,
    rng: np.random.Generator,
    progress: Progress,
) -> Fit:
    """Steps on growing prefixes, then on all rows; assumes prepared input.

    centroids: (k, d). max_iter: most steps on each prefix, those of moves included. tol: ends the
    run on all rows when the squared shift of all centroids is at most tol times the mean variance
    of the columns. target: ends it when a pass gains less than this share of the MSE. empty: see
    `fill_empty`. breathing, rounds: what adds and removes centroids, and how often at most.
    settled: see `prefixes`. A last pass scores the centroids it ends with.
    """
    k, n = len(centroids), executor.source.n_rows
    centroids = centroids.astype(centroid_dtype(executor.source))
    steps = _Steps(executor, empty, rng, progress)
    sizes, moving = prefixes(n, k, settled=settled)
    stopped: Stopped = "max_iter"
    for place, rows in enumerate(sizes):
        last, heirs = steps.count + max_iter, None
        if place == moving and breathing is not None:
            centroids, _ = steps.settle(
                centroids, rows, most=max_iter, tol=tol, target=max(noise(k, rows), ENOUGH)
            )
            centroids, heirs = _move(steps, centroids, rows, breathing, rounds, last)
        enough = target if rows == n else max(noise(k, rows), target)
        left = last - steps.count
        centroids, stopped = steps.settle(centroids, rows, heirs, most=left, tol=tol, target=enough)
    return final_fit(
        executor,
        centroids,
        steps.history,
        empty=empty,
        rng=rng,
        updates=steps.count,
        stopped=stopped,
        progress=progress,
    )


def added(k: int) -> int:
    """How many centroids are added and removed in the first round."""
    return max(1, min(k // 2, round(ADDED * k**0.5)))


def rounds_of(k: int, wanted: int | None) -> int:
    """How many rounds of moves: as many as wanted, or as are worth their time; none for K = 1."""
    if k == 1:
        return 0
    return min(max(round(700 / k**0.5), 6), 30) if wanted is None else wanted


def many_of(k: int, place: int, rounds: int) -> int:
    """How many centroids a round moves: fewer and fewer, as ever less is out of place."""
    return math.ceil(added(k) * (1 - place / rounds))


def parts_of(k: int, surplus: int) -> int:
    """In how many parts a surplus is removed."""
    return min(surplus, math.ceil(surplus / (PART * k)))


def round_steps(k: int, many: int) -> int:
    """Steps of a round."""
    return INHALE_STEPS + PART_STEPS * (parts_of(k, many) - 1) + LAST_STEPS


def _move(
    steps: _Steps,
    centroids: np.ndarray,
    rows: int,
    breathing: Breathing,
    rounds: int,
    last: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rounds of adding and removing; one that does not help is taken back.

    last: number of steps at which to end. Returns: the centroids, and where they are not those of
    the last step, which of them takes the rows of each of those.
    """
    k = len(centroids)
    best, lowest, heirs = centroids, steps.history.mse[-1], None
    for place in range(rounds):
        many = many_of(k, place, rounds)
        if steps.count + round_steps(k, many) > last:
            break
        grown = breathing.inhale(best, many, steps.rng)
        if len(grown) == k:
            break
        for _ in range(INHALE_STEPS):
            grown, _ = steps.step(grown, rows, heirs)
            heirs = None
        fewer, mse = _shrink(steps, grown, k, rows, breathing)
        if mse < lowest:
            best, lowest = fewer, mse
        else:
            heirs = breathing.nearest_among(fewer, best)
    return best, heirs


def _shrink(
    steps: _Steps, centroids: np.ndarray, k: int, rows: int, breathing: Breathing
) -> tuple[np.ndarray, float]:
    """Remove centroids down to k, a part at a time, with steps in between.

    Returns: the k centroids, and the MSE before the last step.
    """
    surplus = len(centroids) - k
    parts = parts_of(k, surplus)
    for part in range(parts - 1, -1, -1):
        goal = k + surplus * part // parts
        heirs = np.arange(len(centroids))
        while len(centroids) > goal:
            centroids, passed_on = breathing.exhale(centroids, len(centroids) - goal)
            heirs = passed_on[heirs]
        for step in range(PART_STEPS if part else LAST_STEPS):
            centroids, mse = steps.step(centroids, rows, None if step else heirs)
    return centroids, mse
