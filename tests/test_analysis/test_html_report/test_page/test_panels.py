"""The charts of the page hold the numbers that they stand for, before any browser draws them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bokeh.models import BoxAnnotation, HoverTool, LogScale
from bokeh.plotting import figure

from analysis import centroid_kinds
from analysis.html_report.investigation import investigate
from analysis.html_report.page.charts import (
    MOST_CURVES,
    Axis,
    by_size,
    digits_form,
    mark_elbow,
    over_k,
)
from analysis.html_report.page.panels import panels
from analysis.measures.elbow import ElbowInterval
from analysis.measures.mse_curve import decibels_per_bit
from tests.test_analysis.test_html_report.test_page.conftest import Reported


def column(chart: figure, name: str) -> dict[str, Any]:
    """Columns of the data source of this name, as lists."""
    (source,) = {g.data_source for g in chart.renderers if g.data_source.name == name}
    return {key: list(values) for key, values in source.data.items()}


@pytest.fixture(scope="module")
def charts(reports: dict[str, Reported]) -> dict[str, list[figure]]:
    found, material = investigate(reports["digits"].experiment)
    return dict(panels(reports["digits"].experiment, found, material.coverage))


def test_one_dictionary_has_no_curves(reports: dict[str, Reported]) -> None:
    experiment = reports["colour"].experiment
    found, material = investigate(experiment)
    assert panels(experiment, found, material.coverage) == {}


def test_charts_hold_the_scores_of_all_k(
    charts: dict[str, list[figure]], reports: dict[str, Reported]
) -> None:
    experiment = reports["digits"].experiment
    curve = experiment.curve
    linear, logarithmic = charts["mse"]
    for chart, name in ((linear, "mse"), (logarithmic, "mse-log")):
        data = column(chart, name)
        assert data["k"] == experiment.sizes
        np.testing.assert_array_equal(data["y0"], curve["mse"])
        np.testing.assert_array_equal(data["y1"], curve["heldout_mse"])
    assert not isinstance(linear.x_scale, LogScale)
    assert isinstance(logarithmic.x_scale, LogScale)
    use = column(charts["use"][0], "use")
    np.testing.assert_allclose(use["y1"], 100 * curve["perplexity"] / curve["k"])
    np.testing.assert_allclose(use["y3"], 100 * curve["gini"])
    rate = column(charts["rate-distortion"][0], "rate-1")
    np.testing.assert_allclose(rate["x"], curve["entropy"])
    np.testing.assert_allclose(rate["y"], curve["psnr"])
    slope = column(charts["rate-distortion"][1], "slope-0")
    np.testing.assert_allclose(slope["y"], decibels_per_bit(curve["rate"], curve["mse"]))


def test_small_errors_are_drawn_too(reports: dict[str, Reported]) -> None:
    experiment = reports["digits"].experiment
    found, material = investigate(experiment)
    covered = {}
    for k, known in material.coverage.items():
        within = np.ones_like(known["within"])
        within[0] = 0.5  # all others are within the first level, as in 16 bits of which few vary
        covered[k] = known.assign(within=("epsilon", within))
    _, over = panels(experiment, found, covered)["within"]
    data = column(over, "within-k")
    assert data["k"] == experiment.sizes
    assert data["y0"] == [50.0] * len(experiment.sizes)
    assert data["y1"] == [100.0] * len(experiment.sizes)


@pytest.mark.filterwarnings("error")
def test_a_second_k_without_an_error_has_no_gain(reports: dict[str, Reported]) -> None:
    experiment = reports["digits"].experiment
    found, material = investigate(experiment)
    pair = experiment.sizes[:2]
    experiment = replace(experiment)  # with nothing cached
    experiment.__dict__["curve"] = experiment.curve.sel(k=pair).assign(
        mse=("k", [4.0, 0.0]), psnr=("k", [42.1, np.inf])
    )
    found = replace(found, sizes=pair, mse=[4.0, 0.0], exponent=None)
    _, gain = panels(experiment, found, material.coverage)["rate-distortion"]
    assert (gain.y_range.start, gain.y_range.end) == (0, pytest.approx(1.1))


def test_shares_of_kinds_are_told_but_for_kinds_that_are_nowhere(
    charts: dict[str, list[figure]], reports: dict[str, Reported]
) -> None:
    shares = centroid_kinds(reports["digits"].experiment.tree)
    there = shares["of_patches"].sel(kind=shares["of_patches"].any("k"))
    chart = charts["kinds-share"][1]
    labels = [item.label.value for item in chart.legend[0].items]
    assert labels == there["kind"].values.tolist()
    data = column(chart, "kinds-of-patches")
    for at, values in enumerate(there.transpose("kind", "k").values):
        np.testing.assert_allclose(data[f"y{at}"], 100 * values)


def test_the_pointer_is_told_all_values_at_a_k() -> None:
    lines = {"one": np.array([1.0, 2.0]), "two": np.array([3.0, 4.0])}
    chart = over_k("some", lines, np.array([10, 20]), Axis("unit"), "0.0")
    (hover,) = chart.select(HoverTool)
    assert [label for label, _ in hover.tooltips] == ["K", "one", "two"]
    assert [field.split("{")[0] for _, field in hover.tooltips] == ["@k", "@y0", "@y1"]


def test_of_many_k_some_are_drawn_the_ends_among_them() -> None:
    curves = {k: (np.arange(300.0), np.arange(300.0) * k) for k in range(1, 20)}
    chart = by_size("some", curves, Axis("x"), Axis("y"), "0.0")
    drawn = [glyph.data_source.data for glyph in chart.renderers]
    assert len(drawn) == MOST_CURVES
    assert (drawn[0]["k"][0], drawn[-1]["k"][0]) == (1, 19)
    for data in drawn:
        assert (data["x"][0], data["x"][-1]) == (0, 299)
        np.testing.assert_array_equal(data["y"], data["x"] * data["k"])


def test_an_elbow_has_its_interval_as_a_band() -> None:
    chart = over_k("some", {"one": np.ones(3)}, np.array([1, 2, 4]), Axis("y"), "0.0", log=False)
    mark_elbow(chart, (2, 1.0), (1, 4))
    (band,) = chart.select(BoxAnnotation)
    assert (band.left, band.right) == (1, 4)
    mark_elbow(bare := over_k("b", {"one": np.ones(1)}, np.ones(1), Axis("y"), ""), (1, 1.0), None)
    assert not list(bare.select(BoxAnnotation))


def test_the_marked_interval_is_the_elbows(
    reports: dict[str, Reported],
) -> None:
    experiment = reports["digits"].experiment
    found, material = investigate(experiment)
    (band,) = panels(experiment, found, material.coverage)["mse"][0].select(BoxAnnotation)
    assert isinstance(found.chord_elbow, ElbowInterval)
    assert (band.left, band.right) == (found.chord_elbow.low, found.chord_elbow.high)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (6_537_247.0, "0,0.[00]"),
        (389.46, "0,0.[00]"),
        (35.4, "0,0.[00]"),
        (0.0012512, "0,0.[000000]"),
        (0, "0,0.[00]"),
    ],
)
def test_small_numbers_are_told_with_all_their_digits(value: float, form: str) -> None:
    assert digits_form(value) == form


@pytest.mark.parametrize(
    ("sizes", "ticks"),
    [
        ([20, 600], [20, 50, 100, 200, 500]),
        ([16, 64, 256], [20, 50, 100, 200]),
        ([10, 50], [10, 20, 50]),
        ([100, 10_000], [100, 300, 1000, 3000, 10_000]),
        ([1, 10_000], [1, 10, 100, 1000, 10_000]),
        ([60, 90], [60, 90]),
    ],
)
def test_ticks_of_k_have_room(sizes: list[int], ticks: list[int]) -> None:
    k = np.array(sizes)
    chart = over_k("some", {"one": k}, k, Axis("y"), "0")
    assert chart.xaxis[0].ticker.ticks == chart.xgrid[0].ticker.ticks == ticks
    ranked = {9: (k, k)}
    assert by_size("more", ranked, Axis("x", log=True), Axis("y"), "0").xaxis[0].ticker.ticks == (
        ticks
    )
