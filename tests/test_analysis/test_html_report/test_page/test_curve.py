"""The curve holds the numbers that it stands for, before any browser draws it."""

import numpy as np
import pytest
import xarray
from bokeh.models import BoxAnnotation, HoverTool

from analysis.html_report.page.curve import curve_chart, numeral_format
from analysis.measures.pixel_scale import PixelScale
from storage.images.pixel_range import PixelRange

GREY = PixelScale(PixelRange(0, 255), "grey levels")


def scores(heldout: float = 1.1) -> xarray.Dataset:
    mse = np.array([8.0, 3.0, 2.0])
    return xarray.Dataset(
        {"mse": ("k", mse), "heldout_mse": ("k", heldout * mse)}, {"k": [2, 4, 9]}
    )


def test_the_pointer_is_told_all_scores_of_a_k() -> None:
    chart = curve_chart(scores(), GREY, None, None)
    (source,) = {one.data_source for one in chart.renderers}
    assert source.data["k"].tolist() == [2, 4, 9]
    assert source.data["training"].tolist() == [8, 3, 2]
    np.testing.assert_allclose(source.data["held out"], [8.8, 3.3, 2.2])
    (hover,) = chart.select(HoverTool)
    told = [(label, field.split("{")[0 if label == "K" else 1]) for label, field in hover.tooltips]
    assert told == [("K", "@k"), ("training", "training}"), ("held out", "held out}")]
    alone = curve_chart(scores(np.nan), GREY, None, None)
    assert [label for label, _ in alone.select_one(HoverTool).tooltips] == ["K", "training"]
    assert not list(alone.select(BoxAnnotation))


def test_the_elbow_has_a_circle_and_its_interval_a_band() -> None:
    chart = curve_chart(scores(), GREY, 4, (2, 9))
    (band,) = chart.select(BoxAnnotation)
    assert (band.left, band.right) == (2, 9)
    circle = chart.renderers[-1].data_source.data
    assert (circle["x"], circle["y"]) == ([4], [3.0])


@pytest.mark.parametrize(
    ("value", "form"),
    [(6_537_247.0, "0,0.[00]"), (35.4, "0,0.[000]"), (0.0012512, "0,0.[0000000]"), (0, "0,0.[00]")],
)
def test_small_numbers_are_told_with_all_their_digits(value: float, form: str) -> None:
    assert numeral_format(value) == form
