"""The report's figures: each drawn, with its name, its place on the page and its caption."""

from dataclasses import dataclass

import numpy as np
import xarray
from matplotlib.figure import Figure

from analysis.experiment import Experiment
from analysis.findings import Findings
from analysis.investigation import Material
from analysis.kinds import KINDS, kinds_of, plural
from analysis.paper.drawing import styled, to_png
from analysis.paper.plates import (
    gallery_plate,
    kinds_plate,
    patch_plate,
    rebuilt_plate,
    sample_plate,
    shown_width,
)
from analysis.paper.plots import convergence_figure, mse_figure, use_figure
from analysis.wording import count, listed, percent

MOST_LABELS = 2  # that a figure may have and still be shrunk
MIN_PASSES = 3  # of a fit whose convergence is worth a figure
KIND_NAMES = {kind: plural(kind) for kind in KINDS}
EXAMPLES = 15  # as many as fit


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    name: of its file, without the ending. section: of the page. title, caption: plain text.
    png: the file's content. width: on the page, CSS pixels. small_print: it holds words that are
    lost when it is shrunk to a telephone's width.
    """

    name: str
    section: str
    title: str
    caption: str
    png: bytes
    width: int
    small_print: bool


def draw_figures(experiment: Experiment, found: Findings, material: Material) -> list[ReportFigure]:
    """All figures, in the order of the page."""
    with styled():
        return [
            _samples(found, material),
            _use(experiment, found),
            _patches(found, material),
            *_mse(experiment, found),
            _kinds(experiment, found),
            *_galleries(experiment, found),
            _rebuilt(found, material),
            *_convergence(experiment, found),
        ]


def _drawn(name: str, section: str, title: str, caption: str, figure: Figure) -> ReportFigure:
    small_print = len(figure.texts) > MOST_LABELS or bool(figure.axes)
    return ReportFigure(
        name, section, title, caption, to_png(figure), shown_width(figure), small_print
    )


def _scale_note(found: Findings) -> str:
    return (
        f"Black is 0 and white {found.pixels.largest:g}, as in all images of this page."
        if len(found.image_shape) == 2
        else f"Each channel reaches from 0 to {found.pixels.largest:g}, as in all images of this"
        " page."
    )


def _samples(found: Findings, material: Material) -> ReportFigure:
    splits = listed([f"{name} images" for name in material.samples])
    height, width = found.image_shape[:2]
    caption = (
        f"Drawn at random from the {splits} of {found.dataset}, {height}×{width} pixels each."
        f" {_scale_note(found)}"
    )
    figure = sample_plate(material.samples, found.pixels)
    return _drawn("samples", "data", "Sample images.", caption, figure)


def _use(experiment: Experiment, found: Findings) -> ReportFigure:
    counts = {k: node["count"].values for k, node in experiment.nodes.items()}
    caption = (
        "a, in per cent of K: the centroids that are nearest to at least one patch (live), the"
        " perplexity of their use (100 if all were used alike), and how many of the most used hold"
        " half of the patches. b, the share of all training patches that each centroid has, from"
        " the most to the least used."
    )
    figure = use_figure(experiment.curve, counts)
    return _drawn("use", "change", "How evenly the centroids are used.", caption, figure)


def _patches(found: Findings, material: Material) -> ReportFigure:
    caption = (
        f"The same random training patches ({found.patch} pixels) for each K in the upper row, and"
        " below each its nearest centroid with the centroid's index in its dictionary."
    )
    figure = patch_plate(material.patches, material.quantised, found.pixels)
    return _drawn("patches", "quality", "Patches and their centroids.", caption, figure)


def _mse(experiment: Experiment, found: Findings) -> list[ReportFigure]:
    if len(found.sizes) == 1:
        return []  # a curve takes two points
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
    caption += " b, logarithmic axes, on which a power law is a straight line"
    caption += "." if found.exponent is None else " (dotted: fitted to the training curve)."
    figure = mse_figure(experiment.curve, found.elbow, found.pixels)
    return [_drawn("mse", "coverage", "MSE against the number of centroids.", caption, figure)]


def _kinds(experiment: Experiment, found: Findings) -> ReportFigure:
    k = found.sizes[-1]
    centroids, counts = experiment.centroids(k), experiment.nodes[k]["count"].values
    kinds = kinds_of(centroids, found.pixels.largest)
    by_use = np.argsort(-counts, kind="stable")
    rows = {}
    for index, kind in enumerate(KINDS):
        chosen = by_use[kinds[by_use] == index]
        if len(chosen):
            places = np.linspace(0, len(chosen) - 1, min(EXAMPLES, len(chosen))).astype(int)
            chosen = chosen[places]
            share = percent(found.kinds[1][kind])
            rows[f"{KIND_NAMES[kind]}, {share}"] = centroids[chosen]
    caption = (
        f"The share of each kind among the {count(k, 'centroid')} of the largest dictionary, and"
        " examples, from the most used to the least used of the kind in even steps."
    )
    figure = kinds_plate(rows, found.pixels)
    return _drawn("kinds", "nature", "Kinds of centroids.", caption, figure)


def _galleries(experiment: Experiment, found: Findings) -> list[ReportFigure]:
    sizes = {"smallest": found.sizes[0], "largest": found.sizes[-1]}
    if len(found.sizes) == 1:
        sizes.pop("smallest")
    figures = []
    for word, k in sizes.items():
        caption = (
            f"The {count(k, 'centroid')} of the {word if len(sizes) > 1 else 'only'} dictionary,"
            f" {found.patch} pixels each, placed so that neighbours look alike (linear assignment"
            " sorting, Barthel et al. 2023). The thin blue lines only part them."
        )
        figure = gallery_plate(experiment.centroids(k), found.pixels)
        title = f"All centroids of K = {k:,}."
        figures.append(_drawn(f"gallery-{word}", "nature", title, caption, figure))
    return figures


def _rebuilt(found: Findings, material: Material) -> ReportFigure:
    caption = (
        "Each kept patch is replaced by its nearest centroid; where patches overlap, their mean is"
        " taken; pixels that no kept patch covers stay zero. Of each split the first image with the"
        f" median number of kept patches. The MSE is over all pixels, in {found.pixels.unit}."
    )
    splits = " and ".join(f"a {name}" for name in material.samples)
    figure = rebuilt_plate(material.rebuilt, found.pixels)
    title = f"{splits.capitalize()} image rebuilt at every K."
    return _drawn("rebuilt", "composition", title, caption, figure)


def _convergence(experiment: Experiment, found: Findings) -> list[ReportFigure]:
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
    return [_drawn("convergence", "dictionaries", "Convergence.", caption, figure)]


def _history(node: xarray.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Rows seen up to each pass, as a multiple of all rows, and its MSE; with K centroids alone."""
    rows, regular = node["rows"].to_numpy(), node["live"].to_numpy() <= node.sizes["atom"]
    return (np.cumsum(rows) / rows[-1])[regular], node["mse"].to_numpy()[regular]
