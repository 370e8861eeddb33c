"""Rate and distortion: a part of the section on coverage."""

from collections.abc import Mapping

import numpy as np
import xarray
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.encoding.stages import stage_curves
from analysis.html_report.figures.axes import name_panel
from analysis.html_report.figures.figure import ReportFigure, finished, table
from analysis.html_report.figures.style import BLUE, GREEN, GREY, SMALL, VERMILION, new_figure
from analysis.html_report.measured import Measured
from analysis.measures.mse_curve import BIT, decibels_per_bit
from analysis.text import number


def rate_figures(measured: Measured) -> list[ReportFigure]:
    """Rate and distortion, where at least two K have an error."""
    curve, exponent = measured.curve, measured.exponent
    finite = np.isfinite(curve["psnr"].values)
    if finite.sum() < 2:
        return []
    dimensions = None
    caption = (
        "a, the peak signal-to-noise ratio of the training patches against the bits that encode"
        " a patch's centroid: log2 K where all codes are equally long, and the entropy of the"
        " centroids' use where frequent centroids have shorter ones. b, what one more bit gains,"
        " between each K and the next."
    )
    if measured.pictures.narrowed:
        caption += f" The peak is of the whole range, {measured.pixels.range_text}."
    if exponent is not None and exponent < 0:
        dimensions = -2 / exponent
        caption += (
            " Dotted: the gain of the best quantiser of D dimensions (Zador 1982), with the D that"
            " the power law through all K gives."
        )
    stages = stage_curves(measured.experiment)
    if stages:
        caption += (
            " Diamonds in a: residual stages, each a dictionary of K centroids of what those before"
            " it leave, whose sum stands for a patch; from one stage to the next, at log2 K bits"
            " for each."
        )
    rates = {name: curve[name].values for name in ("rate", "entropy")}
    columns = {f"{name}_bits_per_patch": bits for name, bits in rates.items()}
    columns["psnr_db"] = np.where(finite, curve["psnr"], np.nan)
    for name, bits in rates.items():
        slope = decibels_per_bit(bits, curve["mse"])
        columns[f"gain_to_next_k_db_per_bit_of_{name}"] = np.append(slope, np.nan)
    csv = table(_with_stages({"k": np.array(measured.sizes)} | columns, stages))
    figure = rate_figure(curve, dimensions, stages)
    return [finished("rate-distortion", "Rate and distortion.", caption, figure, csv)]


def _with_stages(
    columns: dict[str, np.ndarray], stages: Mapping[int, xarray.Dataset]
) -> dict[str, np.ndarray]:
    """The table's columns with lines of the later stages, and the number of stages of each line."""
    if not stages:
        return columns
    lines = sum(len(found["stage"]) - 1 for found in stages.values())
    known = {"rate_bits_per_patch": "rate", "entropy_bits_per_patch": "entropy", "psnr_db": "psnr"}
    later = {name: np.full(lines, np.nan) for name in columns}
    later |= {
        column: np.concatenate([found[name].values[1:] for found in stages.values()])
        for column, name in known.items()
    }
    numbers = np.concatenate([found["stage"].values[1:] for found in stages.values()])
    sizes = [np.full(len(found["stage"]) - 1, k) for k, found in stages.items()]
    one = np.ones(len(columns["k"]), np.int64)
    first = {"k": np.concatenate([columns["k"], *sizes]), "stages": np.append(one, numbers)}
    return first | {
        name: np.append(values, later[name]) for name, values in columns.items() if name != "k"
    }


def rate_figure(
    curve: xarray.Dataset,
    dimensions: float | None,
    stages: Mapping[int, xarray.Dataset] | None = None,
) -> Figure:
    """PSNR against the bits of a patch, and its slope.

    curve: as `mse_curve` returns it. dimensions: D of the fitted power law MSE ∝ K^(-2/D), whose
    slope is drawn; None: not drawn. stages: as `stage_curves` returns them.
    """
    figure = new_figure(2.7)
    left, right = figure.subplots(1, 2)
    series = {
        "rate": ("o-", BLUE, "log₂ K, codes of one length"),
        "entropy": ("s--", VERMILION, "entropy of use, ideal codes"),
    }
    psnr, extremes = curve["psnr"].values, [0.0]
    for name, (form, colour, label) in series.items():
        bits = curve[name].values
        left.plot(bits, np.where(np.isfinite(psnr), psnr, np.nan), form, color=colour, label=label)
        slopes = decibels_per_bit(bits, curve["mse"])
        right.plot((bits[:-1] + bits[1:]) / 2, slopes, form, color=colour)
        extremes += slopes[np.isfinite(slopes)].tolist()
    for place, (k, found) in enumerate((stages or {}).items()):
        name = "residual stages" if place == 0 else "_"  # once in the legend
        points = found["rate"].values, np.where(np.isfinite(found["psnr"]), found["psnr"], np.nan)
        left.plot(*points, "D-", color=GREEN, label=name, markerfacecolor="none")
        left.annotate(
            f"{len(found['stage'])} × {k:,}",
            (points[0][-1], points[1][-1]),
            (-3, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=SMALL,
        )
    left.set_ylabel("PSNR (dB)")
    name_panel(left, "a", "rate and distortion")
    left.legend(loc="lower right")
    left.margins(y=0.12)
    right.set_ylabel("gain (dB per bit)")
    name_panel(right, "b", "slope")
    if dimensions is not None:
        label = f"{BIT:.2f} / D, D = {number(dimensions, 2)}"
        right.axhline(
            BIT / dimensions, label=label, color=GREY, linewidth=0.8, linestyle=":", zorder=0
        )
        extremes.append(BIT / dimensions)
        right.legend(loc="lower right")
    right.set_ylim(1.08 * min(extremes), 1.08 * max(extremes) or 1.0)
    for axes in (left, right):
        axes.set_xlabel("rate (bits per patch)")
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    return figure
