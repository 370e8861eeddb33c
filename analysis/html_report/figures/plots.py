"""Figures of scores against K: MSE, rate and distortion, classes of images, convergence."""

from collections.abc import Mapping

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.html_report.figures.axes import (
    COUNT_OF_CENTROIDS,
    THOUSANDS,
    k_axis,
    legend_of_k,
    name_panel,
    plain_log_ticks,
    shades_of_k,
)
from analysis.html_report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    NORMAL,
    SMALL,
    VERMILION,
    new_figure,
)
from analysis.measures.mse_curve import BIT, chord, decibels_per_bit, power_law
from analysis.measures.pixel_scale import PixelScale
from analysis.text import number

_LONG_RUN = 10  # passes; the first ones move most
_BAND = "#e9e9e4"  # behind the curves


def mse_figure(
    curve: xarray.Dataset,
    elbow: int | None,
    pixels: PixelScale,
    interval: tuple[float, float] | None = None,
) -> Figure:
    """MSE against K, on linear axes with the elbow and on logarithmic ones with a power law.

    interval: of the elbow, lowest and highest K; shown as a band.
    """
    figure = new_figure(2.9)
    linear, logarithmic = figure.subplots(1, 2)
    k = curve["k"].values.astype(float)
    mse, heldout = curve["mse"].values, curve["heldout_mse"].values
    for axes in (linear, logarithmic):
        axes.plot(k, mse, "o-", color=BLUE, label="training")
        if np.isfinite(heldout).any():
            axes.plot(k, heldout, "s--", color=VERMILION, label="held out", markersize=3)
        axes.set_xlabel(COUNT_OF_CENTROIDS)
        if interval is not None:
            axes.axvspan(*interval, color=_BAND, linewidth=0, zorder=0, label="elbow's interval")
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
    name_panel(axes, "b", "logarithmic axes")
    k_axis(axes, k)
    if mse.max() > 0:
        axes.set_yscale("log")
    plain_log_ticks(axes)
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


def rate_figure(curve: xarray.Dataset, dimensions: float | None) -> Figure:
    """PSNR against the bits of a patch, and its slope.

    curve: as `mse_curve` returns it. dimensions: D of the fitted power law MSE ∝ K^(-2/D), whose
    slope is drawn; None: not drawn.
    """
    figure = new_figure(2.7)
    left, right = figure.subplots(1, 2)
    series = {
        "rate": ("o-", BLUE, "log₂ K, codes of one length"),
        "entropy": ("s--", VERMILION, "entropy of use, ideal codes"),
    }
    psnr, extremes = curve["psnr"].values, [0.0]
    for name, (form, colour, label) in series.items():
        bits = curve[name].values
        left.plot(bits, np.where(np.isfinite(psnr), psnr, np.nan), form, color=colour, label=label)
        middles = (bits[:-1] + bits[1:]) / 2
        slopes = decibels_per_bit(bits, curve["mse"])
        right.plot(middles, slopes, form, color=colour)
        extremes += slopes[np.isfinite(slopes)].tolist()
    left.set_ylabel("PSNR (dB)")
    name_panel(left, "a", "rate and distortion")
    left.legend(loc="upper left")
    left.margins(y=0.12)
    right.set_ylabel("gain (dB per bit)")
    name_panel(right, "b", "slope")
    if dimensions is not None:
        label = f"{BIT:.2f} / D, D = {number(dimensions, 2)}"
        line = {"color": GREY, "linewidth": 0.8, "linestyle": ":", "zorder": 0}
        right.axhline(BIT / dimensions, label=label, **line)
        extremes.append(BIT / dimensions)
        right.legend(loc="lower right")
    right.set_ylim(1.08 * min(extremes), 1.08 * max(extremes) or 1.0)
    for axes in (left, right):
        axes.set_xlabel("rate (bits per patch)")
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    return figure


def classes_figure(scores: xarray.Dataset, pixels: PixelScale) -> Figure:
    """MSE of rebuilt images by their class, a dot for each dictionary.

    scores: `mse` over (k, label), squared pixel levels, for a few K; perhaps `name` of each label.
    """
    labels = [str(label) for label in scores["name" if "name" in scores.coords else "label"].values]
    figure = new_figure(0.9 + 0.19 * len(labels))
    axes = figure.subplots()
    mse = scores["mse"].transpose("k", "label").values
    places = np.arange(len(labels))
    axes.hlines(places, mse.min(axis=0), mse.max(axis=0), color=_BAND, linewidth=3, zorder=0)
    forms = (("o", BLUE), ("s", GREEN), ("^", VERMILION), ("D", GREY))
    for place, (k, values) in enumerate(zip(scores["k"].values, mse, strict=True)):
        marker, colour = forms[place % len(forms)]
        axes.plot(values, places, marker, color=colour, markersize=5, label=f"K = {k:,}")
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.set_ylabel("class")
    axes.set_xlabel(f"MSE of the rebuilt images ({pixels.unit})")
    if mse.min() > 0:
        axes.set_xscale("log")
        plain_log_ticks(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def convergence_figure(
    histories: Mapping[int, tuple[np.ndarray, np.ndarray]], pixels: PixelScale
) -> Figure:
    """MSE of the passes over the data, for each K.

    histories: K -> rows seen as a multiple of all rows, and the MSE, each (passes,).
    """
    figure = new_figure(2.5)
    axes = figure.subplots()
    marker = "o" if max(len(mse) for _, mse in histories.values()) < 5 else ""
    for (seen, mse), colour in zip(histories.values(), shades_of_k(len(histories)), strict=True):
        axes.plot(seen, mse, color=colour, marker=marker)
    if max(seen[-1] for seen, _ in histories.values()) > _LONG_RUN:
        axes.set_xscale("log")
    axes.set_yscale("log")
    plain_log_ticks(axes)
    axes.set_xlabel("rows seen, in passes over all rows")
    axes.set_ylabel(f"MSE ({pixels.unit})")
    legend_of_k(axes, list(histories))
    return figure
