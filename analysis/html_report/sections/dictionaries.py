"""All dictionaries: beside the page's table, how their fits converged."""

from collections.abc import Mapping

import numpy as np
import xarray
from matplotlib.figure import Figure

from analysis.html_report.figures.axes import legend_of_k, plain_log_ticks, shades_of_k
from analysis.html_report.figures.figure import ReportFigure, finished, table, with_unit
from analysis.html_report.figures.style import new_figure
from analysis.html_report.measured import Measured
from analysis.html_report.section import Section

MIN_PASSES = 3  # of a fit whose convergence is worth a figure
PREPROCESSED = "of preprocessed patches"  # in place of a unit, which they have none of
_LONG_RUN = 10  # passes; the first ones move most


def _figures(measured: Measured) -> list[ReportFigure]:
    """MSE of each pass, where a fit took several."""
    nodes = measured.experiment.nodes
    histories = {k: _history(node) for k, node in nodes.items()}
    if max(len(mse) for _, mse in histories.values()) < MIN_PASSES:
        return []
    caption = (
        "Training MSE of each pass, over the rows that the pass saw, against the rows of all passes"
        " so far. The last point of each curve is the score of the final centroids on all rows."
    )
    if any((node["live"] > k).any() for k, node in nodes.items()):
        caption += " Passes while centroids were on trial are left out."
    unit = measured.pixels.unit
    if measured.experiment.codebook(measured.told)[1] is not None:
        caption, unit = caption + " It is that of patches as they met centroids.", PREPROCESSED
    csv = table(
        {
            "k": np.concatenate([np.full(len(mse), k) for k, (_, mse) in histories.items()]),
            "rows_seen_over_all_rows": np.concatenate([seen for seen, _ in histories.values()]),
            with_unit("mse", unit): np.concatenate([mse for _, mse in histories.values()]),
        }
    )
    figure = convergence_figure(histories, unit)
    return [finished("convergence", "Convergence.", caption, figure, csv)]


def _history(node: xarray.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Rows seen up to each pass, as a multiple of all rows, and its MSE; with K centroids alone."""
    rows, regular = node["rows"].to_numpy(), node["live"].to_numpy() <= node.sizes["atom"]
    return (np.cumsum(rows) / rows[-1])[regular], node["mse"].to_numpy()[regular]


def convergence_figure(histories: Mapping[int, tuple[np.ndarray, np.ndarray]], unit: str) -> Figure:
    """MSE of the passes over the data, for each K.

    histories: K -> rows seen as a multiple of all rows, and the MSE, each (passes,).
    unit: of the MSE.
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
    axes.set_ylabel(f"MSE ({unit})")
    legend_of_k(axes, list(histories))
    return figure


DICTIONARIES = Section("dictionaries", _figures)
