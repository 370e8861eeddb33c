"""The curve of MSE against K that answers the pointer with its numbers."""

import math

import numpy as np
import xarray
from bokeh.models import BoxAnnotation, ColumnDataSource, CustomJSTickFormatter, HoverTool
from bokeh.plotting import figure

from analysis.html_report.page.widgets import MARK, PANNABLE
from analysis.measures.pixel_scale import PixelScale

# Blue and orange, told apart by colour-blind readers, seen on light and on dark; page.css has them
# too, for the words beside the curve.
TRAINING, HELD_OUT = "#1a86c7", "#e0641b"
HEIGHT = 340  # CSS pixels
TOLD_DIGITS = 5  # significant ones of an MSE that is told
HEADROOM = 1.05  # of the y axis, in the largest MSE
_PLAIN = "return tick.toLocaleString('en', {maximumSignificantDigits: 6})"


def curve_chart(
    scores: xarray.Dataset, pixels: PixelScale, elbow: int | None, interval: tuple[int, int] | None
) -> figure:
    """MSE against K on linear axes; at each K the pointer is told the values of all curves.

    Args:
        scores: as `mse_curve` returns them.
        pixels: unit of the MSE.
        elbow: the K that gets a circle, if any.
        interval: lowest and highest K that the elbow may be at; shown as a band.
    """
    columns = {"training": scores["mse"].values}
    if np.isfinite(scores["heldout_mse"]).any():
        columns["held out"] = scores["heldout_mse"].values
    largest = max(float(np.max(values)) for values in columns.values())
    plot = _axes(f"MSE ({pixels.unit})", HEADROOM * largest or 1.0)
    if interval:
        left, right = interval
        plot.add_layout(BoxAnnotation(left=left, right=right, fill_color=MARK, fill_alpha=0.14))
    source = ColumnDataSource({"k": scores["k"].values} | columns, name="curve")
    for (name, colour), (marker, dash) in zip(
        (("held out", HELD_OUT), ("training", TRAINING)),
        (("square", "dashed"), ("circle", "solid")),
        strict=True,
    ):
        if name in columns:
            style = {"source": source, "line_color": colour}
            plot.line("k", name, line_width=2, line_dash=dash, **style)
            dots = plot.scatter("k", name, marker=marker, size=7, fill_color=colour, **style)
    smallest = min(float(np.min(values)) for values in columns.values())
    tips = [(name, f"@{{{name}}}{{{numeral_format(smallest)}}}") for name in columns]
    tips = [("K", "@k{0,0}"), *tips]
    plot.add_tools(HoverTool(renderers=[dots], tooltips=tips, mode="vline"))
    if elbow is not None:
        at = float(scores["mse"].sel(k=elbow))
        plot.scatter([elbow], [at], size=15, fill_color=None, line_color=MARK, line_width=2.5)
    return plot


def numeral_format(value: float) -> str:
    """numeral.js' notation that shows TOLD_DIGITS significant digits of a number, as in 0,0.[00].

    At least two decimals: those in brackets are shown only where they are not zero.
    """
    decimals = TOLD_DIGITS - 1 - math.floor(math.log10(value)) if value > 0 else 0
    return f"0,0.[{'0' * max(2, decimals)}]"


def _axes(label: str, top: float) -> figure:
    """An empty chart over K."""
    plot = figure(
        name="curve-chart",
        x_axis_label="centroids K",
        y_axis_label=label,
        y_range=(0, top),
        height=HEIGHT,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        min_border=4,
        outline_line_color=None,
        background_fill_color=None,
        border_fill_color=None,
        stylesheets=[PANNABLE],
        html_attributes={"role": "img", "aria-label": f"{label} against the number of centroids K"},
        margin=0,
    )
    for axis in (plot.xaxis, plot.yaxis):
        axis.formatter = CustomJSTickFormatter(code=_PLAIN)
        axis.axis_label_text_font_style = "normal"
    return plot
