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
from analysis.text import listed


def _figures(measured: Measured) -> list[ReportFigure]:
    experiment, pixels = measured.experiment, measured.pixels
    splits = listed([f"{name} images" for name in measured.samples])
    height, width = experiment.image_shape[:2]
    reach = f"{pixels.black:g} to {pixels.white:g}"
    scale = (
        f"Black is {pixels.black:g} and white {pixels.white:g}, as in all images of this page."
        if len(experiment.image_shape) == 2
        else f"Each channel reaches from {reach}, as in all images of this page."
    )
    caption = (
        f"Drawn at random from the {splits} of {experiment.name}, {height}×{width} pixels each."
        f" {scale}"
    )
    lines = [
        (name, place, int(index), image.min(), image.mean(), image.max())
        for store, (name, images) in zip(
            measured.stores.values(), measured.samples.items(), strict=True
        )
        for place, (index, image) in enumerate(zip(store.order, images, strict=False))
    ]
    levels = [with_unit(f"{name}_value", pixels.level) for name in ("lowest", "mean", "highest")]
    csv = table_of_lines(["split", "place", "image", *levels], lines)
    figure = sample_plate(measured.samples, pixels)
    return [finished("samples", "Sample images.", caption, figure, csv)]


def sample_plate(rows: Mapping[str, Sequence[np.ndarray]], pixels: PixelScale) -> Figure:
    """Images of each split in a row, reduced where they are large; rows: label -> images."""
    label, gap = dots(0.62), dots(0.07)
    per_row = max(len(images) for images in rows.values())
    height, width = next(iter(rows.values()))[0].shape[:2]
    factor, scale = fitting(height, width, (BOARD_WIDTH - label - MARGIN) // per_row - gap)
    shown = {name: [reduced(image, factor) for image in images] for name, images in rows.items()}
    return rows_of_images(shown, pixels, scale, label, gap)


DATA = Section("data", _figures)
