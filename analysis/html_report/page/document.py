"""The report's page: one HTML file that holds everything it shows."""

import base64
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from analysis.experiment import Experiment
from analysis.html_report.answers import Answer
from analysis.html_report.exploration import Chosen, explored_sizes
from analysis.html_report.figures.figures import ReportFigure
from analysis.html_report.page.embedding import Embedded
from analysis.html_report.page.provenance import commands, file_elsewhere, provenance
from analysis.text import count, listed, number, percent, unbroken

SHORT = {
    "change": "Change with K",
    "quality": "Quality",
    "coverage": "Coverage",
    "nature": "Kinds",
    "composition": "Composition",
}  # section of each answer, in order, and its name in the contents


def render(
    experiment: Experiment,
    written: Sequence[Answer],
    figures: Sequence[ReportFigure],
    *,
    elbow: int | None,
    chosen: Chosen,
    embedded: Embedded,
    digest: str,
) -> str:
    """The page as HTML text; nothing in it is loaded from elsewhere.

    Args:
        experiment: what the page is about.
        written: the answers, a section each, in the order of SHORT.
        figures: in the order of the page.
        elbow: of the training curve; None where there is none.
        chosen: the images that can be explored.
        embedded: the interactive parts, made of them.
        digest: of what the page is made from.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["unbroken"] = unbroken
    source, style = (
        files("analysis.html_report.page").joinpath(name).read_text(encoding="utf-8")
        for name in ("page.html", "page.css")
    )
    return environment.from_string(source).render(
        dataset=experiment.name,
        patch="×".join(map(str, experiment.patch_shape)),
        unit=experiment.pixels.unit,
        elbow=elbow,
        held_out=experiment.facts["test_store"] is not None,
        embedded=embedded,
        style=style,
        short=SHORT,
        endings=("png", "svg", "csv"),
        explained=_explained(experiment, chosen),
        answers=list(zip(SHORT, written, strict=True)),
        figures=[_shown(place, figure) for place, figure in enumerate(figures, start=1)],
        digest=digest,
        names=" ".join(figure.name for figure in figures),
        lead=_lead(experiment),
        key_numbers=_key_numbers(experiment, elbow),
        rows=_table(experiment, elbow),
        provenance=provenance(experiment),
        elsewhere=file_elsewhere(experiment),
        commands=commands(experiment),
    )


def _shown(place: int, figure: ReportFigure) -> dict[str, Any]:
    """A figure as the page shows it: a drawing as SVG, sharp at any size; pixels as PNG."""
    drawing = b"<image" not in figure.svg
    mime, data = ("svg+xml", figure.svg) if drawing else ("png", figure.png)
    return {
        "number": place,
        "figure": figure,
        "drawing": drawing,
        "source": f"data:image/{mime};base64,{base64.b64encode(data).decode()}",
    }


def _lead(experiment: Experiment) -> str:
    patches, images = experiment.facts["n_rows"], experiment.facts["source"]["images"]
    return (
        f"{count(patches, 'patch')} of {count(images, 'image')}, summed up by"
        f" {listed(experiment.sizes)} centroid{'' if experiment.sizes == [1] else 's'}."
    )


def _explained(experiment: Experiment, chosen: Chosen) -> str:
    """What the images of the explorer are, and what of them is shown."""
    why = [experiment.why_unlabelled(split) for split in experiment.splits]
    if any(why):
        # The line on classes that could not be fetched is for who can mend it, not for readers.
        reason = (
            next(filter(None, why))
            if experiment.class_names is None
            else "their classes were not at hand"
        )
        origin = f"The images were drawn at random, because {reason}."
    else:
        origin = (
            "Of each class it is the image whose number of kept patches is the median of its class."
        )
    shown, whole = next(iter(chosen.images.values())).shape[1:3], experiment.image_shape[:2]
    if shown != whole:
        origin += (
            f" Of each the middle is shown, and told of alone: {shown[0]}×{shown[1]} of"
            f" {whole[0]}×{whole[1]} pixels."
        )
    known, here = len(experiment.sizes), len(explored_sizes(experiment, chosen))
    if here < known:
        origin += f" Of the {known:,} K {here:,} are here, in even steps."
    return (
        f"{origin} Each kept patch is replaced by its nearest centroid; where patches overlap their"
        " mean is taken. In the error map blue is too dark and orange too bright, on one scale for"
        " all K of an image."
    )


def _key_numbers(experiment: Experiment, elbow: int | None) -> list[tuple[str, str]]:
    sizes, last = experiment.sizes, experiment.curve.isel(k=-1)
    span = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} – {sizes[-1]:,}"
    entries = [
        (f"{experiment.facts['n_rows']:,}", "patches to learn from"),
        (span, f"centroids, {len(sizes)} dictionar{'y' if len(sizes) == 1 else 'ies'}"),
        (number(float(last["mse"])), f"MSE at K = {sizes[-1]:,}"),
    ]
    if experiment.facts["test_store"]:
        heldout = number(float(last["heldout_mse"]))
        entries.append((heldout, f"held-out MSE at K = {sizes[-1]:,}"))
    if elbow is not None:
        entries.append((f"{elbow:,}", "K at the elbow of the MSE curve"))
    return entries


def _table(experiment: Experiment, elbow: int | None) -> list[dict[str, Any]]:
    """One row per K, as text."""
    rows = []
    for k in experiment.sizes:
        one = {name: values.item() for name, values in experiment.curve.sel(k=k).items()}
        cells = [
            f"{k:,}",
            number(one["mse"], 5),
            number(one["heldout_mse"], 5),
            percent(one["explained"]).removesuffix(" %"),
            f"{one['live']:,}",
            number(one["perplexity"], 3),
            f"{one['passes']:,}",
            f"{one['rows_seen']:,}",
            number(one["seconds"], 3),
            "yes" if one["converged"] else "no",
        ]
        rows.append({"cells": cells, "elbow": k == elbow})
    return rows
