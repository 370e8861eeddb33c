"""The report's page: one HTML file that holds everything it shows."""

import itertools
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from analysis.html_report.exploration import Chosen, choose_images, explored_sizes
from analysis.html_report.figures.figure import BY_NIGHT, ReportFigure
from analysis.html_report.measured import Measured
from analysis.html_report.page.interaction import interactive_parts
from analysis.html_report.page.provenance import (
    commands,
    export_command,
    file_elsewhere,
    provenance,
)
from analysis.html_report.section import Section
from analysis.text import count, listed, number, percent, size_range, unbroken
from storage import group_name

DRAWN = 144  # pixels of a patch that a reader can draw, at most
PLAIN = " !$&'()*+,-./:;=?@_~"  # in an address in quotes, besides letters and digits


def render(
    measured: Measured,
    answers: Sequence[tuple[Section, list[str], list[str]]],
    figures: Mapping[str, Sequence[ReportFigure]],
    digest: str,
) -> str:
    """The page as HTML text; nothing in it is loaded from elsewhere.

    Args:
        measured: what the page is about.
        answers: the sections that answer a question, with paragraphs and caveats, in order.
        figures: of each section, by its name.
        digest: of what the page is made from.
    """
    experiment, places = measured.experiment, itertools.count(1)
    chosen, drawn = choose_images(measured), experiment.patch_shape[:2]
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
        patch=measured.patch,
        unit=measured.pixels.unit,
        several=len(measured.sizes) > 1,
        preprocessed=measured.experiment.codebook(measured.told)[1] is not None,
        elbow=measured.elbow,
        embedded=interactive_parts(measured, chosen),
        style=style,
        endings=("png", "svg", "pdf", "csv"),
        explained=_explained(measured, chosen),
        answers=answers,
        figures={
            section: [_shown(next(places), figure) for figure in several if figure.shown]
            for section, several in figures.items()
        },
        beside=[one for several in figures.values() for one in several if not one.shown],
        digest=digest,
        names=" ".join(figure.name for several in figures.values() for figure in several),
        lead=_lead(measured),
        key_numbers=_key_numbers(measured),
        rows=_table(measured),
        provenance=provenance(experiment),
        elsewhere=file_elsewhere(experiment),
        commands=commands(experiment),
        exporting=export_command(experiment, measured.told),
        elsewhere_opened=group_name(measured.told),
        drawn=drawn if math.prod(drawn) <= DRAWN else None,
    )


def _shown(place: int, figure: ReportFigure) -> dict[str, Any]:
    """A figure as the page shows it, its SVG; a board's words are light by night."""
    svg = figure.files["svg"]
    if not figure.drawing:
        svg = svg.replace(b"<defs>", BY_NIGHT + b"<defs>", 1)
    source = f"data:image/svg+xml,{quote(svg, safe=PLAIN)}"
    return {"number": place, "figure": figure, "source": source}


def _lead(measured: Measured) -> str:
    """What a dictionary is, and which are here."""
    images, sizes = measured.experiment.facts["source"]["images"], measured.sizes
    here = (
        f"this page shows one of {count(sizes[0], 'centroid')}."
        if len(sizes) == 1
        else f"this page shows {len(sizes)} dictionaries, of {sizes[0]:,} to {sizes[-1]:,}."
    )
    return (
        f"A dictionary is a set of K small images of {measured.patch} pixels, its centroids,"
        f" learned from {count(measured.rows, 'patch')} of {count(images, 'image')} so that each"
        " patch is near to one of them. Laid over one another they rebuild an image, the better the"
        f" more of them there are: {here}"
    )


def _explained(measured: Measured, chosen: Chosen) -> str:
    """What the images of the explorer are, and what of them is shown."""
    experiment = measured.experiment
    why = [experiment.why_unlabelled(split) for split in experiment.splits]
    if any(why):
        # The line on classes that could not be fetched is for who can mend it, not for readers.
        reason = (
            next(filter(None, why))
            if experiment.class_names is None
            else "their classes were not at hand"
        )
        origin = f"The images were drawn at random, because {reason}."
        if all(len(found) == len(measured.sources[s]) for s, found in chosen.indices.items()):
            origin = f"These are all images; they are not chosen by class, because {reason}."
    else:
        origin = (
            "Of each class it is the image whose number of kept patches is the median of its class."
        )
    if not chosen.whole:
        shown = size_range([next(iter(chosen.images.values())).shape[1:3]])
        whole = listed(list(dict.fromkeys(map(measured.image_sizes, experiment.splits))))
        origin += f" Of each the middle is shown, and told of alone: {shown} of {whole} pixels."
    known, here = len(experiment.sizes), len(explored_sizes(measured, chosen))
    if here < known:
        origin += f" Of the {known:,} K {here:,} are here, in even steps."
    errors = (
        "The error map shows the root mean square over the channels"
        if math.prod(experiment.image_shape[2:]) > 1
        else "In the error map blue is too dark and orange too bright"
    )
    if len(experiment.sizes) > 1:
        errors += ", on one scale for all K of an image"
    if (scale := measured.pictures).narrowed:
        origin += (
            f" In all pictures black is {scale.black:g} and white {scale.white:g}{scale.origin};"
            f" PSNR goes by the whole range, {measured.pixels.range_text}."
        )
    return (
        f"{origin} Each kept patch is replaced by its nearest centroid; where patches overlap their"
        f" mean is taken. {errors}."
    )


def _key_numbers(measured: Measured) -> list[tuple[str, str]]:
    sizes, last = measured.sizes, measured.sizes[-1]
    span = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} – {sizes[-1]:,}"
    entries = [
        (f"{measured.rows:,}", "patches to learn from"),
        (span, f"centroids, {len(sizes)} dictionar{'y' if len(sizes) == 1 else 'ies'}"),
        (number(measured.score("mse", last)), f"MSE at K = {last:,}"),
    ]
    if measured.held_out:
        heldout = number(measured.score("heldout_mse", last))
        entries.append((heldout, f"held-out MSE at K = {last:,}"))
    if measured.elbow is not None:
        entries.append((f"{measured.elbow:,}", "K at the elbow of the MSE curve"))
    return entries


def _table(measured: Measured) -> list[dict[str, Any]]:
    """One row per K, as text."""
    rows = []
    for k in measured.sizes:
        one = {name: values.item() for name, values in measured.curve.sel(k=k).items()}
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
        rows.append({"k": k, "cells": cells, "elbow": k == measured.elbow})
    return rows
