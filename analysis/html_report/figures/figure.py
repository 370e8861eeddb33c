"""A figure of the report as it is kept: its files and its caption."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray
from matplotlib.figure import Figure

from analysis.html_report.figures.style import DPI, to_png, to_svg

MOST_LABELS = 2  # that a plate may have and still be shrunk


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    name: of its files, without the ending. title, caption: plain text.
    files: ending of the name -> contents: png, svg, and csv, the data that it shows, of `table`.
    width: on the page, CSS pixels. small_print: it holds words that are lost when it is shrunk to
    a telephone's width.
    """

    name: str
    title: str
    caption: str
    files: Mapping[str, bytes]
    width: int
    small_print: bool


def finished(name: str, title: str, caption: str, figure: Figure, csv: bytes) -> ReportFigure:
    """The figure drawn into its files; see ReportFigure."""
    has_axes = any(axes.axison for axes in figure.axes)
    png = to_png(figure)
    figure.set_layout_engine("none")  # laid out once, alike in both files
    return ReportFigure(
        name=name,
        title=title,
        caption=caption,
        files={"png": png, "svg": to_svg(figure), "csv": csv},
        width=round(figure.get_figwidth() * DPI / 2),  # two dots to a pixel: tiles stay sharp
        small_print=has_axes or len(figure.texts) > MOST_LABELS,
    )


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
