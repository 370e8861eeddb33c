"""Where the curve of MSE against K bends: two methods, and how far each is to be trusted.

An elbow depends on the range of K. Every curve that flattens has a point farthest below its chord,
and a power law, which looks alike at every scale, has it wherever the range puts it. So an elbow
comes with an interval, from the same method on other choices of K, and with what it would be had
the range ended earlier.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import xarray

from analysis.measures.mse_curve import chord
from storage import InputError

METHODS = ("chord", "lines")
MIN_POINTS = {"chord": 3, "lines": 6}  # two lines through five points fit any
IMPROVED = 0.5  # what two lines leave of one line's error: chance leaves more, a bend less
RESAMPLES = 200
CONFIDENCE = 0.95
_ROUNDING = 1e-9

Numbers = Sequence[int] | Sequence[float] | np.ndarray | xarray.DataArray


class Bend(NamedTuple):
    """Where two straight lines on logarithmic axes meet: at k; the slopes before and after."""

    k: int
    before: float
    after: float


@dataclass(frozen=True)
class ElbowInterval:
    """An elbow with its uncertainty.

    Attributes:
        method: one of METHODS.
        estimate: the elbow of all points.
        low: of the central 95 % of the elbows of the resamples, the estimate included, the least.
        high: the largest of them.
        agreement: share of the resamples with the estimate in them whose elbow it is; NaN where
            there are none.
        resamples: how many there were, those without an elbow included.
        by_largest: the elbow if the range of K ended at each K; None where there is none.
    """

    method: str
    estimate: int
    low: int
    high: int
    agreement: float
    resamples: int
    by_largest: dict[int, int | None] = field(hash=False)


def elbow(k: Numbers, mse: Numbers, *, method: str = "chord") -> int | None:
    """The K at which a falling curve bends most. It depends on the range of K.

    Args:
        k: sizes, in any order.
        mse: the score of each.
        method: "chord": where the curve lies farthest below the chord from its first to its last
            point, both axes linear and scaled to 0…1, without smoothing. Source: Satopää, Albrecht,
            Irwin, Raghavan, "Finding a 'Kneedle' in a Haystack", 2011.
            "lines": where two straight lines on logarithmic axes meet; see `two_lines`.

    Returns:
        One of `k`; None for too few points (3 and 6), a curve that is nowhere below its chord, or
        one that two lines do not fit much better than one.

    Raises:
        InputError: the two differ in length, or an unknown method.
    """
    sizes, scores = _ascending(k, mse, method)
    return _elbow(sizes, scores, method)


def two_lines(k: Numbers, mse: Numbers) -> Bend | None:
    """Fit two straight lines to log mse against log k that part at one of the sizes.

    On these axes a power law is one straight line, whatever its range, so a bend says that the
    exponent changes; and the result depends neither on the unit of the MSE nor on that of K. The
    point where they part belongs to both; of all, the one with the smallest mean of the two root
    mean squared residuals, weighted by points, is taken.
    Source: Salvador and Chan, "Determining the number of clusters/segments in hierarchical
    clustering/segmentation algorithms", ICTAI 2004 (the L method), with logarithmic axes.

    Args:
        k: sizes, in any order.
        mse: the score of each.

    Returns:
        The bend; None for fewer than 6 points, a K or MSE of zero, two lines that leave more than
        IMPROVED of one line's residuals, or a curve that grows steeper.

    Raises:
        InputError: the two differ in length.
    """
    sizes, scores = _ascending(k, mse, "lines")
    if len(sizes) < MIN_POINTS["lines"] or sizes[0] <= 0 or scores.min() <= 0:
        return None
    x, y = np.log(sizes), np.log(scores)
    n = len(x)
    left_slopes, left = _lines_through_first(x, y)
    right_slopes, right = (half[::-1] for half in _lines_through_first(x[::-1], y[::-1]))
    points = np.arange(1, n + 1)
    errors = (points * left + points[::-1] * right) / (n + 1)
    at = 1 + int(np.argmin(errors[1:-1]))
    if errors[at] > IMPROVED * left[-1] or left[-1] < _ROUNDING:
        return None
    if left_slopes[at] >= right_slopes[at]:
        return None
    return Bend(int(sizes[at]), float(left_slopes[at]), float(right_slopes[at]))


def elbow_interval(
    k: Numbers, mse: Numbers, *, method: str = "chord", seed: int = 0
) -> ElbowInterval | None:
    """An elbow, and where it would be if other K had been tried.

    Resamples: each K left out in turn, and RESAMPLES random halves of the K. The ends can be left
    out too: while they stay, the point farthest below their chord is the same whatever lies
    between. `by_largest` shows what a shorter range does. The noise of the MSE itself (other
    images, other seeds) is not in it: for that, dictionaries would have to be learned again.

    Args:
        k: sizes, in any order.
        mse: the score of each.
        method: as for `elbow`.
        seed: of the random halves; the same seed gives the same interval.

    Returns:
        The elbow with its interval; None where there is no elbow.

    Raises:
        InputError: as for `elbow`.
    """
    sizes, scores = _ascending(k, mse, method)
    estimate = _elbow(sizes, scores, method)
    if estimate is None:
        return None
    n, fewest = len(sizes), MIN_POINTS[method]
    choices = [choice for choice in _resamples(n, seed) if len(choice) >= fewest]
    found = [_elbow(sizes[choice], scores[choice], method) for choice in choices]
    holding = [
        elbow == estimate
        for elbow, choice in zip(found, choices, strict=True)
        if estimate in sizes[choice]
    ]
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    known = [elbow for elbow in found if elbow is not None] or [estimate]
    low, high = np.quantile(known, tails, method="inverted_cdf")
    return ElbowInterval(
        method=method,
        estimate=estimate,
        low=min(int(low), estimate),
        high=max(int(high), estimate),
        agreement=float(np.mean(holding)) if holding else float("nan"),
        resamples=len(choices),
        by_largest={
            int(sizes[end - 1]): _elbow(sizes[:end], scores[:end], method)
            for end in range(fewest, n + 1)
        },
    )


def _ascending(k: Numbers, mse: Numbers, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and scores as float64, by size."""
    if method not in METHODS:
        raise InputError(f"method={method!r} is unknown: give one of {', '.join(METHODS)}")
    sizes, scores = np.asarray(k, np.float64), np.asarray(mse, np.float64)
    if len(sizes) != len(scores):
        raise InputError(
            f"{len(sizes)} sizes and {len(scores)} scores do not match: give one score each"
        )
    order = np.argsort(sizes)
    return sizes[order], scores[order]


def _elbow(sizes: np.ndarray, scores: np.ndarray, method: str) -> int | None:
    """The elbow of prepared points, by size ascending."""
    if method == "lines":
        bend = two_lines(sizes, scores)
        return None if bend is None else bend.k
    if len(sizes) < MIN_POINTS["chord"]:
        return None
    depth = chord(sizes, scores) - scores
    deepest = int(np.argmax(depth))
    # Rounding leaves a straight line a hair off its own chord.
    if depth[deepest] <= _ROUNDING * float(np.ptp(scores)):
        return None
    return int(sizes[deepest])


def _lines_through_first(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and root mean squared residual of the line through the first 1, 2, … points."""
    x, y = x - x.mean(), y - y.mean()  # keeps the differences of sums exact
    n = np.arange(1, len(x) + 1)
    sum_x, sum_y = np.cumsum(x), np.cumsum(y)
    spread_x = np.maximum(np.cumsum(x**2) - sum_x**2 / n, np.finfo(float).tiny)
    spread_y = np.cumsum(y**2) - sum_y**2 / n
    joint = np.cumsum(x * y) - sum_x * sum_y / n
    residuals = np.maximum(spread_y - joint**2 / spread_x, 0)
    residuals[:2] = 0  # through one or two points
    return joint / spread_x, np.sqrt(residuals / n)


def _resamples(n: int, seed: int) -> list[np.ndarray]:
    """Places of the points that each resample keeps, ascending: all but one, and halves."""
    generator = np.random.default_rng(seed)
    halves = [np.sort(generator.choice(n, (n + 1) // 2, replace=False)) for _ in range(RESAMPLES)]
    return [*(np.delete(np.arange(n), place) for place in range(n)), *halves]
