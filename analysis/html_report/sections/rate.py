"""Rate and distortion: a part of the section on coverage."""

import numpy as np
import xarray
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.html_report.figures.axes import name_panel
from analysis.html_report.figures.figure import ReportFigure, finished, table
from analysis.html_report.figures.style import BLUE, GREY, VERMILION, new_figure
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
    if exponent is not None and exponent < 0:
        dimensions = -2 / exponent
        caption += (
            " Dotted: the gain of the best quantiser of D dimensions (Zador 1982), with the D that"
            " the power law through all K gives."
        )
    rates = {name: curve[name].values for name in ("rate", "entropy")}
    columns = {f"{name}_bits_per_patch": bits for name, bits in rates.items()}
    columns["psnr_db"] = np.where(finite, curve["psnr"], np.nan)
    for name, bits in rates.items():
        slope = decibels_per_bit(bits, curve["mse"])
        columns[f"gain_to_next_k_db_per_bit_of_{name}"] = np.append(slope, np.nan)
    csv = table({"k": measured.sizes} | columns)
    figure = rate_figure(curve, dimensions)
    return [finished("rate-distortion", "Rate and distortion.", caption, figure, csv)]


def rate_figure(curve: xarray.Dataset, dimensions: float | None) -> Figure:
    """PSNR against the bits of a patch, and its slope.

    curve: as `mse_curve` returns it. dimensions: D of the fitted power law MSE ∝ K^(-2/D), whose
    slope is drawn; None: not drawn.
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
    left.set_ylabel("PSNR (dB)")
    name_panel(left, "a", "rate and distortion")
    left.legend(loc="upper left")
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
