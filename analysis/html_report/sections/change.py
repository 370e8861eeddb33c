"""How does the dictionary change with K?"""

import math
from collections.abc import Mapping

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.html_report.figures.axes import (
    legend_of_k,
    lines_over_k,
    name_panel,
    plain_log_ticks,
    shades_of_k,
)
from analysis.html_report.figures.figure import ReportFigure, finished, table
from analysis.html_report.figures.style import new_figure
from analysis.html_report.measured import Measured
from analysis.html_report.section import Section
from analysis.measures.mse_curve import decibels_per_bit, gains_per_doubling
from analysis.text import count, listed, number, percent, signed

FEW_SIZES = 5  # points through which a line is no evidence of a law
TABLED = ("live", "perplexity", "gini", "half", "entropy")


def _paragraphs(measured: Measured) -> list[str]:
    sizes, mse, unit = measured.sizes, measured.scores("mse"), measured.pixels.unit
    if len(sizes) == 1:
        return [
            f"This run has one dictionary, of K = {count(sizes[0], 'centroid')}, with a mean"
            f" squared error (MSE) of {number(mse[0])} {unit}; how it changes with K takes at least"
            " two.",
            _use(measured),
        ]
    fall = 1 - mse[-1] / mse[0] if mse[0] else 0.0
    first = (
        f"With more centroids the error falls: from K = {sizes[0]:,} to K = {sizes[-1]:,} the mean"
        f" squared error (MSE) of the training patches goes from {number(mse[0])} to"
        f" {number(mse[-1])} {unit}, {percent(fall)} less."
        if fall > 0
        else "More centroids do not lower the error here: the mean squared error (MSE) of the"
        f" training patches is {number(mse[0])} {unit} at K = {sizes[0]:,} and {number(mse[-1])} at"
        f" K = {sizes[-1]:,}."
    )
    return [first + _slope(measured), _use(measured)]


def _slope(measured: Measured) -> str:
    """What a doubling brings, and what that says about the patches."""
    exponent = measured.exponent
    if exponent is None:
        return ""
    mse = measured.scores("mse")
    doublings = gains_per_doubling(measured.sizes, mse)
    decibels = decibels_per_bit([math.log2(k) for k in measured.sizes], mse)
    text = (
        " A doubling of K, which is one bit more to name a centroid, takes away"
        f" {percent(doublings[0])}"
    )
    text += (
        f" of the MSE at the beginning of the range and {percent(doublings[-1])} at its end"
        f" ({number(decibels[0], 3)} and {number(decibels[-1], 3)} dB of signal-to-noise ratio)."
        if len(doublings) > 1
        else f" of the MSE ({number(decibels[0], 3)} dB of signal-to-noise ratio)."
    )
    if len(doublings) > 1 and exponent < 0:
        dim = measured.experiment.facts["dim"]
        text += (
            " On logarithmic axes a straight line through all points has the slope"
            f" {signed(exponent)}. For points spread over a smooth set of D dimensions the best"
            " centroids would have −2/D (Zador 1982), so over this range the patches behave as if"
            f" they had about {number(-2 / exponent, 2)} dimensions, not {dim:,}."
        )
    return text


def _use(measured: Measured) -> str:
    """How evenly the largest dictionary is used."""
    k = measured.sizes[-1]
    if k == 1:
        return "Its one centroid is the mean patch."
    use = {name: measured.score(name, k) for name in (*TABLED, "largest_share")}
    alive = (
        f"All {k:,} centroids are in use, but not alike:"
        if use["live"] == k
        else f"Of {k:,} centroids {use['live']:,.0f} are in use, each nearest to at least one"
        " patch, but not alike:"
    )
    most = f"the most used one alone has {percent(use['largest_share'])}"
    half = (
        f"half of the patches belong to the {use['half']:,.0f} most used, and {most}"
        if use["half"] > 1
        else f"{most} of the patches"
    )
    return (
        f"{alive} {half}. Their use is as varied as that of"
        f" {number(use['perplexity'], 3)} centroids used evenly (the perplexity); the Gini"
        " coefficient, 0 when all are used alike and near 1 when one has all, is"
        f" {number(use['gini'], 2)}. With short codes for the most used, the code of a patch's"
        f" centroid takes {number(use['entropy'], 3)} bits instead of {number(math.log2(k), 3)}."
    )


def _caveats(measured: Measured) -> list[str]:
    """Few dictionaries, unfinished fits, centroids that nothing uses."""
    caveats, sizes = [], measured.sizes
    if len(sizes) == 2 and measured.exponent is not None:
        caveats.append(
            "There are only 2 dictionaries, so what a doubling brings is taken from a single step."
        )
    elif 2 < len(sizes) < FEW_SIZES and measured.exponent is not None:
        caveats.append(
            f"There are only {len(sizes)} dictionaries, so the slope is that of a line through"
            f" {len(sizes)} points."
        )
    unfinished = [k for k in sizes if not measured.score("converged", k)]
    if unfinished:
        fits = f"{'fit' if len(unfinished) == 1 else 'fits'} of K = {listed(unfinished)}"
        caveats.append(
            f"The {fits} stopped at the limit of passes (max-iter) before the centroids had come to"
            " rest; with more passes the MSE there would be a little lower."
        )
    dead = {k: k - int(measured.score("live", k)) for k in sizes}
    worst = max(sizes, key=lambda k: dead[k] / k)
    if dead[worst]:
        caveats.append(
            f"At K = {worst:,} {count(dead[worst], 'centroid')} ({percent(dead[worst] / worst)})"
            f" {'stands' if dead[worst] == 1 else 'stand'} for no patch, so the dictionary is"
            " in truth smaller than its K."
        )
    return caveats


def _figures(measured: Measured) -> list[ReportFigure]:
    over_k = (
        "a, in per cent of K: the centroids that are nearest to at least one patch (live), the"
        " perplexity of their use (100 if all were used alike), and how many of the most used hold"
        " half of the patches (half); and the Gini coefficient of their use (in per cent, 0 if all"
        " were used alike). b, the"
    )
    caption = (
        f"{over_k if len(measured.sizes) > 1 else 'The'} share of all training patches that each"
        " centroid has, from the most to the least used."
    )
    if measured.sizes == [1]:
        return []  # one point
    figure, csv = use_figure(measured.curve, measured.counts), _use_table(measured)
    return [finished("use", "How evenly the centroids are used.", caption, figure, csv)]


def _use_table(measured: Measured) -> bytes:
    """Measures of each dictionary, which have no rank, and the shares of its ranked centroids."""
    k, measure, rank, value = [], [], [], []
    for size, used in measured.counts.items():
        ranked = np.sort(used)[::-1] / used.sum()
        k.append(np.full(len(TABLED) + size, size))
        measure += [*TABLED, *["share_of_patches"] * size]
        rank.append(np.concatenate([np.full(len(TABLED), np.nan), np.arange(1, size + 1)]))
        value.append(np.append([measured.score(name, size) for name in TABLED], ranked))
    return table(
        {
            "k": np.concatenate(k),
            "measure": measure,
            "rank": np.concatenate(rank),
            "value": np.concatenate(value),
        }
    )


def use_figure(curve: xarray.Dataset, counts: Mapping[int, np.ndarray]) -> Figure:
    """How evenly centroids are used: ranked shares; of several K live, perplexity, Gini against K.

    curve: as `mse_curve` returns it. counts: K -> (k,) rows of each centroid.
    """
    height = 2.7
    figure = new_figure(height)
    *others, right = np.atleast_1d(figure.subplots(1, 1 + (len(counts) > 1)))
    for left in others:
        _draw_use(left, curve, height)
        name_panel(left, "a", "centroids in use")
        name_panel(right, "b", "ranked use")
    for (size, used), colour in zip(counts.items(), shades_of_k(len(counts)), strict=True):
        ranked = np.sort(used[used > 0])[::-1] / used.sum()
        places, marker = np.arange(1, len(ranked) + 1), "o" if len(ranked) == 1 else ""
        right.plot(places, ranked, color=colour, marker=marker, label=f"{size:,}")
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel("centroids by use, rank")
    right.set_ylabel("share of patches")
    legend_of_k(right, list(counts))
    plain_log_ticks(right)
    return figure


def _draw_use(axes: Axes, curve: xarray.Dataset, height: float) -> None:
    """Live centroids, perplexity, half and Gini against K; height: of the figure, inches."""
    k = curve["k"].values
    lines = {
        "live": 100 * (curve["live"].values / k),
        "perplexity": 100 * (curve["perplexity"].values / k),
        "Gini": 100 * curve["gini"].values,
        "half": 100 * (curve["half"].values / k),
    }
    axes.set_ylabel("per cent")
    lines_over_k(axes, k, lines, 104, height)


CHANGE = Section(
    "change",
    _figures,
    "Change with K",
    "How does the dictionary change with K?",
    _paragraphs,
    _caveats,
)
