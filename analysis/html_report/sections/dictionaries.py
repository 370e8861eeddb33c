"""All dictionaries: beside the page's table, how their fits converged."""

from collections.abc import Mapping

import numpy as np
import xarray
from matplotlib.figure import Figure

from analysis.html_report.figures.axes import a_few_sizes, legend_of_k, plain_log_ticks, shades_of_k
from analysis.html_report.figures.figure import ReportFigure, finished, table, with_unit
from analysis.html_report.figures.style import new_figure
from analysis.html_report.measured import Measured
from analysis.html_report.section import Section

MIN_PASSES = 3  # of a fit whose convergence is worth a figure
PREPROCESSED = "of preprocessed patches"  # in place of a unit, which they have none of
NOISE = 0.01  # per cent: of what is smaller nothing is told
FEW_PASSES = 5  # of which each gets a dot
_LONG_RUN = 10  # passes; the first ones move most


def _figures(measured: Measured) -> list[ReportFigure]:
    """MSE of each pass, where a fit took several."""
    nodes = measured.experiment.nodes
    histories = {k: _history(node) for k, node in nodes.items()}
    if max(len(mse) for _, mse in histories.values()) < MIN_PASSES:
        return []
    caption = (
        "How far the training MSE of each pass, over the rows that it saw, lies above that of the"
        " final centroids on all rows, against the rows of all passes so far. Passes over a part of"
        " the rows may lie below it, and are left out then."
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
            "above_final_per_cent": np.concatenate([excess(mse) for _, mse in histories.values()]),
        }
    )
    drawn = {k: histories[k] for k in a_few_sizes(list(histories))}
    if len(drawn) < len(histories):
        caption += f" Of the {len(histories)} K {len(drawn)} are drawn; the CSV has all."
    figure = convergence_figure(drawn)
    return [finished("convergence", "Convergence.", caption, figure, csv)]


def _history(node: xarray.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Rows seen up to each pass, as a multiple of all rows, and its MSE; with K centroids alone."""
    rows, regular = node["rows"].to_numpy(), node["live"].to_numpy() <= node.sizes["atom"]
    return (np.cumsum(rows) / rows[-1])[regular], node["mse"].to_numpy()[regular]


def excess(mse: np.ndarray) -> np.ndarray:
    """Per cent by which the MSE of each pass lies above the last, the final one; (passes,)."""
    return 100 * (mse / mse[-1] - 1) if mse[-1] else 100 * (mse > 0).astype(float)


def convergence_figure(histories: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """How far the MSE of the passes over the data lies above the final one, for each K.

    histories: K -> rows seen as a multiple of all rows, and the MSE, each (passes,).
    """
    figure = new_figure(2.5)
    axes = figure.subplots()
    marker = "o" if max(len(mse) for _, mse in histories.values()) < FEW_PASSES else ""
    for (seen, mse), colour in zip(histories.values(), shades_of_k(len(histories)), strict=True):
        above = excess(mse)[:-1]
        shown = np.where(above > 0, above, np.nan)
        axes.plot(seen[:-1], shown, color=colour, marker=marker)
    if max(seen[-1] for seen, _ in histories.values()) > _LONG_RUN:
        axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(NOISE, axes.get_ylim()[0]))
    plain_log_ticks(axes)
    axes.set_xlabel("rows seen, in passes over all rows")
    axes.set_ylabel("MSE above the final one (per cent)")
    legend_of_k(axes, list(histories))
    return figure


DICTIONARIES = Section("dictionaries", _figures)
