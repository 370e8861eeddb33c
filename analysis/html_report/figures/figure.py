"""A figure of the report as it is kept: its files and its caption."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray
from matplotlib.figure import Figure

from analysis.html_report.figures.style import DPI, PRINT_DPI, to_pdf, to_png, to_svg

INCH = 116  # CSS pixels on the page: words of 7 points are 11 pixels high
# In the SVG of a board on the page: the paper shows through, and words stand out from it.
BY_NIGHT = (
    b"<style>@media screen and (prefers-color-scheme: dark)"
    b"{#patch_1 path{fill:none!important}text{fill:#e4e4e0!important}}</style>"
)


@dataclass(frozen=True)
class Strip:
    """A part of a figure over K that stands for one: what the page says of it, and leads to.

    left, top, width, height: per cent of the figure. words: its values.
    """

    k: int
    words: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    name: of its files, without the ending. title, caption: plain text.
    files: ending of the name -> contents: png, svg, pdf, and csv, the data that it shows, of
    `table`. width: on the page, CSS pixels. small_print: it holds words that are lost when it is
    shrunk to a telephone's width. drawing: it has axes; else it is a board of images. shown: on the
    page, not only beside it. strips: where the pointer is told of a K.
    """

    name: str
    title: str
    caption: str
    files: Mapping[str, bytes]
    width: int
    small_print: bool
    drawing: bool
    shown: bool = True
    strips: tuple[Strip, ...] = ()


def finished(
    name: str, title: str, caption: str, figure: Figure, csv: bytes, *, shown: bool = True
) -> ReportFigure:
    """The figure drawn into its files; see ReportFigure."""
    drawing = any(axes.axison for axes in figure.axes)
    png = to_png(figure, PRINT_DPI if drawing else DPI)
    figure.set_layout_engine("none")  # laid out once, alike in all files
    return ReportFigure(
        name=name,
        title=title,
        caption=caption,
        files={"png": png, "svg": to_svg(figure), "pdf": to_pdf(figure), "csv": csv},
        width=round(figure.get_figwidth() * INCH),
        small_print=drawing or bool(figure.texts),
        drawing=drawing,
        shown=shown,
    )


def strips_over_k(figure: Figure, words: Mapping[int, str]) -> tuple[Strip, ...]:
    """Strips about each K, as high as the axes, in all axes over K of a figure that was drawn.

    words: K, ascending -> what is told of it.
    """
    found = []
    width, height = figure.bbox.size
    for axes in figure.axes:
        box = axes.bbox
        at = [float(axes.transData.transform((k, axes.get_ylim()[0]))[0]) for k in words]
        edges = [box.x0, *((a + b) / 2 for a, b in pairwise(at)), box.x1]
        for (k, told), (left, right) in zip(words.items(), pairwise(edges), strict=True):
            found.append(
                Strip(
                    k=k,
                    words=told,
                    left=100 * left / width,
                    top=100 * (1 - box.y1 / height),
                    width=100 * (right - left) / width,
                    height=100 * box.height / height,
                )
            )
    return tuple(found)


def table(columns: Mapping[str, Any]) -> bytes:
    """Columns as a CSV file: a line of names, then a line for each place; floats in full.

    columns: name, with the unit in it -> (n,) values; NaN is left empty. A value alone stands in
    every line.
    """
    lines = max(np.size(values) for values in columns.values())
    filled = {
        name: ("line", np.broadcast_to(np.asarray(values), lines))
        for name, values in columns.items()
    }
    return _written(xarray.Dataset(filled).to_dataframe())


def table_of_lines(names: Sequence[str], lines: Iterable[Sequence[Any]]) -> bytes:
    """The same from its lines."""
    return table(dict(zip(names, map(list, zip(*lines, strict=True)), strict=True)))


def long_table(dataset: xarray.Dataset) -> bytes:
    """Variables over the same axes as a CSV file, with a line for each place of the axes."""
    return _written(dataset.to_dataframe().reset_index())


def with_unit(name: str, unit: str) -> str:
    """A column's name with its unit, as in mse_squared_grey_levels."""
    return f"{name}_{unit.replace(' ', '_')}"


def _written(frame: Any) -> bytes:
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text.encode()
