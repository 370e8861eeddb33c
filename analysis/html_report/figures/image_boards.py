"""The report's figures of images, with their captions and the data that they show."""

import numpy as np
import xarray

from analysis.experiment import Experiment
from analysis.html_report.figures.figure import (
    ReportFigure,
    entry,
    long_table,
    table,
    table_of_lines,
    with_unit,
)
from analysis.html_report.figures.plates import (
    gallery_plate,
    kinds_plate,
    patch_plate,
    rebuilt_plate,
    sample_plate,
    worst_plate,
)
from analysis.html_report.findings import Findings
from analysis.html_report.investigation import Material
from analysis.measures.kinds import KINDS, kinds_of, plural
from analysis.measures.usage import usage
from analysis.text import count, listed, percent

EXAMPLES = 15  # of a kind; as many as fit
AXES = ("row", "col", "channel")  # of a patch


def sample_images(experiment: Experiment, found: Findings, material: Material) -> ReportFigure:
    """Images of each split."""
    splits = listed([f"{name} images" for name in material.samples])
    height, width = found.image_shape[:2]
    caption = (
        f"Drawn at random from the {splits} of {found.dataset}, {height}×{width} pixels each."
        f" {_scale_note(found)}"
    )
    figure = sample_plate(material.samples, found.pixels)
    lines = [
        (name, place, int(index), image.min(), image.mean(), image.max())
        for split, (name, images) in zip(experiment.splits, material.samples.items(), strict=True)
        for place, (index, image) in enumerate(
            zip(experiment.store(split).order, images, strict=False)
        )
    ]
    level = found.pixels.level
    levels = [with_unit(f"{name}_value", level) for name in ("lowest", "mean", "highest")]
    names = ["split", "place", "image", *levels]
    csv = table_of_lines(names, lines)
    return entry("samples", "data", "Sample images.", caption, figure, csv)


def patches_and_centroids(found: Findings, material: Material) -> ReportFigure:
    """Some patches, each above its nearest centroid, for every K."""
    caption = (
        f"The same random training patches ({found.patch} pixels) for"
        f" {_drawn(found, len(material.quantised), 'each K')} in the upper row, and"
        " below each its nearest centroid with the centroid's index in its dictionary."
    )
    figure = patch_plate(material.patches, material.quantised, found.pixels)
    axes = AXES[: material.patches.ndim - 1]
    shown = material.quantised
    values = xarray.Dataset(
        {
            "centroid": (("k", "patch"), [one.labels for one in shown.values()]),
            with_unit("patch_value", found.pixels.level): (("patch", *axes), material.patches),
            with_unit("centroid_value", found.pixels.level): (
                ("k", "patch", *axes),
                np.stack([one.tiles for one in shown.values()]),
            ),
        },
        {"k": list(shown)},
    )
    title = "Patches and their centroids."
    return entry("patches", "quality", title, caption, figure, long_table(values))


def worst_patches(found: Findings, material: Material) -> ReportFigure:
    """The patches that are rebuilt worst at the elbow, or at the largest K where there is none."""
    k = found.sizes[found.place]
    coverage = material.coverage[k]
    level = found.pixels.level
    centroids = "the only centroid" if k == 1 else f"any of the {k:,} centroids"
    caption = (
        f"Of {int(coverage['rows']):,} {found.unseen} patches those farthest from {centroids}, the"
        " worst first and at most one of an image: the patch, its nearest centroid, the root mean"
        f" squared error per pixel (RMSE, {level}), and the number of the image."
    )
    values = coverage[
        ["worst_image", "worst_rmse", "worst_index", "worst_patch", "worst_centroid"]
    ].rename(
        {
            "worst": "place",
            "worst_image": "image",
            "worst_rmse": with_unit("rmse", level),
            "worst_index": "centroid",
            "worst_patch": with_unit("patch_value", level),
            "worst_centroid": with_unit("centroid_value", level),
        }
    )
    title = f"The patches that K = {k:,} rebuilds worst."
    figure = worst_plate(coverage, found.pixels)
    return entry("worst", "coverage", title, caption, figure, long_table(values))


def kinds_examples(experiment: Experiment, found: Findings) -> ReportFigure:
    """Examples of each kind of centroid of the largest dictionary."""
    k = found.sizes[-1]
    centroids, counts = experiment.centroids(k), experiment.nodes[k]["count"].values
    kinds = kinds_of(centroids, found.pixels.largest)
    by_use = np.argsort(-counts, kind="stable")
    rows: dict[str, np.ndarray] = {}
    lines: list[tuple[int, str, int, int, int]] = []
    for index, kind in enumerate(KINDS):
        chosen = by_use[kinds[by_use] == index]
        if len(chosen):
            places = np.linspace(0, len(chosen) - 1, min(EXAMPLES, len(chosen))).astype(int)
            chosen = chosen[places]
            share = percent(found.kinds[1][kind])
            rows[f"{plural(kind)}, {share}"] = centroids[chosen]
            lines += [
                (k, kind, place, int(atom), int(counts[atom])) for place, atom in enumerate(chosen)
            ]
    caption = (
        f"The share of each kind among the {count(k, 'centroid')} of the largest dictionary, and"
        " examples, from the most used to the least used of the kind in even steps."
    )
    figure = kinds_plate(rows, found.pixels)
    csv = table_of_lines(("k", "kind", "place", "atom", "count"), lines)
    return entry("kinds", "nature", "Kinds of centroids.", caption, figure, csv)


def galleries(experiment: Experiment, found: Findings) -> list[ReportFigure]:
    """All centroids of the smallest and of the largest dictionary."""
    sizes = {"smallest": found.sizes[0], "largest": found.sizes[-1]}
    if len(found.sizes) == 1:
        sizes.pop("smallest")
    figures = []
    for word, k in sizes.items():
        which = word if len(sizes) > 1 else "only"
        caption = (
            f"The {count(k, 'centroid')} of the {which} dictionary, {found.patch} pixels each,"
            " placed so that neighbours look alike (linear assignment sorting, Barthel et al."
            " 2023). The thin blue lines only part them."
            if k > 1
            else f"The only centroid of the {which} dictionary, {found.patch} pixels."
        )
        figure, order = gallery_plate(experiment.centroids(k), found.pixels)
        title = f"All centroids of K = {k:,}."
        csv = _places(experiment, k, order)
        figures.append(entry(f"gallery-{word}", "nature", title, caption, figure, csv))
    return figures


def _places(experiment: Experiment, k: int, order: np.ndarray) -> bytes:
    """Where each centroid stands in its gallery, how it is used, and what it is."""
    rows, cols = np.nonzero(order >= 0)
    atoms = order[rows, cols]
    use = usage(experiment.nodes[k]).isel(atom=atoms)
    kinds = kinds_of(experiment.centroids(k), experiment.pixels.largest)
    return table(
        {
            "atom": atoms,
            "row": rows,
            "col": cols,
            "kind": np.array(KINDS)[kinds[atoms]],
            "count": use["count"].values,
            "share": use["share"].values,
            "sse_share": use["sse_share"].values,
            with_unit("mse", experiment.pixels.unit): use["mse"].values,
        }
    )


def rebuilt_images(found: Findings, material: Material) -> ReportFigure:
    """An image of each split and its versions by K."""
    caption = (
        "Each kept patch is replaced by its nearest centroid; where patches overlap, their mean is"
        " taken; pixels that no kept patch covers stay zero. Of each split the first image with the"
        f" median number of kept patches. The MSE is over all pixels, in {found.pixels.unit}."
    )
    splits = " and ".join(f"a {name}" for name in material.samples)
    figure = rebuilt_plate(material.rebuilt, found.pixels)
    title = f"{splits.capitalize()} image rebuilt at"
    title += f" {_drawn(found, len(material.rebuilt[0].versions), 'every K')}."
    lines = [
        (row.title, k, mse) for row in material.rebuilt for k, (_, mse) in row.versions.items()
    ]
    names = ("image", "k", with_unit("mse", found.pixels.unit))
    csv = table_of_lines(names, lines)
    return entry("rebuilt", "composition", title, caption, figure, csv)


def _drawn(found: Findings, sizes: int, every: str) -> str:
    """For how many K a figure has a part; every: the words for all of them."""
    return every if sizes == len(found.sizes) else f"{sizes} of the {len(found.sizes)} K"


def _scale_note(found: Findings) -> str:
    return (
        f"Black is 0 and white {found.pixels.largest:g}, as in all images of this page."
        if len(found.image_shape) == 2
        else f"Each channel reaches from 0 to {found.pixels.largest:g}, as in all images of this"
        " page."
    )
