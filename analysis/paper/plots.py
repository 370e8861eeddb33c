"""Figures with axes: MSE against K, use of the centroids, convergence."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.curves import chord, power_law
from analysis.paper.drawing import BLUE, GREEN, GREY, NORMAL, SMALL, VERMILION, new_figure
from analysis.pixels import PixelScale
from analysis.wording import number

_LONG_RUN = 10  # passes; the first ones move most
_FEW_CURVES = 8  # named one by one; more are told by a few
# (at least this many times the smallest, multiples of powers of ten that get a label)
_LOG_STEPS = ((300, (1.0,)), (12, (1.0, 2.0, 5.0)), (0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
_THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.6g}")


def mse_figure(curve: xarray.Dataset, elbow: int | None, pixels: PixelScale) -> Figure:
    """MSE against K, on linear axes with the elbow and on logarithmic ones with a power law."""
    figure = new_figure(2.9)
    linear, logarithmic = figure.subplots(1, 2)
    k = curve["k"].values.astype(float)
    mse, heldout = curve["mse"].values, curve["heldout_mse"].values
    for axes in (linear, logarithmic):
        axes.plot(k, mse, "o-", color=BLUE, label="training")
        if np.isfinite(heldout).any():
            axes.plot(k, heldout, "s--", color=VERMILION, label="held out", markersize=3)
        axes.set_xlabel("number of centroids K")
    linear.set_ylabel(f"MSE ({pixels.unit})")
    linear.set_xlim(0, k[-1] * 1.05)
    linear.set_ylim(0, 1.08 * float(np.nanmax([mse, heldout])))
    linear.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    linear.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    for axis in (linear.xaxis, linear.yaxis):
        axis.set_major_formatter(_THOUSANDS)
    linear.set_title("a   linear axes")
    if elbow is not None:
        _mark_elbow(linear, k, mse, elbow)
    linear.legend(loc="upper right")
    _logarithmic(logarithmic, k, mse)
    return figure


def _mark_elbow(axes: Axes, k: np.ndarray, mse: np.ndarray, elbow: int) -> None:
    """The chord, the distance below it, and the elbow's values."""
    at = int(np.searchsorted(k, elbow))
    line = chord(k, mse)
    axes.plot(k[[0, -1]], mse[[0, -1]], color=GREY, linewidth=0.7, linestyle=(0, (4, 3)))
    axes.plot([k[at]] * 2, [mse[at], line[at]], color=GREY, linewidth=0.7)
    axes.plot(k[at], mse[at], "o", markersize=8, markerfacecolor="none", color="black")
    across = k[at] / axes.get_xlim()[1]
    left = across < 0.5  # the words stand where there is room, below the curve
    axes.annotate(
        f"elbow: K = {elbow:,}, MSE {number(float(mse[at]))}",
        (k[at], mse[at]),
        xytext=(across + (0.07 if left else -0.07), 0.07),
        textcoords="axes fraction",
        fontsize=SMALL,
        ha="left" if left else "right",
        arrowprops={"arrowstyle": "-", "linewidth": 0.6, "shrinkB": 5, "color": "black"},
    )


def _logarithmic(axes: Axes, k: np.ndarray, mse: np.ndarray) -> None:
    axes.set_title("b   logarithmic axes")
    if len(k) > 1:
        axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_log_ticks(axes)
    law = power_law(k, mse)
    if law is None:
        return
    exponent, factor = law
    axes.plot(k, factor * k**exponent, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    axes.annotate(
        f"MSE ∝ K$^{{{_minus(exponent)}}}$",
        (0.06, 0.08),
        xycoords="axes fraction",
        fontsize=NORMAL,
        color="black",
    )


def _minus(value: float) -> str:
    return f"{value:.2f}".replace("-", "\u2212")


def _plain_log_ticks(axes: Axes) -> None:
    """Ticks at round numbers, written out; the more, the fewer powers of ten there are."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() != "log":
            continue
        low, high = axis.get_view_interval()
        steps = next(steps for span, steps in _LOG_STEPS if high / low > span)
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_minor_locator(LogLocator(subs=tuple(range(2, 10))))
        axis.set_major_formatter(_THOUSANDS)
        axis.set_minor_formatter(NullFormatter())


def use_figure(curve: xarray.Dataset, counts: dict[int, np.ndarray]) -> Figure:
    """How evenly centroids are used: live and perplexity against K, and ranked shares."""
    figure = new_figure(2.7)
    left, right = figure.subplots(1, 2)
    k = curve["k"].values.astype(float)
    lines = {
        "live": ("o-", BLUE, "live"),
        "perplexity": ("s-", GREEN, "perplexity"),
        "half": ("^-", VERMILION, "hold half of the patches"),
    }
    for name, (form, colour, label) in lines.items():
        left.plot(k, 100 * curve[name].values / k, form, color=colour, label=label)
    if len(k) > 1:
        left.set_xscale("log")
    _plain_log_ticks(left)
    left.set_ylim(0, 104)
    left.set_xlabel("number of centroids K")
    left.set_ylabel("per cent of K")
    left.set_title("a   centroids in use")
    left.legend(loc="lower left")
    for (size, used), colour in zip(counts.items(), _shades_of_k(len(counts)), strict=True):
        ranked = np.sort(used[used > 0])[::-1] / used.sum()
        right.plot(np.arange(1, len(ranked) + 1), ranked, color=colour, label=f"{size:,}")
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel("centroids by use, rank")
    right.set_ylabel("share of patches")
    right.set_title("b   ranked use")
    _legend_of_k(right, list(counts))
    _plain_log_ticks(right)
    return figure


def convergence_figure(
    histories: dict[int, tuple[np.ndarray, np.ndarray]], pixels: PixelScale
) -> Figure:
    """MSE of the passes over the data, for each K.

    histories: K -> rows seen as a multiple of all rows, and the MSE, each (passes,).
    """
    figure = new_figure(2.5)
    axes = figure.subplots()
    marker = "o" if max(len(mse) for _, mse in histories.values()) < 5 else ""
    for (seen, mse), colour in zip(histories.values(), _shades_of_k(len(histories)), strict=True):
        axes.plot(seen, mse, color=colour, marker=marker)
    if max(seen[-1] for seen, _ in histories.values()) > _LONG_RUN:
        axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_log_ticks(axes)
    axes.set_xlabel("rows seen, in passes over all rows")
    axes.set_ylabel(f"MSE ({pixels.unit})")
    _legend_of_k(axes, list(histories))
    return figure


def _shades_of_k(n: int) -> list[Any]:
    """Colours from dark (small K) to light; also told apart in grey."""
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.88, n)))


def _legend_of_k(axes: Axes, sizes: Sequence[int]) -> None:
    """Names each curve by its K, or some of them where they are many."""
    colours = _shades_of_k(len(sizes))
    step = -(-len(sizes) // _FEW_CURVES)
    chosen = sorted({*range(0, len(sizes), step), len(sizes) - 1})
    handles = [Line2D([], [], color=colours[index], label=f"{sizes[index]:,}") for index in chosen]
    axes.legend(
        handles=handles,
        title="K",
        title_fontsize=SMALL,
        handlelength=1.2,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
