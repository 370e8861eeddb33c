"""Which interactive charts stand in for which figure of the paper, panel by panel."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import xarray
from bokeh.plotting import figure

from analysis.experiment import Experiment
from analysis.html_report.findings import Findings
from analysis.html_report.page.charts import (
    Axis,
    by_size,
    digits_form,
    guide,
    mark_elbow,
    over_k,
    points,
)
from analysis.measures.coverage import levels_that_tell, levels_to_tell
from analysis.measures.kinds import centroid_kinds
from analysis.measures.mse_curve import BIT, chord, decibels_per_bit, power_law
from analysis.text import compact

RANKS = 150  # of a curve of ranked use


def panels(
    experiment: Experiment, found: Findings, coverage: Mapping[int, xarray.Dataset]
) -> Mapping[str, list[figure]]:
    """Charts by the name of the figure that shows the same; none where there is one K alone.

    coverage: K -> as `coverage` returns it, of every K.
    """
    if len(found.sizes) == 1:
        return {}
    return {
        "use": _use(experiment),
        "mse": _mse(experiment, found),
        "rate-distortion": _rate(experiment, found),
        "within": _within(coverage, found),
        "kinds-share": _kinds(experiment),
    }


def _mse(experiment: Experiment, found: Findings) -> list[figure]:
    curve = experiment.curve
    lines = {"training": curve["mse"].values}
    if found.heldout is not None:
        lines["held out"] = curve["heldout_mse"].values
    largest = max(float(np.max(values)) for values in lines.values())
    smallest = min(float(np.min(values)) for values in lines.values())
    label, k, form = f"MSE ({found.pixels.unit})", curve["k"].values, digits_form(smallest, 5)
    span = (0, 1.05 * largest) if largest else None
    linear = over_k("mse", lines, k, Axis(label, span=span), form, log=False)
    logarithmic = over_k("mse-log", lines, k, Axis(label, log=smallest > 0), form)
    mse = curve["mse"].values
    if found.elbow is not None:
        place = found.elbow, float(curve["mse"].sel(k=found.elbow))
        interval = found.chord_elbow
        mark_elbow(linear, place, (interval.low, interval.high) if interval else None)
        guide(linear, k[[0, -1]], mse[[0, -1]], "dashed")
        depth = np.array([place[1], chord(k.astype(float), mse)[found.sizes.index(found.elbow)]])
        guide(linear, np.full(2, found.elbow), depth, "solid")
    if law := power_law(k, mse):
        exponent, factor = law
        guide(logarithmic, k, factor * k**exponent, "dotted")
    return [linear, logarithmic]


def _use(experiment: Experiment) -> list[figure]:
    curve = experiment.curve
    k = curve["k"].values
    shares = {
        "live": 100 * curve["live"].values / k,
        "perplexity": 100 * curve["perplexity"].values / k,
        "half": 100 * curve["half"].values / k,
        "Gini coefficient": 100 * curve["gini"].values,
    }
    ranked = {}
    for size, node in experiment.nodes.items():
        counts = np.sort(node["count"].values)[::-1]
        counts = counts[counts > 0]
        # Evenly spread on a logarithmic axis.
        ranks = np.unique(np.geomspace(1, len(counts), RANKS).round().astype(int))
        ranked[size] = (ranks, 100 * counts[ranks - 1] / counts.sum())
    return [
        over_k("use", shares, k, Axis("per cent", span=(0, 104)), "0.0"),
        by_size(
            "ranked-use",
            ranked,
            Axis("centroids by use, rank", log=True),
            Axis("share of patches (%)", log=True),
            "0.0000",
        ),
    ]


def _rate(experiment: Experiment, found: Findings) -> list[figure]:
    curve = experiment.curve
    k, psnr = curve["k"].values, np.where(np.isfinite(curve["psnr"]), curve["psnr"], np.nan)
    bits = {"log₂ K": curve["rate"].values, "entropy of use": curve["entropy"].values}
    slopes = {name: decibels_per_bit(rate, curve["mse"]) for name, rate in bits.items()}
    middles = {
        name: ((bits[name][1:] + bits[name][:-1]) / 2, slope) for name, slope in slopes.items()
    }
    known = np.concatenate(list(slopes.values()))
    highest = float(known[np.isfinite(known)].max(initial=0)) or 1.0
    bits_axis = Axis("rate (bits per patch)")
    rate = {name: (values, psnr) for name, values in bits.items()}
    lowest = min(0.0, float(known[np.isfinite(known)].min(initial=0)))
    gain = Axis("gain (dB per bit)", span=(1.1 * lowest, 1.1 * highest))
    charts = [
        points("rate", rate, k, bits_axis, Axis("PSNR (dB)"), "0.00"),
        points("slope", middles, k[:-1], bits_axis, gain, "0.000"),
    ]
    if found.exponent is not None and found.exponent < 0:
        ends = bits["log₂ K"][[0, -1]]
        guide(charts[1], ends, np.full(2, BIT * -found.exponent / 2), "dotted")
    return charts


def _within(coverage: Mapping[int, xarray.Dataset], found: Findings) -> list[figure]:
    sizes = list(coverage)
    epsilon = coverage[sizes[0]]["epsilon"].values
    within = np.stack([coverage[k]["within"].values for k in sizes])  # (K, epsilon)
    stop = levels_that_tell(within)
    level = f"ε ({found.pixels.level}, RMSE per pixel)"
    share = Axis("patches within ε (%)", span=(0, 104))
    curves = {k: (epsilon[:stop], 100 * row[:stop]) for k, row in zip(sizes, within, strict=True)}
    lines = {f"ε = {compact(epsilon[at])}": 100 * within[:, at] for at in levels_to_tell(within)}
    return [
        by_size("within", curves, Axis(level), share, "0.0"),
        over_k("within-k", lines, np.array(sizes), share, "0.0"),
    ]


def _kinds(experiment: Experiment) -> list[figure]:
    shares = cast(xarray.Dataset, centroid_kinds(experiment.tree))
    k, names = shares["k"].values, [str(kind) for kind in shares["kind"].values]
    charts = []
    for what, variable in (("centroids", "of_centroids"), ("patches", "of_patches")):
        values = 100 * shares[variable].transpose("kind", "k").values
        lines = {name: line for name, line in zip(names, values, strict=True) if line.any()}
        axis = Axis(f"share of the {what} (%)", span=(0, 1.05 * float(values.max())))
        charts.append(over_k(f"kinds-of-{what}", lines, k, axis, "0.0"))
    return charts
