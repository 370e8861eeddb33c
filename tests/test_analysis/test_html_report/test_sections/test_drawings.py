"""What the figures with axes draw, on small made-up data."""

import numpy as np
import pytest
import xarray
from matplotlib.axes import Axes

from analysis.html_report.figures.axes import name_ends, spread, written_out
from analysis.html_report.figures.style import new_figure, to_png
from analysis.html_report.sections.change import use_figure
from analysis.html_report.sections.composition import classes_figure, extreme_classes
from analysis.html_report.sections.coverage import within_figure
from analysis.html_report.sections.dictionaries import convergence_figure
from analysis.html_report.sections.elbow import mse_figure
from analysis.html_report.sections.kinds import kinds_figure
from analysis.html_report.sections.rate import rate_figure
from tests.test_analysis.test_html_report.made_up import GREY_LEVELS

SIZES = np.array([4, 16, 64])


def scores(mse: list[float], heldout: float = np.nan) -> xarray.Dataset:
    """Scores over SIZES, or the first of them."""
    k = SIZES[: len(mse)]
    with np.errstate(divide="ignore"):
        psnr = 10 * np.log10(255.0**2 / np.array(mse))
    columns = {
        "mse": np.array(mse),
        "heldout_mse": np.array(mse) + heldout,
        "psnr": psnr,
        "rate": np.log2(k),
        "entropy": np.log2(k / 2),
        "perplexity": k / 2,
        "live": k,
        "half": k // 4,
        "gini": k / 100,
    }
    return xarray.Dataset({name: ("k", values) for name, values in columns.items()}, {"k": k})


def line(axes: Axes, label: str) -> np.ndarray:
    """Points of the line with this label; (2, n)."""
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return np.array(found.get_data(), float)


def names(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_mse_is_drawn_on_both_axes_with_its_elbow_and_the_elbows_interval() -> None:
    curve = scores([1024.0, 256.0, 64.0], heldout=3.0)
    figure = mse_figure(curve, 16, GREY_LEVELS, interval=(8.0, 32.0))
    for axes in figure.axes:
        np.testing.assert_array_equal(line(axes, "training"), [SIZES, [1024, 256, 64]])
        np.testing.assert_array_equal(line(axes, "held out"), [SIZES, [1027, 259, 67]])
        (band,) = axes.patches
        assert (band.get_x(), band.get_x() + band.get_width()) == (8, 32)
        assert axes.get_xlabel() == "number of centroids K"
    linear, logarithmic = figure.axes
    assert names(linear) == ["training", "held out", "elbow's interval"]
    assert "elbow: K = 16, MSE 256.0" in [text.get_text() for text in linear.texts]
    assert linear.get_ylabel() == "MSE (squared grey levels)"
    assert logarithmic.get_xscale() == logarithmic.get_yscale() == "log"
    assert logarithmic.texts[0].get_text() == "MSE ∝ K$^{−1.00}$"


def test_mse_without_elbow_interval_and_held_out_images_has_one_curve() -> None:
    linear, logarithmic = mse_figure(scores([9.0, 3.0]), None, GREY_LEVELS).axes
    assert names(linear) == ["training"]
    assert not linear.patches
    assert not linear.texts
    assert len(logarithmic.lines) == 2  # and the power law


@pytest.mark.parametrize("mse", [[9.0, 3.0, 0.0], [0.0, 0.0]])
def test_no_error_at_all_is_drawn_too(mse: list[float]) -> None:
    figure = mse_figure(scores(mse), None, GREY_LEVELS)
    to_png(figure)
    linear, logarithmic = figure.axes
    np.testing.assert_array_equal(line(linear, "training")[1], mse)
    assert linear.get_ylim()[1] > 0
    assert logarithmic.get_yscale() == ("log" if any(mse) else "linear")


def test_rate_is_drawn_with_its_slope_between_the_sizes() -> None:
    # A fourth of the MSE is 6.02 dB; log2 K grows by 2 bits, the entropy of K/2 by as much.
    left, right = rate_figure(scores([255.0**2, 255.0**2 / 4, 255.0**2 / 16]), 2.0).axes
    np.testing.assert_allclose(left.lines[0].get_data(), [[2, 4, 6], [0, 6.0206, 12.0412]], 1e-5)
    np.testing.assert_allclose(left.lines[1].get_xdata(), [1, 3, 5])
    np.testing.assert_allclose(right.lines[0].get_data(), [[3, 5], [3.0103, 3.0103]], 1e-5)
    np.testing.assert_allclose(right.lines[1].get_data(), [[2, 4], [3.0103, 3.0103]], 1e-5)
    # The law with the exponent −1, which is D = 2, has the slope of the curve, which follows it.
    np.testing.assert_allclose(right.lines[2].get_ydata(), 3.0103, 1e-5)
    assert names(right) == ["6.02 / D, D = 2.0"]
    assert right.get_ylim()[0] == 0
    assert (left.get_ylabel(), right.get_ylabel()) == ("PSNR (dB)", "gain (dB per bit)")


def test_rates_without_error_or_more_entropy_have_no_slope() -> None:
    curve = scores([4.0, 1.0, 0.0])
    curve["entropy"][:] = 2.0
    left, right = rate_figure(curve, None).axes
    assert np.isfinite(left.lines[0].get_ydata()).tolist() == [True, True, False]
    assert np.isfinite(right.lines[0].get_ydata()).tolist() == [True, False]
    assert not np.isfinite(right.lines[1].get_ydata()).any()
    assert len(right.lines) == 2
    to_png(left.figure)  # it can be drawn


def test_classes_are_rows_and_dictionaries_dots() -> None:
    mse = np.array([[8.0, 4.0, 2.0], [80.0, 40.0, 20.0]])
    by_class = xarray.Dataset({"mse": (("k", "label"), mse)}, {"k": [16, 4], "label": list("abc")})
    (axes,) = classes_figure(by_class, GREY_LEVELS).axes
    np.testing.assert_array_equal(line(axes, "K = 16"), [[8, 4, 2], [0, 1, 2]])
    np.testing.assert_array_equal(line(axes, "K = 4"), [[80, 40, 20], [0, 1, 2]])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first on top
    assert axes.get_xscale() == "log"
    forms = {(one.get_marker(), one.get_color()) for one in axes.lines}
    assert len(forms) == 2


def test_classes_have_their_names_where_they_are_known() -> None:
    mse = (("k", "label"), [[8.0, 4.0]])
    by_class = xarray.Dataset({"mse": mse}, {"k": [4], "name": ("label", ["shoe", "bag"])})
    (axes,) = classes_figure(by_class, GREY_LEVELS).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["shoe", "bag"]


def test_of_many_classes_the_best_and_the_worst_are_drawn() -> None:
    last = np.random.default_rng(0).permutation(100.0 + np.arange(90))
    labels = {"k": [4, 8], "label": np.arange(90)}
    scores = xarray.Dataset({"mse": (("k", "label"), [last[::-1], last])}, labels)
    shown = extreme_classes(scores)
    assert shown["label"].values.tolist() == sorted(shown["label"].values.tolist())
    assert sorted(shown["mse"].sel(k=8).values) == [*range(100, 120), *range(170, 190)]
    assert extreme_classes(shown).identical(shown)


def test_classes_without_error_are_drawn_on_a_linear_axis() -> None:
    by_class = xarray.Dataset({"mse": (("k", "label"), [[0.0, 1.0]])}, {"k": [4], "label": [0, 1]})
    assert classes_figure(by_class, GREY_LEVELS).axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("count", [4, 10])
def test_kinds_are_lines_named_at_their_ends(count: int) -> None:
    kinds = [f"kind {place}" for place in range(count)]
    of_centroids = np.linspace(0, 0.4, 3 * count).reshape(3, count)
    shares = xarray.Dataset(
        {
            "of_centroids": (("k", "kind"), of_centroids),
            "of_patches": (("kind", "k"), of_centroids.T / 2),
        },
        {"k": SIZES, "kind": kinds},
    )
    left, right = kinds_figure(shares).axes
    for axes, values in ((left, of_centroids), (right, of_centroids / 2)):
        drawn = np.array([one.get_ydata() for one in axes.lines])
        np.testing.assert_allclose(drawn, 100 * values.T)
        assert [text.get_text() for text in axes.texts] == kinds
        assert axes.get_ylim() == (0, 42)
        looks = {(one.get_color(), one.get_marker(), one.get_linestyle()) for one in axes.lines}
        assert len(looks) == count
    assert left.get_ylabel() == "per cent of the centroids"


def within(*shares: float) -> xarray.Dataset:
    return xarray.Dataset({"within": ("epsilon", list(shares))}, {"epsilon": [1.0, 2.0, 4.0, 8.0]})


def test_share_within_an_error_against_the_error_and_against_k() -> None:
    coverage = {4: within(0, 0.2, 0.9, 1), 16: within(0.1, 0.5, 0.95, 1)}
    coverage[64] = within(0.3, 0.8, 1, 1)
    left, right = within_figure(coverage, GREY_LEVELS).axes
    assert len(left.lines) == 3
    np.testing.assert_allclose(left.lines[1].get_data(), [[1, 2, 4, 8], [10, 50, 95, 100]])
    assert left.get_xlim() == (0, 8)  # from there on all are within
    assert names(left) == ["4", "16", "64"]
    assert "grey levels" in left.get_xlabel()
    assert [text.get_text() for text in right.texts] == ["ε = 1", "ε = 2", "ε = 4"]
    np.testing.assert_allclose(right.lines[1].get_data(), [SIZES, [20, 50, 80]])


def test_errors_that_no_patch_is_within_are_not_told_of() -> None:
    few = {k: within(0, 0.4, 0.6, 1) for k in (4, 9)}  # a fifth: 0 is as near as 0.4
    right = within_figure(few, GREY_LEVELS).axes[1]
    assert [text.get_text() for text in right.texts] == ["ε = 2", "ε = 4", "ε = 8"]


def test_one_dictionary_that_leaves_no_error_is_drawn_too() -> None:
    exact = within(1, 1, 1, 1).assign_coords(epsilon=[0.0, 2.0, 4.0, 8.0])
    (only,) = within_figure({1: exact}, GREY_LEVELS).axes  # against K it would be one point
    assert only.get_xlim() == (0, 2)
    low = within(0.3, 0.5, 0.7, 0.9)  # not all within the largest error
    assert within_figure({1: low}, GREY_LEVELS).axes[0].get_xlim() == (0, 8)


def test_many_dictionaries_are_shown_by_a_few_that_are_spread_on_a_logarithmic_scale() -> None:
    sizes = [*range(100, 1000, 100), *range(1000, 10001, 1000)]
    left, right = within_figure({k: within(0, 0.2, 0.5, 1) for k in sizes}, GREY_LEVELS).axes
    assert names(left) == ["100", "300", "600", "2,000", "4,000", "10,000"]
    assert all(len(one.get_xdata()) == len(sizes) for one in right.lines)


def test_of_one_dictionary_there_is_no_chart_of_one_point() -> None:
    (right,) = use_figure(scores([9.0]).assign_coords(k=[7]), {7: np.array([7, 2, 1])}).axes
    np.testing.assert_allclose(line(right, "7"), [[1, 2, 3], [0.7, 0.2, 0.1]])


def test_a_rising_error_is_a_slope_below_zero() -> None:
    right = rate_figure(scores([64.0, 256.0, 16.0]), None).axes[1]
    slopes = right.lines[0].get_ydata()
    assert slopes[0] < 0 < slopes[1]
    low, high = right.get_ylim()
    assert low < min(slopes)
    assert max(slopes) < high


def test_use_is_drawn_in_per_cent_of_k_and_by_rank() -> None:
    counts = {4: np.array([1, 5, 0, 2]), 16: np.arange(16)}
    left, right = use_figure(scores([9.0, 3.0]), counts).axes
    np.testing.assert_array_equal(line(left, "perplexity"), [[4, 16], [50, 50]])
    np.testing.assert_array_equal(line(left, "half"), [[4, 16], [25, 25]])
    np.testing.assert_allclose(line(left, "Gini"), [[4, 16], [4, 16]])
    assert [text.get_text() for text in left.texts] == ["Gini", "half", "perplexity", "live"]
    np.testing.assert_array_equal(line(right, "4"), [[1, 2, 3], [5 / 8, 2 / 8, 1 / 8]])


def test_convergence_is_what_the_error_still_exceeds_the_final_one_by() -> None:
    short = {4: (np.array([1.0, 2.0, 3.0, 4.0]), np.array([9.0, 6.0, 7.5, 7.0]))}
    (axes,) = convergence_figure(short).axes
    seen, above = axes.lines[0].get_data()
    np.testing.assert_array_equal(seen, [1, 2, 3])
    np.testing.assert_allclose(above, [200 / 7, np.nan, 50 / 7])  # 6 is below the final 7
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    long = {4: (np.array([1.0, 20.0]), np.array([9.0, 8.0]))}
    assert convergence_figure(long).axes[0].get_xscale() == "log"
    exact = {4: (np.array([1.0, 2.0]), np.array([9.0, 0.0]))}
    to_png(convergence_figure(exact))


@pytest.mark.parametrize(
    ("wanted", "placed"),
    [
        ([0.2, 0.8], [0.2, 0.8]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.0, 0.0, 0.9], [0.0, 0.1, 0.9]),
        ([0.98, 1.0], [0.9, 1.0]),
        ([0.3], [0.3]),
    ],
)
def test_names_keep_their_distance(wanted: list[float], placed: list[float]) -> None:
    np.testing.assert_allclose(spread(np.array(wanted), 0.1), placed, atol=1e-12)


def test_more_names_than_fit_share_the_room() -> None:
    np.testing.assert_allclose(spread(np.full(5, 0.5), 0.4), [0, 0.25, 0.5, 0.75, 1], atol=1e-12)


def test_ticks_have_no_exponents() -> None:
    values = (0, 1e-5, 0.5, 7, 2.5, 1500, 4e9, 0.1 + 0.2)
    told = " ".join(written_out(value) for value in values)
    assert told == "0 0.00001 0.5 7 2.5 1,500 4,000,000,000 0.3"


def test_names_stand_at_the_height_of_their_lines_in_any_order() -> None:
    axes = new_figure(3).subplots()
    axes.set_ylim(10, 20)
    name_ends(axes, [(18, "high", "red"), (12, "low", "blue")], height=2)
    assert [(text.get_text(), text.xyann[1], text.xy[1]) for text in axes.texts] == [
        ("low", pytest.approx(0.2), pytest.approx(0.2)),
        ("high", pytest.approx(0.8), pytest.approx(0.8)),
    ]
