import math

import numpy as np
import pytest
import xarray

from analysis import decibels_per_bit, dimensions_of_slope, mse_curve
from analysis.measures.mse_curve import gains_per_doubling, power_law
from analysis.measures.usage import usage_of_counts
from storage import InputError


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


def test_decibels_per_bit_by_hand() -> None:
    # Halved by one bit: 3.01 dB; a tenth after two more: 5 dB each.
    slopes = decibels_per_bit([3, 4, 6], [20.0, 10.0, 1.0])
    assert slopes == pytest.approx([10 * math.log10(2), 5])


@pytest.mark.parametrize("d", [1, 5, 25])
def test_the_slope_of_the_best_quantiser_gives_its_dimensions(d: int) -> None:
    rate = np.array([6.0, 7.5, 10.0])
    for slope in decibels_per_bit(rate, 7 * 2 ** (-2 * rate / d)):
        assert slope == pytest.approx(6.0206 / d, rel=1e-5)
        assert dimensions_of_slope(slope) == pytest.approx(d)


def test_no_slope_without_a_rise_of_the_rate_or_with_no_error_left() -> None:
    slopes = decibels_per_bit([3, 3, 4, 5], [8.0, 4.0, 2.0, 0.0])
    assert np.isnan(slopes).tolist() == [True, False, True]
    assert dimensions_of_slope(0.0) == math.inf
    with pytest.raises(InputError, match="2 rates and 3 scores"):
        decibels_per_bit([1, 2], [3.0, 2.0, 1.0])


def dictionary(k: int, heldout: float | None) -> xarray.Dataset:
    scores = {"mse": 100 / k, "passes": k, "rows_seen": 9 * k, "seconds": 0.5, "converged": True}
    return xarray.Dataset(
        {"count": (("atom",), np.arange(1, k + 1))},
        attrs={"k": k, "heldout_mse": heldout, "variance": 200.0} | scores,
    )


def tree(*dictionaries: xarray.Dataset, dtype: str = "uint8") -> xarray.DataTree:
    found = xarray.DataTree.from_dict({f"k{d.attrs['k']:05d}": d for d in dictionaries})
    found.attrs["source"] = {"dtype": dtype}
    return found


def test_mse_curve_is_in_order_of_k() -> None:
    curve = mse_curve(tree(dictionary(5, None), dictionary(2, 60.0)))
    assert curve["k"].values.tolist() == [2, 5]
    assert curve["mse"].values.tolist() == [50, 20]
    assert curve["heldout_mse"].sel(k=2) == 60
    assert np.isnan(curve["heldout_mse"].sel(k=5))
    assert curve["passes"].values.tolist() == [2, 5]
    use = usage_of_counts(np.arange(1, 6))
    for name in ("perplexity", "gini", "entropy", "half", "live"):
        assert curve[name].sel(k=5) == pytest.approx(use[name])


def test_mse_curve_gives_rate_and_distortion() -> None:
    curve = mse_curve(tree(dictionary(4, 60.0), dictionary(16, 60.0))).sel(k=4)
    assert curve["rate"] == 2
    assert curve["rmse"] == 5
    assert curve["explained"] == 0.875
    assert curve["psnr"] == pytest.approx(10 * math.log10(255**2 / 25))


def test_mse_curve_names_its_units() -> None:
    curve = mse_curve(tree(dictionary(4, 60.0)))
    for name in (*curve.data_vars, "k"):
        assert curve[name].attrs["units"]
        assert curve[name].attrs["long_name"]
    assert curve["mse"].attrs["units"] == "squared grey levels"
    assert curve["rmse"].attrs["units"] == "grey levels"
    floats = mse_curve(tree(dictionary(4, 60.0), dtype="float32"))
    assert floats["heldout_mse"].attrs["units"] == "squared pixel levels"
    assert floats["psnr"] == pytest.approx(-10 * math.log10(25))


def test_no_error_and_no_variance_are_no_warnings() -> None:
    exact = dictionary(4, None)
    exact.attrs |= {"mse": 0.0, "variance": 0.0}
    curve = mse_curve(tree(exact))
    assert curve["psnr"] == math.inf
    assert np.isnan(curve["explained"])


def test_trees_without_dictionaries_or_pixels_are_refused() -> None:
    with pytest.raises(InputError, match="no dictionaries"):
        mse_curve(xarray.DataTree())
    with pytest.raises(InputError, match="what its pixels are"):
        mse_curve(xarray.DataTree.from_dict({"k00004": dictionary(4, None)}))
