"""What the data look like: images of each split."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.html_report.figures.figure import ReportFigure, finished, table_of_lines, with_unit
from analysis.html_report.figures.image_boards import (
    BOARD_WIDTH,
    MARGIN,
    dots,
    fitting,
    rows_of_images,
)
from analysis.html_report.measured import Measured
from analysis.html_report.section import Section
from analysis.measures.pixel_scale import PixelScale, reduced
from analysis.text import SPLIT_NAMES, listed, size_range


def _figures(measured: Measured) -> list[ReportFigure]:
    experiment, pixels = measured.experiment, measured.pictures
    scale = (
        f"Black is {pixels.black:g} and white {pixels.white:g}"
        if len(experiment.image_shape) == 2
        else f"Each channel reaches from {pixels.black:g} to {pixels.white:g}"
    ) + f"{pixels.origin}, as in all images of this page."
    caption = f"{_origin(measured)} {scale}"
    lines = [
        (name, place, int(index), image.min(), image.mean(), image.max())
        for split, (name, images) in zip(measured.stores, measured.samples.items(), strict=True)
        for place, (index, image) in enumerate(zip(measured.drawn(split), images, strict=True))
    ]
    levels = [with_unit(f"{name}_value", pixels.level) for name in ("lowest", "mean", "highest")]
    csv = table_of_lines(["split", "place", "image", *levels], lines)
    figure = sample_plate(measured.samples, pixels)
    return [finished("samples", "Sample images.", caption, figure, csv)]


def _origin(measured: Measured) -> str:
    """Where the images are from, and how much of them is shown."""
    sizes = {split: measured.image_sizes(split) for split in measured.sources}
    names = {split: f"{SPLIT_NAMES[split]} images" for split in sizes}
    which = listed([*names.values()])
    if len(set(sizes.values())) == 1:
        told = f"{which} of {measured.experiment.name}, {sizes['train']} pixels each"
    else:
        told = f"{which} of {measured.experiment.name}, " + listed(
            [f"{sizes[split]} pixels each ({name})" for split, name in names.items()]
        )
    shown = {
        SPLIT_NAMES[split]: size_range([measured.samples[SPLIT_NAMES[split]][0].shape[:2]])
        for split in sizes
    }
    middles = [
        name for split, name in zip(sizes, shown, strict=True) if sizes[split] != shown[name]
    ]
    parts = listed(list(dict.fromkeys(shown[name] for name in middles)))
    everything = all(len(measured.drawn(split)) == len(measured.sources[split]) for split in sizes)
    text = f"{'All' if everything else 'Drawn at random from the'} {told}."
    return f"{text} Of each the middle is shown, {parts} pixels." if middles else text


def sample_plate(rows: Mapping[str, Sequence[np.ndarray]], pixels: PixelScale) -> Figure:
    """Images of each split in a row, reduced where they are large; rows: label -> images."""
    label, gap = dots(0.62), dots(0.07)
    per_row = max(len(images) for images in rows.values())
    firsts = [images[0].shape[:2] for images in rows.values()]
    height, width = (max(lengths) for lengths in zip(*firsts, strict=True))
    factor, scale = fitting(height, width, (BOARD_WIDTH - label - MARGIN) // per_row - gap)
    shown = {name: [reduced(image, factor) for image in images] for name, images in rows.items()}
    return rows_of_images(shown, pixels, scale, label, gap)


DATA = Section("data", _figures)
