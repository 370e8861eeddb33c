"""The curve of MSE against K, and where it bends, which the section on coverage tells."""

from dataclasses import replace

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.html_report.figures import style
from analysis.html_report.figures.axes import (
    COUNT_OF_CENTROIDS,
    THOUSANDS,
    k_axis,
    name_panel,
    plain_log_ticks,
)
from analysis.html_report.figures.figure import (
    ReportFigure,
    finished,
    strips_over_k,
    table,
    with_unit,
)
from analysis.html_report.measured import Measured
from analysis.html_report.section import Section
from analysis.measures.elbow import MIN_POINTS, ElbowInterval
from analysis.measures.mse_curve import chord, power_law
from analysis.measures.pixel_scale import PixelScale
from analysis.text import count, number, percent, signed

WIDE = 2.0  # ends of an interval, one by the other


def elbow_paragraph(measured: Measured) -> str:
    """Where the curve bends, by two methods, with their intervals."""
    if measured.elbow is None:
        return (
            "No elbow can be given: it takes at least three K, and a curve that sags below the"
            " straight line between its ends; this run has"
            f" {count(len(measured.sizes), 'dictionary')}."
        )
    text = (
        "By the elbow, where the curve of the training MSE bends most, about"
        f" {measured.elbow:,}: at K = {measured.elbow:,} the MSE is"
        f" {number(measured.score('mse', measured.elbow))}, farthest below the straight line"
        " between the curve's ends, both axes scaled to 0 … 1 (Kneedle, Satopää et al. 2011)."
    )
    text += _sureness(measured.elbows["chord"])
    if len(measured.sizes) < MIN_POINTS["lines"]:
        return text
    text += " A second method, two straight lines on logarithmic axes (Salvador and Chan 2004),"
    bend = measured.bend
    if bend is None:
        return f"{text} finds no place where the curve flattens on those axes."
    text += (
        f" has them part at K = {bend.k:,}, with the slope {signed(bend.before)} before and"
        f" {signed(bend.after)} after."
    )
    return text + _sureness(measured.elbows["lines"])


def _sureness(elbow: ElbowInterval | None) -> str:
    """How other choices of K would have it; nothing where there are none."""
    if elbow is None or not elbow.resamples:
        return ""
    span = (
        f"at K = {elbow.low:,}"
        if elbow.low == elbow.high
        else f"between K = {elbow.low:,} and K = {elbow.high:,}"
    )
    return (
        f" With some of the K left out, 95 % of {elbow.resamples} trials put it {span}, and"
        f" {percent(elbow.agreement)} of those that keep K = {elbow.estimate:,} choose it again."
    )


def elbow_caveats(measured: Measured) -> list[str]:
    """What the elbow hangs on."""
    chord_elbow, lines_elbow = measured.elbows["chord"], measured.elbows["lines"]
    if measured.elbow is None or chord_elbow is None:
        return []
    caveats = []
    earlier = _earlier_elbow(chord_elbow)
    if earlier is not None:
        caveats.append(
            f"The elbow depends on the range of K. Had the run ended at K = {earlier[0]:,}, it"
            f" would stand at K = {earlier[1]:,}."
        )
    if chord_elbow.resamples == 0:
        caveats.append(
            f"With {len(measured.sizes)} K there is nothing to leave out, so how sure the elbow is"
            " cannot be said."
        )
    elif chord_elbow.high >= WIDE * chord_elbow.low:
        caveats.append(
            f"The elbow is not sharp: other choices of K put it anywhere from {chord_elbow.low:,}"
            f" to {chord_elbow.high:,}."
        )
    if lines_elbow is not None and not _compatible(chord_elbow, lines_elbow):
        caveats.append(
            f"The two methods disagree: K = {chord_elbow.estimate:,} by the distance from the"
            f" straight line, K = {lines_elbow.estimate:,} by two lines."
        )
    return caveats


def _compatible(one: ElbowInterval, other: ElbowInterval) -> bool:
    """Whether each elbow lies in the other's interval."""
    return one.low <= other.estimate <= one.high and other.low <= one.estimate <= other.high


def _earlier_elbow(elbow: ElbowInterval) -> tuple[int, int] | None:
    """Of the shorter ranges the longest with another elbow: its largest K, and that elbow.

    Of those, one that ends at most half as far is told first: it shows what the range does.
    """
    others = [
        (largest, earlier)
        for largest, earlier in elbow.by_largest.items()
        if earlier is not None and earlier != elbow.estimate
    ]
    shorter = [pair for pair in others if 2 * pair[0] <= max(elbow.by_largest)]
    return max(shorter or others, default=None)


def _figures(measured: Measured) -> list[ReportFigure]:
    """MSE against K, where there are several; the page tells its values to the pointer."""
    if len(measured.sizes) == 1:
        return []
    elbow, interval = measured.elbow, measured.elbow_limits
    caption = (
        "Mean squared error per pixel of the patches against their nearest centroids, on the"
        " training patches that the dictionaries were learned from"
    )
    unseen = f" and on the patches of held-out {measured.held_out_parts}."
    caption += unseen if measured.held_out else "."
    caption += " a, linear axes."
    if elbow is not None:
        caption += (
            f" The circle marks the elbow, K = {elbow:,}: the point farthest below the chord"
            " (dashed), measured along the grey line with both axes scaled to 0 … 1."
        )
    if interval is not None:
        caption += (
            f" The band, K = {interval[0]:,} to {interval[1]:,}, holds 95 % of the elbows that"
            " other choices from these K would give."
        )
    caption += " b, logarithmic axes, on which a power law is a straight line"
    caption += "." if measured.exponent is None else " (dotted: fitted to the training curve)."
    figure, csv = mse_figure(measured.curve, elbow, measured.pixels, interval), _table(measured)
    made = finished("mse", "MSE against the number of centroids.", caption, figure, csv)
    return [replace(made, strips=strips_over_k(figure, _told(measured)))]


def _told(measured: Measured) -> dict[int, str]:
    """What the pointer is told of each K."""
    words = {k: f"K = {k:,}: MSE {number(measured.score('mse', k), 5)}" for k in measured.sizes}
    if not measured.held_out:
        return words
    scores = {k: number(measured.score("heldout_mse", k), 5) for k in words}
    return {k: f"{told}, held out {scores[k]}" for k, told in words.items()}


def _table(measured: Measured) -> bytes:
    k, mse = np.array(measured.sizes, float), measured.curve["mse"].values
    unit, law = measured.pixels.unit, power_law(k, mse)
    low, high = measured.elbow_limits or (measured.elbow or 0,) * 2
    return table(
        {
            "k": measured.sizes,
            with_unit("mse", unit): mse,
            with_unit("heldout_mse", unit): measured.curve["heldout_mse"].values,
            with_unit("chord", unit): chord(k, mse),
            with_unit("power_law", unit): (
                np.full(len(k), np.nan) if law is None else law[1] * k ** law[0]
            ),
            "elbow": [size == measured.elbow for size in measured.sizes],
            "in_elbow_interval": [low <= size <= high for size in measured.sizes],
        }
    )


def mse_figure(
    curve: xarray.Dataset,
    elbow: int | None,
    pixels: PixelScale,
    interval: tuple[float, float] | None = None,
) -> Figure:
    """MSE against K, on linear axes with the elbow and on logarithmic ones with a power law.

    interval: of the elbow, lowest and highest K; shown as a band.
    """
    figure = style.new_figure(2.9)
    linear, logarithmic = figure.subplots(1, 2)
    k = curve["k"].values.astype(float)
    mse, heldout = curve["mse"].values, curve["heldout_mse"].values
    for axes in (linear, logarithmic):
        axes.plot(k, mse, "o-", color=style.BLUE, label="training")
        if np.isfinite(heldout).any():
            axes.plot(k, heldout, "s--", color=style.VERMILION, label="held out", markersize=3)
        axes.set_xlabel(COUNT_OF_CENTROIDS)
        if interval is not None:
            axes.axvspan(
                *interval, color=style.BAND, linewidth=0, zorder=0, label="elbow's interval"
            )
    linear.set_ylabel(f"MSE ({pixels.unit})")
    linear.set_xlim(0, k[-1] * 1.05)
    linear.set_ylim(0, 1.08 * float(np.nanmax([mse, heldout])) or 1.0)
    linear.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    linear.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    for axis in (linear.xaxis, linear.yaxis):
        axis.set_major_formatter(THOUSANDS)
    name_panel(linear, "a", "linear axes")
    if elbow is not None:
        _mark_elbow(linear, k, mse, elbow)
    linear.legend(loc="upper right")
    _draw_logarithmic(logarithmic, k, mse)
    return figure


def _mark_elbow(axes: Axes, k: np.ndarray, mse: np.ndarray, elbow: int) -> None:
    """The chord, the distance below it, and the elbow's values."""
    at = int(np.searchsorted(k, elbow))
    line = chord(k, mse)
    axes.plot(k[[0, -1]], mse[[0, -1]], color=style.GREY, linewidth=0.7, linestyle=(0, (4, 3)))
    axes.plot([k[at]] * 2, [mse[at], line[at]], color=style.GREY, linewidth=0.7)
    axes.plot(k[at], mse[at], "o", markersize=8, markerfacecolor="none", color="black")
    across = k[at] / axes.get_xlim()[1]
    left = across < 0.5  # the words stand where there is room, below the curve
    axes.annotate(
        f"elbow: K = {elbow:,}, MSE {number(float(mse[at]))}",
        (k[at], mse[at]),
        xytext=(across + (0.07 if left else -0.07), 0.07),
        textcoords="axes fraction",
        fontsize=style.SMALL,
        ha="left" if left else "right",
        arrowprops={"arrowstyle": "-", "linewidth": 0.6, "shrinkB": 5, "color": "black"},
    )


def _draw_logarithmic(axes: Axes, k: np.ndarray, mse: np.ndarray) -> None:
    """The second panel, with the power law where there is one."""
    name_panel(axes, "b", "logarithmic axes")
    k_axis(axes, k)
    if mse.max() > 0:
        axes.set_yscale("log")
    plain_log_ticks(axes)
    law = power_law(k, mse)
    if law is None:
        return
    exponent, factor = law
    axes.plot(k, factor * k**exponent, color=style.GREY, linewidth=0.8, linestyle=":", zorder=0)
    minus = f"{exponent:.2f}".replace("-", "\u2212")
    axes.annotate(
        f"MSE ∝ K$^{{{minus}}}$",
        (0.06, 0.08),
        xycoords="axes fraction",
        fontsize=style.NORMAL,
        color="black",
    )


CURVE = Section("curve", _figures)
