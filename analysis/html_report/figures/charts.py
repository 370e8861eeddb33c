"""The report's figures with axes, with their captions and the data that they show."""

from typing import cast

import numpy as np
import xarray

from analysis.experiment import Experiment
from analysis.html_report.figures.figure import ReportFigure, entry, long_table, table, with_unit
from analysis.html_report.figures.plots import (
    classes_figure,
    convergence_figure,
    mse_figure,
    rate_figure,
)
from analysis.html_report.figures.shares import kinds_figure, use_figure, within_figure
from analysis.html_report.findings import Findings
from analysis.html_report.investigation import Material
from analysis.measures.kinds import centroid_kinds
from analysis.measures.mse_curve import chord, decibels_per_bit, power_law
from analysis.reconstruction.scores import by_class
from analysis.text import SPLIT_NAMES, listed

MIN_PASSES = 3  # of a fit whose convergence is worth a figure
MIN_POINTS = 2  # of a curve


def use_chart(experiment: Experiment) -> ReportFigure:
    """How evenly the centroids are used."""
    counts = {k: node["count"].values for k, node in experiment.nodes.items()}
    caption = (
        "a, in per cent of K: the centroids that are nearest to at least one patch (live), the"
        " perplexity of their use (100 if all were used alike), and how many of the most used hold"
        " half of the patches (half); and the Gini coefficient of their use (in per cent, 0 if all"
        " were used alike). b, the share of all training patches that each centroid has, from the"
        " most to the least used."
    )
    figure = use_figure(experiment.curve, counts)
    title = "How evenly the centroids are used."
    return entry("use", "change", title, caption, figure, _use_table(experiment.curve, counts))


def _use_table(curve: xarray.Dataset, counts: dict[int, np.ndarray]) -> bytes:
    """Measures of each dictionary, which have no rank, and the shares of its ranked centroids."""
    names = ("live", "perplexity", "gini", "half", "entropy")
    k, measure, rank, value = [], [], [], []
    for size, used in counts.items():
        ranked = np.sort(used)[::-1] / used.sum()
        k.append(np.full(len(names) + size, size))
        measure += [*names, *["share_of_patches"] * size]
        rank.append(np.concatenate([np.full(len(names), np.nan), np.arange(1, size + 1)]))
        value.append(np.append([float(curve[name].sel(k=size)) for name in names], ranked))
    return table(
        {
            "k": np.concatenate(k),
            "measure": measure,
            "rank": np.concatenate(rank),
            "value": np.concatenate(value),
        }
    )


def mse_charts(experiment: Experiment, found: Findings) -> list[ReportFigure]:
    """MSE against K, where there are several."""
    if len(found.sizes) < MIN_POINTS:
        return []
    caption = (
        "Mean squared error per pixel of the patches against their nearest centroids, on the"
        " training patches that the dictionaries were learned from"
    )
    caption += "." if found.heldout is None else " and on the patches of held-out images."
    caption += " a, linear axes, as in the original study."
    if found.elbow is not None:
        caption += (
            f" The circle marks the elbow, K = {found.elbow:,}: the point farthest below the chord"
            " (dashed), measured along the grey line with both axes scaled to 0 … 1."
        )
    interval = elbow_limits(found)
    if interval is not None:
        caption += (
            f" The band, K = {interval[0]:,} to {interval[1]:,}, holds 95 % of the elbows that"
            " other choices from these K would give."
        )
    caption += " b, logarithmic axes, on which a power law is a straight line"
    caption += "." if found.exponent is None else " (dotted: fitted to the training curve)."
    figure = mse_figure(experiment.curve, found.elbow, found.pixels, interval)
    title = "MSE against the number of centroids."
    return [entry("mse", "coverage", title, caption, figure, _mse_table(experiment, found))]


def elbow_limits(found: Findings) -> tuple[int, int] | None:
    """Of the elbow, where it is wider than a point."""
    elbow = found.chord_elbow
    return None if elbow is None or elbow.low == elbow.high else (elbow.low, elbow.high)


def _mse_table(experiment: Experiment, found: Findings) -> bytes:
    k, mse = np.array(found.sizes, float), np.array(found.mse)
    unit = found.pixels.unit
    law = power_law(k, mse)
    low, high = elbow_limits(found) or (found.elbow or 0,) * 2
    return table(
        {
            "k": found.sizes,
            with_unit("mse", unit): mse,
            with_unit("heldout_mse", unit): experiment.curve["heldout_mse"].values,
            with_unit("chord", unit): chord(k, mse),
            with_unit("power_law", unit): (
                np.full(len(k), np.nan) if law is None else law[1] * k ** law[0]
            ),
            "elbow": [size == found.elbow for size in found.sizes],
            "in_elbow_interval": [low <= size <= high for size in found.sizes],
        }
    )


def rate_charts(experiment: Experiment, found: Findings) -> list[ReportFigure]:
    """Rate and distortion, where at least two K have an error."""
    curve = experiment.curve
    if int(np.isfinite(curve["psnr"]).sum()) < MIN_POINTS:
        return []
    dimensions = None
    caption = (
        "a, the peak signal-to-noise ratio of the training patches against the bits that name a"
        " patch's centroid: log2 K where all names are equally long, and the entropy of the"
        " centroids' use where the frequent ones are shorter. b, what one more bit gains, between"
        " each K and the next."
    )
    if found.exponent is not None and found.exponent < 0:
        dimensions = -2 / found.exponent
        caption += (
            " Dotted: the gain of the best quantiser of D dimensions (Zador 1982), with the D that"
            " the power law through all K gives."
        )
    figure = rate_figure(curve, dimensions)
    rates = {name: curve[name].values for name in ("rate", "entropy")}
    columns = {f"{name}_bits_per_patch": bits for name, bits in rates.items()}
    columns["psnr_db"] = np.where(np.isfinite(curve["psnr"]), curve["psnr"], np.nan)
    for name, bits in rates.items():
        slope = decibels_per_bit(bits, curve["mse"])
        columns[f"gain_to_next_k_db_per_bit_of_{name}"] = np.append(slope, np.nan)
    title = "Rate and distortion."
    csv = table({"k": found.sizes} | columns)
    return [entry("rate-distortion", "coverage", title, caption, figure, csv)]


def within_chart(found: Findings, material: Material) -> ReportFigure:
    """Shares of the patches that are rebuilt within an error."""
    coverage = material.coverage
    one = next(iter(coverage.values()))
    caption = (
        f"The share of {int(one['rows']):,} {found.unseen} patches whose root mean squared error"
        " (RMSE) per pixel is at most ε: a, against ε; b, against K."
    )
    level = with_unit("epsilon", found.pixels.level)
    shares = xarray.Dataset(
        {
            "share_of_patches": (
                ("k", level),
                np.stack([known["within"].values for known in coverage.values()]),
            )
        },
        {"k": list(coverage), level: one["epsilon"].values},
    )
    figure = within_figure(coverage, found.pixels)
    title = "Patches rebuilt within an error."
    return entry("within", "coverage", title, caption, figure, long_table(shares))


def kinds_charts(experiment: Experiment, found: Findings) -> list[ReportFigure]:
    """Shares of each kind against K, where there are several."""
    if len(found.sizes) < MIN_POINTS:
        return []
    shares = cast(xarray.Dataset, centroid_kinds(experiment.tree))
    caption = (
        "The share of each kind of centroid at every K: a, among the centroids; b, among the"
        " training patches that are nearest to them."
    )
    figure = kinds_figure(shares)
    title = "Kinds of centroids against K."
    return [entry("kinds-share", "nature", title, caption, figure, long_table(shares))]


def classes_charts(experiment: Experiment, material: Material) -> list[ReportFigure]:
    """Errors of the rebuilt images by class, where classes are known."""
    known = {k: one for k, one in material.scores.items() if "label" in one.coords}
    if not known:
        return []
    each = [by_class(one, experiment.class_names) for one in known.values()]
    scores = xarray.concat(each, xarray.IndexVariable("k", list(known)), combine_attrs="drop")
    split = SPLIT_NAMES[next(iter(known.values())).attrs["split"]]
    caption = (
        f"The mean squared error over all pixels of the {int(each[0]['images'].sum()):,} rebuilt"
        f" {split} images, by their class, for K = {listed(list(known))}."
    )
    unit = experiment.pixels.unit
    names = {"mse": with_unit("mse", unit), "psnr": "psnr_db"}
    csv = long_table(scores[["images", "mse", "psnr"]].rename(names))
    figure = classes_figure(scores, experiment.pixels)
    return [entry("classes", "composition", "Errors by class.", caption, figure, csv)]


def convergence_charts(experiment: Experiment, found: Findings) -> list[ReportFigure]:
    """MSE of each pass, where a fit took several."""
    histories = {k: _history(node) for k, node in experiment.nodes.items()}
    if max(len(mse) for _, mse in histories.values()) < MIN_PASSES:
        return []
    caption = (
        "Training MSE of each pass, over the rows that the pass saw, against the rows of all passes"
        " so far. The last point of each curve is the score of the final centroids on all rows."
    )
    if any((node["live"] > k).any() for k, node in experiment.nodes.items()):
        caption += " Passes while centroids were on trial are left out."
    figure = convergence_figure(histories, found.pixels)
    columns = {
        "k": np.concatenate([np.full(len(mse), k) for k, (_, mse) in histories.items()]),
        "rows_seen_over_all_rows": np.concatenate([seen for seen, _ in histories.values()]),
        with_unit("mse", found.pixels.unit): np.concatenate([mse for _, mse in histories.values()]),
    }
    title = "Convergence."
    return [entry("convergence", "dictionaries", title, caption, figure, table(columns))]


def _history(node: xarray.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Rows seen up to each pass, as a multiple of all rows, and its MSE; with K centroids alone."""
    rows, regular = node["rows"].to_numpy(), node["live"].to_numpy() <= node.sizes["atom"]
    return (np.cumsum(rows) / rows[-1])[regular], node["mse"].to_numpy()[regular]
