"""Figures of shares: of the centroids in use, of each kind, of the patches that are near enough."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.html_report.figures.axes import (
    k_axis,
    legend_of_k,
    name_ends,
    name_panel,
    plain_log_ticks,
    shades_of_k,
)
from analysis.html_report.figures.style import OKABE_ITO, new_figure
from analysis.measures.coverage import levels_that_tell, levels_to_tell
from analysis.measures.pixel_scale import PixelScale
from analysis.text import compact

_MARKERS, _DASHES = "osD^vPX*", ("-", "--", "-.", ":")
_CURVES = 6  # of the shares within an error: as many K


def use_figure(curve: xarray.Dataset, counts: Mapping[int, np.ndarray]) -> Figure:
    """How evenly centroids are used: live, perplexity, Gini against K, and ranked shares.

    curve: as `mse_curve` returns it. counts: K -> (k,) rows of each centroid.
    """
    height = 2.7
    figure = new_figure(height)
    left, right = figure.subplots(1, 2)
    k = curve["k"].values
    lines = {
        "live": curve["live"].values / k,
        "perplexity": curve["perplexity"].values / k,
        "Gini": curve["gini"].values,
        "half": curve["half"].values / k,
    }
    styles = [_style(place) for place in range(len(lines))]
    values = 100 * np.stack(list(lines.values()))
    for name, line, style in zip(lines, values, styles, strict=True):
        left.plot(k, line, label=name, **style)
    k_axis(left, k)
    plain_log_ticks(left)
    left.set_ylim(0, 104)
    left.set_ylabel("per cent")
    name_panel(left, "a", "centroids in use")
    _name_lines(left, list(lines), values, styles, height)
    for (size, used), colour in zip(counts.items(), shades_of_k(len(counts)), strict=True):
        ranked = np.sort(used[used > 0])[::-1] / used.sum()
        places, marker = np.arange(1, len(ranked) + 1), "o" if len(ranked) == 1 else ""
        right.plot(places, ranked, color=colour, marker=marker, label=f"{size:,}")
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel("centroids by use, rank")
    right.set_ylabel("share of patches")
    name_panel(right, "b", "ranked use")
    legend_of_k(right, list(counts))
    plain_log_ticks(right)
    return figure


def kinds_figure(shares: xarray.Dataset) -> Figure:
    """Shares of each kind of centroid against K, among centroids and among patches.

    shares: of_centroids and of_patches over (k, kind), 0 … 1.
    """
    height = 2.9
    figure = new_figure(height)
    panels = {
        "of_centroids": ("a", "among the centroids", "per cent of the centroids"),
        "of_patches": ("b", "among the patches", "per cent of the patches"),
    }
    k = shares["k"].values
    highest = 100 * max(float(shares[name].max()) for name in panels)
    for axes, (name, (letter, title, unit)) in zip(
        figure.subplots(1, 2), panels.items(), strict=True
    ):
        values = 100 * shares[name].transpose("kind", "k").values
        styles = [_style(place) for place in range(len(values))]
        for line, style in zip(values, styles, strict=True):
            axes.plot(k, line, **style)
        k_axis(axes, k)
        plain_log_ticks(axes)
        axes.set_ylim(0, 1.05 * highest)
        axes.set_ylabel(unit)
        name_panel(axes, letter, title)
        _name_lines(axes, [str(kind) for kind in shares["kind"].values], values, styles, height)
    return figure


def within_figure(coverage: Mapping[int, xarray.Dataset], pixels: PixelScale) -> Figure:
    """Share of the patches that are rebuilt within an error, against the error and against K.

    coverage: K -> `within`, 0 … 1, over `epsilon`, root mean squared error per pixel.
    """
    height = 2.9
    figure = new_figure(height)
    left, right = figure.subplots(1, 2)
    sizes = list(coverage)
    epsilon = coverage[sizes[0]]["epsilon"].values
    within = np.stack([coverage[k]["within"].values for k in sizes])  # (K, epsilon)
    shares = 100 * within
    chosen = _a_few(np.log(sizes))
    for place, colour in zip(chosen, shades_of_k(len(chosen)), strict=True):
        left.plot(epsilon, shares[place], color=colour)
    left.set_xlim(0, epsilon[levels_that_tell(within) - 1])
    left.set_ylim(0, 104)
    left.set_xlabel(f"ε, RMSE per pixel ({pixels.level})")
    left.set_ylabel("per cent of the patches within ε")
    name_panel(left, "a", "within an error, by K")
    legend_of_k(left, [sizes[place] for place in chosen])
    levels = levels_to_tell(within)
    styles = [_style(place) for place in range(len(levels))]
    for level, style in zip(levels, styles, strict=True):
        right.plot(sizes, shares[:, level], **style)
    k_axis(right, sizes)
    plain_log_ticks(right)
    right.set_ylim(0, 104)
    right.set_ylabel("per cent of the patches within ε")
    name_panel(right, "b", "within an error, against K")
    names = [f"ε = {compact(epsilon[level])}" for level in levels]
    _name_lines(right, names, shares[:, levels].T, styles, height)
    return figure


def _a_few(values: np.ndarray) -> list[int]:
    """Places of a few values (ascending) that are spread evenly, the ends among them."""
    wanted = np.linspace(values[0], values[-1], _CURVES)
    return sorted({int(np.abs(values - value).argmin()) for value in wanted})


def _style(place: int) -> dict[str, Any]:
    """Look of one of several lines, told apart by colour, marker, and dashes."""
    return {
        "color": OKABE_ITO[place % len(OKABE_ITO)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linestyle": _DASHES[place % len(_DASHES)],
    }


def _name_lines(
    axes: Axes,
    names: Sequence[str],
    values: np.ndarray,
    styles: Sequence[dict[str, Any]],
    height: float,
) -> None:
    """Names at the lines' ends; values: (lines, K). height: of the figure, inches."""
    ends = zip(values[:, -1].tolist(), names, [style["color"] for style in styles], strict=True)
    name_ends(axes, list(ends), height - 0.8)
