"""Curves that answer the pointer with their numbers; each panel as in the paper's figure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from bokeh.models import (
    BoxAnnotation,
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    GlyphRenderer,
    HoverTool,
    LogTicker,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from analysis.html_report.page.widgets import MARK, SOFT
from analysis.measures.patch_sample import evenly

# After Okabe and Ito, told apart by colour-blind readers, on light and on dark
COLOURS = ("#1a86c7", "#e0641b", "#0ea37a", "#c66fa3", "#b8860b", "#6aaede", "#8c8f94", "#8067c9")
SHADES = Viridis256[80:215]  # the darkest are not seen on dark, the lightest not on light
DASHES = ("solid", "dashed", "dotdash", "dotted")
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "star", "plus")
HEIGHT = 300
MOST_CURVES = 6  # that are told apart by shades
MOST_POINTS = 120  # of a curve that is not over K
_PLAIN = "return tick.toLocaleString('en', {maximumSignificantDigits: 6})"
_NAMES = ".bk-label { color: var(--ink) !important; }"
_STYLE = ":host { touch-action: pan-y pinch-zoom; }"


@dataclass(frozen=True)
class Axis:
    """Label with its unit, whether it is logarithmic, and its range (None: of the data)."""

    label: str
    log: bool = False
    span: tuple[float, float] | None = None

    @property
    def spoken(self) -> str:
        """What a screen reader says of it."""
        return f"{self.label}, logarithmic" if self.log else self.label


def over_k(
    name: str, lines: Mapping[str, np.ndarray], k: np.ndarray, y: Axis, form: str, log: bool = True
) -> figure:
    """Curves over K with a marker for each; the pointer tells K and the values of all.

    lines: name -> value at each K. form: of the values, in numeral.js' notation.
    """
    plot = _plot(name, Axis("centroids K", log), y)
    if log:
        _mark_steps(plot, k)
    columns = {"k": k, "x": k.astype(float)}
    columns |= {f"y{at}": values for at, values in enumerate(lines.values())}
    source = ColumnDataSource(columns, name=name)
    first, *_ = [_line(plot, at, label, "x", f"y{at}", source) for at, label in enumerate(lines)]
    tips = [("K", "@k{0,0}")]
    tips += [(label, f"@y{at}{{{form}}}") for at, label in enumerate(lines)]
    plot.add_tools(HoverTool(renderers=[first], tooltips=tips, mode="vline"))
    _name_curves(plot, len(lines))
    return plot


def points(
    name: str,
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    k: np.ndarray,
    x: Axis,
    y: Axis,
    form: str,
) -> figure:
    """Curves through a point for each K; lines: name -> (x, y)."""
    plot = _plot(name, x, y)
    for at, (label, (across, up)) in enumerate(lines.items()):
        source = ColumnDataSource({"k": k, "x": across, "y": up}, name=f"{name}-{at}")
        dots = _line(plot, at, label, "x", "y", source)
        tips = [("K", "@k{0,0}"), (x.label, "@x{0.00}"), (y.label, f"@y{{{form}}}")]
        plot.add_tools(HoverTool(renderers=[dots], tooltips=tips))
    _name_curves(plot, len(lines))
    return plot


def digits_form(value: float, digits: int = 4) -> str:
    """numeral.js' notation that shows so many significant digits of a number, as in 0,0.[00].

    At least two decimals: in brackets they are shown only where they are not zero.
    """
    decimals = digits - 1 - math.floor(math.log10(value)) if value > 0 else 0
    return f"0,0.[{'0' * max(2, decimals)}]"


def _mark_steps(plot: figure, x: np.ndarray) -> None:
    """Ticks of a logarithmic axis, with room on a telephone: the longer the range, the fewer."""
    lowest, highest = float(np.min(x)), float(np.max(x))
    decades = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    span = highest / lowest
    mantissas = (1, 2, 5) if span < 50 else (1, 3) if span < 1000 else (1,)
    steps = [10.0**decade * mantissa for decade in decades for mantissa in mantissas]
    within = [step for step in steps if lowest <= step <= highest]
    plot.xaxis.ticker = plot.xgrid.ticker = FixedTicker(
        ticks=within if len(within) > 1 else sorted({lowest, highest})
    )


def _line(
    plot: figure, at: int, label: str, x: str, y: str, source: ColumnDataSource
) -> GlyphRenderer:
    """One of several curves, told apart by colour, dashes and markers; returns its markers."""
    style = {"source": source, "legend_label": label, "line_color": COLOURS[at % len(COLOURS)]}
    plot.line(x, y, line_dash=DASHES[at % len(DASHES)], line_width=2, **style)
    marker = MARKERS[at % len(MARKERS)]
    return plot.scatter(x, y, marker=marker, size=7, fill_color=COLOURS[at % len(COLOURS)], **style)


def by_size(
    name: str, curves: Mapping[int, tuple[np.ndarray, np.ndarray]], x: Axis, y: Axis, form: str
) -> figure:
    """A curve for each K, or for some where they are many; curves: K -> (x, y)."""
    plot = _plot(name, x, y)
    chosen = evenly(list(curves), MOST_CURVES)
    if x.log:
        _mark_steps(plot, np.concatenate([across for across, _ in curves.values()]))
    x_form = digits_form(max(float(np.max(across)) for across, _ in curves.values()))
    for k, shade in zip(chosen, evenly(SHADES, len(chosen)), strict=True):
        across, up = (np.array(evenly(list(values), MOST_POINTS)) for values in curves[k])
        source = ColumnDataSource({"x": across, "y": up, "k": np.full(len(up), k)})
        style = {"line_color": shade, "line_width": 2, "legend_label": f"K = {k:,}"}
        line = plot.line("x", "y", source=source, **style)
        tips = [("K", "@k{0,0}"), (x.label, f"@x{{{x_form}}}"), (y.label, f"@y{{{form}}}")]
        plot.add_tools(HoverTool(renderers=[line], tooltips=tips, line_policy="nearest"))
    _name_curves(plot, len(chosen))
    return plot


def mark_elbow(plot: figure, place: tuple[int, float], between: tuple[int, int] | None) -> None:
    """A circle at the elbow, (K, MSE), and a band from the lowest to the highest K it may be."""
    if between:
        left, right = between
        plot.add_layout(BoxAnnotation(left=left, right=right, fill_color=MARK, fill_alpha=0.14))
    plot.scatter(*place, size=15, fill_color=None, line_color=MARK, line_width=2.5)


def guide(plot: figure, x: np.ndarray, y: np.ndarray, dash: str) -> None:
    """A thin line to compare curves with."""
    plot.line(x, y, line_color=SOFT, line_dash=dash, line_width=1.2, level="underlay")


def _plot(name: str, x: Axis, y: Axis) -> figure:
    spans = {f"{axis}_range": values.span for axis, values in (("x", x), ("y", y)) if values.span}
    plot = figure(
        name=f"{name}-chart",
        x_axis_label=x.label,
        y_axis_label=y.label,
        x_axis_type="log" if x.log else "linear",
        y_axis_type="log" if y.log else "linear",
        height=HEIGHT,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        min_border=4,
        outline_line_color=None,
        background_fill_color=None,
        border_fill_color=None,
        stylesheets=[_STYLE],
        html_attributes={"role": "img", "aria-label": f"{y.spoken} against {x.spoken}"},
        margin=0,
        **spans,
    )
    for axis, values in ((plot.xaxis, x), (plot.yaxis, y)):
        axis.formatter = CustomJSTickFormatter(code=_PLAIN)
        axis.axis_label_text_font_style = "normal"
        if values.log:
            axis.ticker = LogTicker(mantissas=[1, 2, 5], num_minor_ticks=0)
    return plot


def _name_curves(plot: figure, n: int) -> None:
    """The legend, above the curves so that it hides none of them."""
    legend = plot.legend[0]
    legend.orientation = "horizontal"
    legend.ncols = min(n, 4)
    legend.background_fill_alpha = 0
    legend.border_line_color = None
    legend.padding = legend.margin = 0
    legend.spacing = 8
    legend.stylesheets = [_NAMES]
    plot.add_layout(legend, "above")
