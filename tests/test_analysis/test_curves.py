import math
from collections.abc import Sequence

import numpy as np
import pytest
import xarray

from analysis import elbow, mse_curve, usage
from analysis.curves import gains_per_doubling, power_law
from analysis.use import usage_of_counts
from storage import InputError


def test_elbow_of_two_straight_lines_is_where_they_meet() -> None:
    k = np.arange(0, 101, 10)
    mse = np.where(k <= 30, 100 - 3 * k, 10 - (k - 30) * 0.1)
    assert elbow(k, mse) == 30


def test_elbow_of_a_hyperbola_is_its_tangent_to_the_chord() -> None:
    # 1/k from 0.1 to 10 has the slope of its chord at k = 1.
    k = np.arange(1, 101)
    assert elbow(k, 10 / k) == 10


def test_elbow_does_not_depend_on_order_or_scale() -> None:
    k, mse = [50, 10, 20, 100], [4.0, 10.0, 5.0, 3.0]
    assert elbow(k, mse) == elbow(sorted(k), [10e6, 5e6, 4e6, 3e6]) == 20


def test_elbow_depends_on_the_range() -> None:
    k = np.arange(1, 401)
    assert elbow(k, 10 / k) == 20


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


def test_elbow_wants_one_score_per_size() -> None:
    with pytest.raises(InputError, match="3 sizes and 2 scores"):
        elbow([1, 2, 3], [2.0, 1.0])


def test_power_law_finds_its_own_exponent() -> None:
    k = np.array([10.0, 30.0, 100.0])
    exponent, factor = power_law(k, 7 * k**-0.4)
    assert exponent == pytest.approx(-0.4)
    assert factor == pytest.approx(7)
    assert power_law(k[:1], k[:1]) is None
    assert power_law(k, np.array([1.0, 0.5, 0.0])) is None


def test_gain_per_doubling_by_hand() -> None:
    # Halved by one doubling; halved by two, so each takes 1 - sqrt(1/2).
    gains = gains_per_doubling([10, 20, 80], [8.0, 4.0, 2.0])
    assert gains == pytest.approx([0.5, 1 - math.sqrt(0.5)])


def test_usage_by_hand() -> None:
    use = usage_of_counts(np.array([2, 1, 0, 1]))
    assert use.k == 4
    assert use.live == 3
    assert use.perplexity == pytest.approx(2 ** (0.5 + 0.25 * 2 + 0.25 * 2))
    assert use.largest_share == 0.5
    assert use.half == 1


def test_even_use_has_a_perplexity_of_k() -> None:
    use = usage_of_counts(np.full(10, 7))
    assert use.perplexity == pytest.approx(10)
    assert use.half == 5


def test_usage_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="no row"):
        usage_of_counts(np.zeros(3, np.int64))


def dictionary(k: int, heldout: float | None) -> xarray.Dataset:
    scores = {"mse": 100 / k, "passes": k, "rows_seen": 9 * k, "seconds": 0.5, "converged": True}
    return xarray.Dataset(
        {"count": (("atom",), np.arange(1, k + 1))},
        attrs={"k": k, "heldout_mse": heldout} | scores,
    )


def test_mse_curve_is_in_order_of_k() -> None:
    tree = xarray.DataTree.from_dict({"k00005": dictionary(5, None), "k00002": dictionary(2, 60.0)})
    curve = mse_curve(tree)
    assert curve["k"].values.tolist() == [2, 5]
    assert curve["mse"].values.tolist() == [50, 20]
    assert curve["heldout_mse"].sel(k=2) == 60
    assert np.isnan(curve["heldout_mse"].sel(k=5))
    assert curve["passes"].values.tolist() == [2, 5]
    assert curve["perplexity"].sel(k=5) == pytest.approx(usage(tree["k00005"]).perplexity)


def test_mse_curve_of_an_empty_tree_is_refused() -> None:
    with pytest.raises(InputError, match="no dictionaries"):
        mse_curve(xarray.DataTree())
