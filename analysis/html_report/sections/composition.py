"""How is an image made from the centroids?"""

from collections.abc import Sequence

import numpy as np
import xarray
from matplotlib.figure import Figure

from analysis.html_report.figures import style
from analysis.html_report.figures.axes import plain_log_ticks
from analysis.html_report.figures.figure import (
    ReportFigure,
    finished,
    long_table,
    table_of_lines,
    with_unit,
)
from analysis.html_report.figures.image_boards import (
    BOARD_WIDTH,
    MARGIN,
    TEXT_LINE,
    Board,
    dots,
    fitting,
)
from analysis.html_report.measured import Measured
from analysis.html_report.samples import TypicalImage
from analysis.html_report.section import Section, which_sizes
from analysis.measures.pixel_scale import PixelScale, reduced
from analysis.reconstruction.scores import by_class, overall
from analysis.text import SPLIT_NAMES, count, listed, number, size_range

MOST_IN_A_ROW = 8  # rebuilt images
MOST_CLASSES = 40  # of a figure


def _paragraphs(measured: Measured) -> list[str]:
    made, image = measured.composition, measured.typical[-1]
    kept = "all" if made.patches == made.windows else f"{made.patches:,}"
    part = f" ({image.part})" if image.part else ""
    first = (
        "An image is made by laying the nearest centroids of its overlapping patches over one"
        f" another and taking the mean where they overlap. The {image.title}{part} has"
        f" {count(made.windows, 'window')}, {kept} of them with a patch that is"
        f" {_why_kept(measured)}. With K = {measured.told:,} they are replaced by"
        f" {count(made.distinct, 'different centroid')}, so a centroid is used"
        f" {number(made.patches / max(1, made.distinct), 2)} times on average; and a covered pixel"
        f" is the mean of {number(made.overlap, 3)} patches."
    )
    if "mask" in measured.experiment.facts.get("source", {}).get("stated", {}):
        first += " The mask, by which patches were chosen to learn from, is left aside here."
    covered = (
        f", and {number(made.covered_mse)} over the covered ones"
        if made.covered_mse != made.image_mse
        else ""
    )
    second = (
        f"The MSE of the rebuilt image is {number(made.image_mse)} over all pixels{covered}; that"
        f" of its patches, one by one, is {number(made.patch_mse)} {measured.pixels.unit}."
    )
    if made.overlap == 1:
        second += " No pixel is covered twice, so each patch stands alone."
    elif made.covered_mse < made.patch_mse:
        second += (
            " Over the covered pixels the MSE is"
            f" {number(made.patch_mse / max(made.covered_mse, 1e-300), 3)} times smaller than"
            " patch by patch: the errors of different patches at one pixel partly cancel."
        )
    return [first, second, _many_images(measured)]


def _why_kept(measured: Measured) -> str:
    """What is told of the patches that are kept."""
    nonblank = measured.experiment.spec.keep == "nonblank"
    return "bright enough to be kept" if nonblank else "kept"


def _many_images(measured: Measured) -> str:
    """How well all test images, or many others, are rebuilt, and which classes best and worst."""
    scores = measured.image_scores[measured.told]
    total, n = overall(scores), scores.sizes["image"]
    images = count(n, f"{SPLIT_NAMES[measured.split]} image")
    if middle := measured.scored_middle:
        part = "middle" if n == 1 else "middles"
        images = (
            f"The {part} ({size_range([middle])} pixels{'' if n == 1 else ' each'}) of {images}"
        )
    text = (
        f"{images}{'' if n == 1 else ' together'}, rebuilt with K = {measured.told:,},"
        f" {'has' if n == 1 else 'have'} an MSE of {number(total['mse'])}"
    )
    text += f", a PSNR of {number(total['psnr'], 3)} dB." if total["mse"] else "."
    if "label" not in scores.coords:
        return text
    names = measured.experiment.class_names
    each = by_class(scores, names)
    classes = dict(
        zip(each["name" if names else "label"].values, each["mse"].values.tolist(), strict=True)
    )
    if len(classes) > 1:
        best, worst = (choose(classes, key=classes.__getitem__) for choose in (min, max))
        text += (
            f" Images of class {best} are rebuilt best (MSE {number(classes[best])}), those of"
            f" class {worst} worst ({number(classes[worst])})."
        )
    return text


def _caveats(measured: Measured) -> list[str]:
    """An image that was learned from."""
    if measured.held_out:
        return []
    return ["Its patches are among those that the dictionary was learned from."]


def _figures(measured: Measured) -> list[ReportFigure]:
    return [_rebuilt(measured), *_classes(measured)]


def _rebuilt(measured: Measured) -> ReportFigure:
    """An image of each split and its versions by K."""
    images, unit = measured.typical, measured.pixels.unit
    caption = (
        "Each kept patch is replaced by its nearest centroid; where patches overlap, their mean is"
        " taken; pixels that no kept patch covers are black. Of each split the first image with the"
        f" median number of kept patches{_of_which(images)}. The MSE is over all pixels, in {unit}."
    )
    splits = " and ".join(f"a {image.split}" for image in images)
    title = f"{splits.capitalize()} image rebuilt at {which_sizes(measured, 'every K')}."
    lines = [(image.title, k, mse) for image in images for k, (_, mse) in image.versions.items()]
    csv = table_of_lines(("image", "k", with_unit("mse", unit)), lines)
    return finished("rebuilt", title, caption, rebuilt_plate(images, measured.pictures), csv)


def _of_which(images: Sequence[TypicalImage]) -> str:
    """What of the images is shown, where it is not all."""
    parts = list(dict.fromkeys(image.part for image in images if image.part))
    return f", of which the middle: {listed(parts)}" if parts else ""


def rebuilt_plate(images: Sequence[TypicalImage], pixels: PixelScale) -> Figure:
    """For each image the original, then its versions by K, with the MSE under each.

    Large images are reduced, and their titles say so.
    """
    cells = 1 + max(len(image.versions) for image in images)
    lines = -(-cells // MOST_IN_A_ROW)
    across = -(-cells // lines)
    shapes = [image.original.shape[:2] for image in images]
    height, width = (max(lengths) for lengths in zip(*shapes, strict=True))
    gap, head = dots(0.09), dots(0.24)
    pitch = min((BOARD_WIDTH - 2 * MARGIN + gap) // across, dots(1.38))
    factor, scale = fitting(height, width, pitch - gap)
    high = scale * max(1, height // factor)
    cell_high = high + 2 * TEXT_LINE + dots(0.1)
    block = head + lines * cell_high
    board = Board(BOARD_WIDTH, MARGIN + len(images) * block)
    for row, image in enumerate(images):
        top = MARGIN + row * block
        wide = scale * max(1, image.original.shape[1] // factor)
        title = image.title if factor == 1 else f"{image.title}, shown at 1/{factor} of its size"
        board.text(MARGIN, top, title, fontsize=style.NORMAL)
        entries = [("original", "", image.original)]
        entries += [
            (f"K = {k:,}", f"MSE {number(mse)}", version)
            for k, (version, mse) in image.versions.items()
        ]
        for place, (name, score, version) in enumerate(entries):
            left = MARGIN + (place % across) * pitch
            upper = top + head + (place // across) * cell_high
            board.levels(reduced(version, factor), pixels, scale, left, upper)
            for step, words in enumerate((name, score)):
                below = upper + high + dots(0.04) + step * (TEXT_LINE - dots(0.02))
                colour = style.GREY if step else "black"
                board.text(
                    left + wide / 2, below, words, ha="center", fontsize=style.SMALL, color=colour
                )
    return board.finished()


def _classes(measured: Measured) -> list[ReportFigure]:
    """Errors of the rebuilt images by class, where classes are known."""
    known = {k: one for k, one in measured.image_scores.items() if "label" in one.coords}
    if not known:
        return []
    each = [by_class(one, measured.experiment.class_names) for one in known.values()]
    scores = xarray.concat(each, xarray.IndexVariable("k", list(known)), combine_attrs="drop")
    images = int(each[0]["images"].sum())
    middles = "the middles of " if measured.scored_middle else ""
    caption = (
        f"The mean squared error over all pixels of {middles}the {images:,} rebuilt"
        f" {SPLIT_NAMES[measured.split]} images, by their class, for K = {listed(list(known))}."
    )
    names = {"mse": with_unit("mse", measured.pixels.unit), "psnr": "psnr_db"}
    csv = long_table(scores[["images", "mse", "psnr"]].rename(names))
    shown = extreme_classes(scores)
    if shown.sizes["label"] < scores.sizes["label"]:
        caption += (
            f" Of the {scores.sizes['label']:,} classes it shows the {MOST_CLASSES // 2} that are"
            f" rebuilt best and as many that are rebuilt worst at K = {int(scores['k'][-1]):,}; its"
            " CSV file has all."
        )
    figure = classes_figure(shown, measured.pixels)
    return [finished("classes", "Errors by class.", caption, figure, csv)]


def extreme_classes(scores: xarray.Dataset) -> xarray.Dataset:
    """All classes, or of more than MOST_CLASSES half with the least and half with the largest MSE.

    scores: as for `classes_figure`; the MSE is that of the last dictionary.
    """
    order, half = np.argsort(scores["mse"].isel(k=-1).values, kind="stable"), MOST_CLASSES // 2
    if len(order) > MOST_CLASSES:
        order = np.concatenate([order[:half], order[-half:]])
    return scores.isel(label=np.sort(order))


def classes_figure(scores: xarray.Dataset, pixels: PixelScale) -> Figure:
    """MSE of rebuilt images by their class, a dot for each dictionary.

    scores: `mse` over (k, label), squared pixel levels, for a few K; perhaps `name` of each label.
    """
    labels = [str(label) for label in scores["name" if "name" in scores.coords else "label"].values]
    figure = style.new_figure(0.9 + 0.19 * len(labels))
    axes = figure.subplots()
    mse = scores["mse"].transpose("k", "label").values
    places = np.arange(len(labels))
    axes.hlines(places, mse.min(axis=0), mse.max(axis=0), color=style.BAND, linewidth=3, zorder=0)
    forms = (("o", style.BLUE), ("s", style.GREEN), ("^", style.VERMILION), ("D", style.GREY))
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


COMPOSITION = Section(
    "composition", _figures, "Composition", "How is an image made from them?", _paragraphs, _caveats
)
