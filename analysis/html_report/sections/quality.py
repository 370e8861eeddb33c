"""How well is a patch rebuilt?"""

import math

import numpy as np
import xarray
from matplotlib.figure import Figure

from analysis.html_report.figures.figure import ReportFigure, finished, long_table, with_unit
from analysis.html_report.figures.image_boards import (
    BOARD_WIDTH,
    MARGIN,
    PAIR_GAP,
    Board,
    Pairs,
    dots,
)
from analysis.html_report.measured import Measured
from analysis.html_report.samples import Quantised
from analysis.html_report.section import Section, which_sizes
from analysis.measures.pixel_scale import PixelScale
from analysis.text import listed, number, percent

HARMLESS = 0.05  # share by which the held-out MSE may lie above the training MSE
FEW_ROWS = 100  # patches per centroid
AXES = ("row", "col", "channel")  # of a patch
COLUMNS_FROM = 9  # so many K and more are set in two columns


def _paragraphs(measured: Measured) -> list[str]:
    k, pixels, variance = measured.told, measured.pixels, number(measured.variance)
    where = "" if measured.elbow is None else ", the elbow of the curve,"
    paragraphs = [
        f"At K = {k:,}{where} every patch is one of the centroids, so it is rebuilt exactly; the"
        f" mean patch as only centroid would have an MSE of {variance}."
        if measured.score("mse", k) == 0
        else f"At K = {k:,}{where} a rebuilt patch is off by"
        f" {number(measured.score('rmse', k), 3)} {pixels.level} on the scale"
        f" {pixels.range_text} (root mean squared error), and the centroids explain"
        f" {percent(measured.score('explained', k))} of the patches' variance. That is an MSE of"
        f" {number(measured.score('mse', k))} {pixels.unit}, or a peak signal-to-noise ratio (PSNR)"
        f" of {number(measured.score('psnr', k), 3)} dB; the mean patch as only centroid would have"
        f" an MSE of {variance}."
    ]
    second = [*_prepared(measured), *_range(measured), *_held_out(measured)]
    return [*paragraphs, " ".join(second)] if second else paragraphs


def _prepared(measured: Measured) -> list[str]:
    """What was done to patches before, and what these errors are of then."""
    preprocessing = measured.experiment.codebook(measured.told)[1]
    if preprocessing is None:
        return []
    done = {
        "contrast": ["divided by their contrast"],
        "zca": ["divided by their contrast", "whitened"],
    }
    steps = ["taken without their mean"] * (preprocessing.kind != "none")
    steps += done.get(preprocessing.kind, [])
    steps += ["brought to length 1"] * (preprocessing.distance == "cosine")
    kept = "mean and contrast" if preprocessing.kind != "none" else "length along its centroid"
    own = measured.experiment.nodes[measured.told].attrs["mse"]
    return [
        f"Patches were {listed(steps)} before they met centroids, where the MSE at"
        f" K = {measured.told:,} is {number(own)}; errors on this page are in pixels, where each"
        f" rebuilt patch keeps its own {kept}."
    ]


def _range(measured: Measured) -> list[str]:
    """From the smallest to the largest dictionary."""
    first, last = measured.sizes[0], measured.sizes[-1]
    if first == last:
        return []
    rmse, explained = (
        [measured.score(name, k) for k in (first, last)] for name in ("rmse", "explained")
    )
    return [
        f"From K = {first:,} to K = {last:,} the root mean squared error goes from"
        f" {number(rmse[0], 3)} to {number(rmse[1], 3)} {measured.pixels.level}, and the variance"
        f" explained from {percent(explained[0])} to {percent(explained[1])}."
    ]


def _held_out(measured: Measured) -> list[str]:
    """What the largest dictionary is worth for patches that were not learned from."""
    if not measured.held_out:
        return []
    excess, last = heldout_excess(measured), measured.sizes[-1]
    beside = (
        f"{percent(abs(excess))} {'above' if excess >= 0 else 'below'} that"
        if math.isfinite(excess)
        else "not 0 as that"
    )
    end = "." if excess > HARMLESS else ": what was learned holds for patches never seen before."
    return [
        f"On held-out patches, of {measured.held_out_parts} that were not learned from, the MSE"
        f" at K = {last:,} is {number(measured.score('heldout_mse', last))}, {beside} of the"
        f" training patches{end}"
    ]


def _caveats(measured: Measured) -> list[str]:
    """Nothing held out, learned by heart, few patches for a centroid."""
    caveats, last = [], measured.sizes[-1]
    if not measured.held_out:
        caveats.append(
            "Nothing was held out, so these numbers do not say how well patches are rebuilt that"
            " were not learned from."
        )
    elif (excess := heldout_excess(measured)) > HARMLESS:
        caveats.append(
            f"At K = {last:,} the error on held-out patches is {percent(excess)} larger: the"
            " dictionary has begun to learn its training patches by heart."
            if math.isfinite(excess)
            else f"At K = {last:,} held-out patches have an error and training patches none: the"
            " dictionary holds its training patches by heart."
        )
    rows = measured.rows / last
    if measured.experiment.codebook(last)[1] is not None:
        caveats.append(
            "The mean and contrast that rebuilt patches keep are no part of the bits that are"
            " counted for a patch."
        )
    if rows < FEW_ROWS:
        caveats.append(
            f"The sample is small: at K = {last:,} there are {number(rows, 2)} training patches for"
            " each centroid."
        )
    return caveats


def heldout_excess(measured: Measured) -> float:
    """How much larger the held-out MSE is than the training MSE at the largest K, as a share.

    inf where only the training patches have no error.
    """
    heldout, mse = (measured.scores(name)[-1] for name in ("heldout_mse", "mse"))
    if heldout == mse:
        return 0.0
    return math.inf if mse == 0 else heldout / mse - 1


def _figures(measured: Measured) -> list[ReportFigure]:
    shown, level = measured.quantised, measured.pixels.level
    caption = (
        f"The same random training patches ({measured.patch} pixels) for"
        f" {which_sizes(measured, 'each K')} in the upper row, and below each its"
        " nearest centroid with the centroid's index in its dictionary."
    )
    axes = AXES[: measured.patches.ndim - 1]
    values = xarray.Dataset(
        {
            "centroid": (("k", "patch"), [one.labels for one in shown.values()]),
            with_unit("patch_value", level): (("patch", *axes), measured.patches),
            with_unit("centroid_value", level): (
                ("k", "patch", *axes),
                np.stack([one.tiles for one in shown.values()]),
            ),
        },
        {"k": list(shown)},
    )
    figure = patch_plate(measured.patches, shown, measured.pictures)
    title = "Patches and their centroids."
    return [finished("patches", title, caption, figure, long_table(values))]


def patch_plate(patches: np.ndarray, by_k: dict[int, Quantised], pixels: PixelScale) -> Figure:
    """For each K the same patches above their centroids, with the centroids' indices.

    patches: (m, *patch_shape). From COLUMNS_FROM sizes on in two columns, of half the patches.
    """
    columns = 2 if len(by_k) >= COLUMNS_FROM else 1
    label, apart = dots(0.7), dots(0.12)
    span = (BOARD_WIDTH - MARGIN - (columns - 1) * apart) // columns
    pairs = Pairs(patches.shape[1:], pixels, 1)
    shown = min(len(patches), max(1, (span - label) // pairs.pitch))
    lines = -(-len(by_k) // columns)
    board = Board(BOARD_WIDTH, MARGIN + lines * pairs.block)
    for place, (k, found) in enumerate(by_k.items()):
        left = MARGIN + (place // lines) * (span + apart)
        top = MARGIN + (place % lines) * pairs.block
        board.text(left, top + pairs.high + PAIR_GAP / 2, f"K = {k:,}", va="center")
        for index in range(shown):
            at = left + label + index * pairs.pitch
            tiles = patches[index], found.tiles[index]
            pairs.lay(board, at, top, tiles, [str(found.labels[index])])
    return board.finished()


QUALITY = Section(
    "quality", _figures, "Quality", "How well is a patch rebuilt?", _paragraphs, _caveats
)
