from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import xarray

from analysis import elbow, elbow_interval, two_lines
from analysis.measures.elbow import METHODS, MIN_POINTS, RESAMPLES
from storage import InputError

STUDY = [*range(100, 1000, 100), *range(1000, 10001, 1000)]


def bent(k: np.ndarray, at: float, before: float, after: float) -> np.ndarray:
    """Two power laws that meet at one K, with an MSE of 100 there."""
    relative = k / at
    return 100 * np.where(relative < 1, relative**before, relative**after)


def test_elbow_of_two_straight_lines_is_where_they_meet() -> None:
    k = np.arange(0, 101, 10)
    mse = np.where(k <= 30, 100 - 3 * k, 10 - (k - 30) * 0.1)
    assert elbow(k, mse) == 30


@pytest.mark.parametrize(("largest", "tangent"), [(100, 10), (400, 20)])
def test_elbow_of_a_hyperbola_is_its_tangent_to_the_chord(largest: int, tangent: int) -> None:
    # 1/k from 1 to n has the slope of its chord at √n: an elbow depends on the range.
    k = np.arange(1, largest + 1)
    assert elbow(k, 10 / k) == tangent


@pytest.mark.parametrize(
    ("k", "mse"),
    [
        ([10, 20], [2.0, 1.0]),
        ([10], [2.0]),
        ([10, 20, 30], [3.0, 2.0, 1.0]),
        ([1, 2, 4, 8], [0.7, 0.6, 0.4, 0.0]),
        ([10, 20, 30], [1.0, 1.0, 1.0]),
        ([10, 20, 30], [3.0, 2.9, 1.0]),
    ],
)
def test_no_elbow_without_a_curve_below_its_chord(k: Sequence[int], mse: Sequence[float]) -> None:
    assert elbow(k, mse) is None


@pytest.mark.parametrize("at", [300, 700, 2000, 7000])
def test_two_power_laws_part_where_they_meet(at: int) -> None:
    k = np.array(STUDY)
    bend = two_lines(k, bent(k, at, -0.5, -0.1))
    assert bend is not None
    assert bend.k == at == elbow(k, bent(k, at, -0.5, -0.1), method="lines")
    assert (bend.before, bend.after) == pytest.approx((-0.5, -0.1))


def test_two_lines_are_those_of_a_search_through_all_pairs() -> None:
    k = np.array(STUDY, float)
    mse = bent(k, 800, -0.5, -0.2) * np.exp(0.01 * np.random.default_rng(1).normal(size=len(k)))
    x, y = np.log(k), np.log(mse)

    def error(at: int) -> float:
        parts = [slice(0, at + 1), slice(at, None)]
        residuals = [np.polyval(np.polyfit(x[p], y[p], 1), x[p]) - y[p] for p in parts]
        return sum(len(part) * np.sqrt(np.mean(part**2)) for part in residuals)

    best = min(range(2, len(k) - 2), key=error)
    bend = two_lines(k, mse)
    assert bend is not None
    assert bend.k == k[best]
    assert bend.before == pytest.approx(np.polyfit(x[: best + 1], y[: best + 1], 1)[0])
    assert bend.after == pytest.approx(np.polyfit(x[best:], y[best:], 1)[0])


@pytest.mark.parametrize(
    ("k", "mse"),
    [
        (STUDY[:5], bent(np.array(STUDY[:5]), 300, -0.5, -0.1)),
        (STUDY, bent(np.array(STUDY), 700, -0.1, -0.5)),
        (STUDY, bent(np.array(STUDY), 700, -0.4, -0.4)),
        ([1, 2, 3, 4, 5, 6], [6.0, 5.0, 4.0, 3.0, 2.0, 0.0]),
    ],
    ids=["five points", "steeper after", "one power law", "an MSE of zero"],
)
def test_no_bend_is_feigned(k: Sequence[int], mse: Sequence[float]) -> None:
    assert elbow(k, mse, method="lines") is None
    assert elbow_interval(k, mse, method="lines") is None


def test_noise_on_a_power_law_is_no_bend() -> None:
    k, generator = np.array(STUDY, float), np.random.default_rng(0)
    noisy = [k**-0.4 * np.exp(0.02 * generator.normal(size=len(k))) for _ in range(50)]
    assert [mse for mse in noisy if two_lines(k, mse)] == []


@pytest.mark.parametrize("method", METHODS)
def test_an_elbow_does_not_hang_on_containers_order_or_units(method: str) -> None:
    k = np.array(STUDY)
    mse = xarray.DataArray(bent(k, 700, -0.6, -0.1), dims="k", coords={"k": k})
    found = elbow(mse["k"], mse, method=method)
    assert type(found) is int
    assert found == elbow(list(k), mse.values.tolist(), method=method)
    assert found == elbow(k[::-1], mse.values[::-1], method=method)
    assert 7 * found == elbow(7 * k, 1e-4 * mse.values, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_a_sharp_elbow_is_found_by_all_that_hold_it(method: str) -> None:
    k = np.array(STUDY)
    sharp = {
        "chord": np.where(k <= 700, 100 - 0.1 * (k - 700), 100 - 0.001 * (k - 700)),
        "lines": bent(k, 700, -3, -0.01),
    }[method]
    interval = elbow_interval(k, sharp, method=method)
    assert interval is not None
    assert interval.estimate == 700
    assert interval.agreement > 0.95
    # Halves that lack it take one beside it.
    assert 400 <= interval.low <= 700 < interval.high <= 2000
    assert interval.resamples == len(k) + RESAMPLES


def test_a_smooth_curve_has_a_wide_interval_and_moves_with_the_range() -> None:
    k = np.array(STUDY)
    interval = elbow_interval(k, 1e4 * k**-0.4)
    assert interval is not None
    assert interval.low < interval.estimate < interval.high
    by_largest = list(interval.by_largest.items())
    assert by_largest[0] == (300, 200)
    assert by_largest[-1] == (10000, interval.estimate)
    elbows = [found or 0 for _, found in by_largest]
    assert elbows == sorted(elbows)
    assert elbows[-1] >= 5 * elbows[0]


@pytest.mark.parametrize("method", METHODS)
def test_the_interval_is_that_of_all_resamples(method: str) -> None:
    # So few K that halves are too small, and only those with one left out count.
    k = np.array(STUDY[: MIN_POINTS[method] + 1])
    mse = bent(k, 300, -1, -0.1)
    interval = elbow_interval(k, mse, method=method)
    assert interval is not None
    left_out = [np.delete(np.arange(len(k)), place) for place in range(len(k))]
    elbows = [elbow(k[some], mse[some], method=method) for some in left_out]
    holding = [interval.estimate in k[some] for some in left_out]
    assert interval.resamples == len(k)
    assert interval.low == min(found for found in elbows if found)
    assert interval.high == max(found for found in elbows if found)
    agreeing = [found == interval.estimate for found in elbows]
    assert interval.agreement == pytest.approx(sum(agreeing) / sum(holding))


def test_the_interval_is_the_same_every_time_and_hangs_on_the_seed() -> None:
    k = np.array(STUDY)
    mse = 1e4 * k**-0.4 * (1 + 0.02 * np.sin(k))
    assert elbow_interval(k, mse) == elbow_interval(k, mse)
    found = {elbow_interval(k, mse, seed=seed) for seed in range(8)}
    assert len({interval.agreement for interval in found if interval}) > 1


def test_three_points_leave_nothing_to_resample() -> None:
    interval = elbow_interval([100, 200, 300], [9.0, 3.0, 1.0])
    assert interval is not None
    assert interval.by_largest == {300: 200}
    assert (interval.low, interval.estimate, interval.high) == (200, 200, 200)
    assert interval.resamples == 0
    assert np.isnan(interval.agreement)


@pytest.mark.parametrize("measure", [elbow, elbow_interval])
def test_unknown_methods_and_unequal_lengths_are_refused(measure: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="'knee' is unknown: give one of chord, lines"):
        measure([1, 2, 3], [3.0, 2.0, 1.0], method="knee")
    with pytest.raises(InputError, match="3 sizes and 2 scores"):
        measure([1, 2, 3], [2.0, 1.0])
