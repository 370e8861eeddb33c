"""How many centroids cover the patch space?"""

from collections.abc import Mapping

import numpy as np
import xarray
from matplotlib.figure import Figure

from analysis.html_report.figures.axes import (
    a_few_sizes,
    legend_of_k,
    lines_over_k,
    name_panel,
    shades_of_k,
)
from analysis.html_report.figures.figure import ReportFigure, finished, long_table, with_unit
from analysis.html_report.figures.image_boards import (
    BOARD_WIDTH,
    MARGIN,
    PAIR_GAP,
    TEXT_LINE,
    Board,
    Pairs,
    dots,
)
from analysis.html_report.figures.style import GREY, SMALL, new_figure
from analysis.html_report.measured import Measured
from analysis.html_report.section import Section
from analysis.html_report.sections.elbow import elbow_caveats, elbow_paragraph
from analysis.html_report.sections.rate import rate_figures
from analysis.measures.coverage import levels_that_tell, levels_to_tell
from analysis.measures.mse_curve import gains_per_doubling
from analysis.measures.pixel_scale import PixelScale
from analysis.text import compact, number, percent, round_percent

EPSILON = 0.1  # of the range shown: root mean squared error up to which a patch is covered
COVERED = 0.9  # share of the patches that a dictionary is to reach
SMALL_GAIN = 0.05  # of the MSE, by a doubling of K


def _paragraphs(measured: Measured) -> list[str]:
    paragraphs = [_reach(measured), elbow_paragraph(measured)]
    return paragraphs if len(measured.sizes) == 1 else [*paragraphs, _gains(measured)]


def _reach(measured: Measured) -> str:
    """How many patches have a centroid nearby."""
    sizes, pixels, coverage = measured.sizes, measured.pictures, measured.coverage
    levels = coverage[sizes[0]]["epsilon"].values
    at = int(np.searchsorted(levels, EPSILON * pixels.span, side="right")) - 1
    epsilon = float(levels[at]) / pixels.span
    within = [float(coverage[k]["within"].values[at]) for k in sizes]
    asked = f"{int(coverage[sizes[0]]['rows']):,} {measured.unseen} patches"
    enough = [k for k, share in zip(sizes, within, strict=True) if share >= COVERED]
    near = (
        "if a patch counts as covered when a centroid is near (with a root mean squared error of at"
        f" most {number(epsilon * pixels.span, 3)} {pixels.level}, {percent(epsilon)} of the"
        f" {'range that pictures show' if pixels.narrowed else 'largest'})"
    )
    text = (
        f"About {enough[0]:,}, {near}: K = {enough[0]:,} is the first of those tried to cover"
        f" {round_percent(COVERED)} of {asked}."
        if enough
        else f"More than the {sizes[-1]:,} that were tried, {near}: K = {sizes[-1]:,} covers"
        f" {percent(within[-1])} of {asked}; {round_percent(COVERED)} would count as enough."
    )
    if len(sizes) > 1:
        text += (
            f" The share covered goes from {percent(within[0])} at K = {sizes[0]:,} to"
            f" {percent(within[-1])} at K = {sizes[-1]:,}."
        )
    return text


def _gains(measured: Measured) -> str:
    """Where a doubling of K ceases to pay."""
    sizes, name = measured.sizes, measured.unseen
    curve = measured.scores("heldout_mse" if measured.held_out else "mse")
    if min(curve) <= 0:
        return f"The {name} MSE reaches zero: every patch is a centroid."
    gains = gains_per_doubling(sizes, curve)
    # From here on all gains are small, not only one of them.
    small = max((place + 1 for place, gain in enumerate(gains) if gain >= SMALL_GAIN), default=0)
    limit = round_percent(SMALL_GAIN)
    if small == len(gains):
        end = (
            "."
            if measured.elbow is None
            else ": an elbow marks where returns diminish, not where they end."
        )
        return (
            "No number that was tried is so large that more centroids would hardly help: at the"
            f" end of the range a doubling of K still takes away {percent(gains[-1])} of the"
            f" {name} MSE, more than {limit}{end}"
        )
    end = (
        "and at the end of the range it adds to it: more centroids do harm there."
        if gains[-1] < 0
        else f"{percent(gains[-1])} at the end of the range: more centroids hardly help there."
    )
    return (
        f"From K = {sizes[small]:,} on a doubling of K takes away less than {limit} of the"
        f" {name} MSE, {end}"
    )


def _caveats(measured: Measured) -> list[str]:
    """What the elbow hangs on, and whether the curve was still falling."""
    caveats, mse = elbow_caveats(measured), measured.scores("mse")
    if len(mse) > 1 and min(mse) > 0:
        last = gains_per_doubling(measured.sizes, mse)[-1]
        if last >= SMALL_GAIN:
            caveats.append(
                f"The MSE was still falling at K = {measured.sizes[-1]:,}, by {percent(last)} for a"
                " doubling: the end of the range is not the end of the curve."
            )
    return caveats


def _figures(measured: Measured) -> list[ReportFigure]:
    return [*rate_figures(measured), _within(measured), _worst(measured)]


def _within(measured: Measured) -> ReportFigure:
    """Shares of the patches that are rebuilt within an error."""
    coverage, pixels = measured.coverage, measured.pixels
    one = coverage[measured.sizes[0]]
    caption = (
        f"The share of {int(one['rows']):,} {measured.unseen} patches whose root mean squared error"
        " (RMSE) per pixel is at most ε"
    )
    caption += ": a, against ε; b, against K." if len(coverage) > 1 else ", against ε."
    level = with_unit("epsilon", pixels.level)
    within = np.stack([known["within"].values for known in coverage.values()])
    shares = xarray.Dataset(
        {"share_of_patches": (("k", level), within)},
        {"k": list(coverage), level: one["epsilon"].values},
    )
    figure, csv = within_figure(coverage, pixels), long_table(shares)
    return finished("within", "Patches rebuilt within an error.", caption, figure, csv)


def within_figure(coverage: Mapping[int, xarray.Dataset], pixels: PixelScale) -> Figure:
    """Share of the patches that are rebuilt within an error, against it and, of several, against K.

    coverage: K -> `within`, 0 … 1, over `epsilon`, root mean squared error per pixel.
    """
    height = 2.9
    figure = new_figure(height)
    sizes = list(coverage)
    left, *others = np.atleast_1d(figure.subplots(1, 1 + (len(sizes) > 1)))
    epsilon = coverage[sizes[0]]["epsilon"].values
    within = np.stack([coverage[k]["within"].values for k in sizes])  # (K, epsilon)
    shares = 100 * within
    few = a_few_sizes(sizes)
    for k, colour in zip(few, shades_of_k(len(few)), strict=True):
        left.plot(epsilon, shares[sizes.index(k)], color=colour)
    left.set_xlim(0, epsilon[levels_that_tell(within) - 1])
    left.set_ylim(0, 104)
    left.set_xlabel(f"ε, RMSE per pixel ({pixels.level})")
    legend_of_k(left, few)
    for right in others:
        name_panel(left, "a", "within an error, by K")
        name_panel(right, "b", f"within an error (ε in {pixels.level}), against K")
        lines = {f"ε = {compact(epsilon[at])}": shares[:, at] for at in levels_to_tell(within)}
        lines_over_k(right, np.array(sizes), lines, 104, height)
    for axes in (left, *others):
        axes.set_ylabel("per cent of the patches within ε")
    return figure


def _worst(measured: Measured) -> ReportFigure:
    """The patches that are rebuilt worst at the elbow, or at the largest K where there is none."""
    k, level = measured.told, measured.pixels.level
    coverage = measured.coverage[k]
    centroids = "the only centroid" if k == 1 else f"any of the {k:,} centroids"
    images = coverage["worst_image"].values
    apart = "an image" if len(set(images.tolist())) == len(images) else "each part of an image"
    caption = (
        f"Of {int(coverage['rows']):,} {measured.unseen} patches those farthest from {centroids},"
        f" the worst first and at most one of {apart}: the patch, its nearest centroid, the root"
        f" mean squared error per pixel (RMSE, {level}), and the number of the image."
    )
    names = {
        "worst_image": "image",
        "worst_rmse": with_unit("rmse", level),
        "worst_index": "centroid",
        "worst_patch": with_unit("patch_value", level),
        "worst_centroid": with_unit("centroid_value", level),
    }
    csv = long_table(coverage[list(names)].rename(names | {"worst": "place"}))
    title = f"The patches that K = {k:,} rebuilds worst."
    return finished("worst", title, caption, worst_plate(coverage, measured.pictures), csv)


def worst_plate(worst: xarray.Dataset, pixels: PixelScale) -> Figure:
    """Patches that are rebuilt worst above their nearest centroids, worst first.

    worst: over `worst` the patches worst_patch and centroids worst_centroid (worst, row, col[,
    channel]), worst_rmse in pixel levels, worst_image, the image that each was cut from.
    """
    label = dots(0.66)
    patches, centroids = worst["worst_patch"].values, worst["worst_centroid"].values
    pairs = Pairs(patches.shape[1:], pixels, 2)
    block, high = pairs.block, pairs.high
    across = max(1, (BOARD_WIDTH - MARGIN - label) // pairs.pitch)
    lines = -(-len(patches) // across)
    board = Board(BOARD_WIDTH, MARGIN + lines * block)
    for top in range(MARGIN, MARGIN + lines * block, block):
        for step, name in enumerate(("patch", "centroid")):
            middle = top + step * (high + PAIR_GAP) + high / 2
            board.text(MARGIN, middle, name, va="center", fontsize=SMALL)
        for step, name in enumerate(("RMSE", "image")):
            below = top + pairs.words_at + step * TEXT_LINE
            board.text(MARGIN, below, name, fontsize=SMALL, color=GREY)
    errors, images = worst["worst_rmse"].values, worst["worst_image"].values
    for place, tiles in enumerate(zip(patches, centroids, strict=True)):
        left, top = label + place % across * pairs.pitch, MARGIN + place // across * block
        words = number(float(errors[place]), 3), str(int(images[place]))
        pairs.lay(board, left, top, tiles, words)
    return board.finished()


COVERAGE = Section(
    "coverage",
    _figures,
    "Coverage",
    "How many centroids cover the patch space?",
    _paragraphs,
    _caveats,
)
