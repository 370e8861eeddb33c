"""The report's page: one HTML file that holds everything it shows."""

import base64
import shlex
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from analysis.experiment import Experiment
from analysis.html_report.answers import Answer
from analysis.html_report.exploration import Chosen, explored_sizes
from analysis.html_report.figures.figures import ReportFigure
from analysis.html_report.findings import Findings
from analysis.html_report.page.embedding import Embedded
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
    found: Findings,
    written: Sequence[Answer],
    figures: Sequence[ReportFigure],
    digest: str,
    embedded: Embedded,
    chosen: Chosen,
) -> str:
    """The page as HTML text; nothing in it is loaded from elsewhere.

    embedded: the interactive parts, made of the `chosen` images.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source, style = (
        files("analysis.html_report.page").joinpath(name).read_text(encoding="utf-8")
        for name in ("page.html", "page.css")
    )
    numbered = [
        {
            "number": place,
            "figure": figure,
            "data": base64.b64encode(figure.png).decode(),
        }
        for place, figure in enumerate(figures, start=1)
    ]
    environment.filters["unbroken"] = unbroken
    return environment.from_string(source).render(
        found=found,
        embedded=embedded,
        style=style,
        short=SHORT,
        endings=("png", "svg", "csv"),
        explained=_explained(experiment, chosen),
        answers=list(zip(SHORT, written, strict=True)),
        figures=numbered,
        digest=digest,
        names=" ".join(figure.name for figure in figures),
        lead=_lead(experiment, found),
        key_numbers=_key_numbers(found),
        rows=_table(experiment, found),
        provenance=_provenance(experiment),
        command=_command(experiment),
    )


def _lead(experiment: Experiment, found: Findings) -> str:
    images = experiment.facts["source"]["images"]
    return (
        f"{count(found.patches, 'patch')} of {count(images, 'image')}, summed up by"
        f" {listed(found.sizes)} centroid{'' if found.sizes == [1] else 's'}."
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


def _key_numbers(found: Findings) -> list[tuple[str, str]]:
    sizes = found.sizes
    span = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} – {sizes[-1]:,}"
    entries = [
        (f"{found.patches:,}", "patches to learn from"),
        (span, f"centroids, {len(sizes)} dictionar{'y' if len(sizes) == 1 else 'ies'}"),
        (number(found.mse[-1]), f"MSE at K = {sizes[-1]:,}"),
    ]
    if found.heldout is not None:
        entries.append((number(found.heldout[-1]), f"held-out MSE at K = {sizes[-1]:,}"))
    if found.elbow is not None:
        entries.append((f"{found.elbow:,}", "K at the elbow of the MSE curve"))
    return entries


def _table(experiment: Experiment, found: Findings) -> list[dict[str, Any]]:
    """One row per K, as text."""
    curve = experiment.curve
    rows = []
    for place, k in enumerate(found.sizes):
        one = curve.isel(k=place)
        cells = [
            f"{k:,}",
            number(found.mse[place], 5),
            number(float(one["heldout_mse"]), 5),
            percent(found.explained(place)).removesuffix(" %"),
            f"{found.live[place]:,}",
            number(found.perplexity[place], 3),
            f"{int(one['passes']):,}",
            f"{int(one['rows_seen']):,}",
            number(float(one["seconds"]), 3),
            "yes" if bool(one["converged"]) else "no",
        ]
        rows.append({"cells": cells, "elbow": k == found.elbow})
    return rows


def _provenance(experiment: Experiment) -> list[tuple[str, str]]:
    """What the dictionaries were made of, with and on, as pairs of name and text."""
    facts, last = experiment.facts, experiment.nodes[experiment.sizes[-1]].attrs
    source, spec = facts["source"], experiment.spec
    height, width = source["image_shape"][:2]
    heldout = facts["heldout_rows"]
    fit = ", ".join(f"{name} {value}" for name, value in _fit_options(experiment).items())
    return [
        (
            "Images",
            f"{source['name']}, {source['images']:,} training images of {height}×{width} pixels,"
            f" {source['dtype']}; SHA-256 of the pixels {source['fingerprint']}",
        ),
        (
            "Patches",
            f"{spec.rows}×{spec.cols} pixels, stride {spec.stride}, threshold {spec.threshold:g}"
            f" ({'every patch that is not blank' if spec.threshold == 0 else 'by mean level'});"
            f" {facts['n_rows']:,} rows to learn from,"
            f" {f'{heldout:,} held out' if heldout else 'none held out'}",
        ),
        ("Stores", listed([facts[f"{split}_store"] for split in experiment.splits])),
        ("Fit", fit),
        ("Effort", _effort(experiment)),
        ("Machine", _machine(experiment)),
        ("Versions", listed([f"{name} {text}" for name, text in last["versions"].items()])),
        ("Configuration", f"SHA-256 of all that the numbers depend on begins {facts['digest']}"),
    ]


def _effort(experiment: Experiment) -> str:
    """Passes, seconds and memory of all fits together."""
    curve, nodes = experiment.curve, experiment.nodes.values()
    text = (
        f"{int(curve['passes'].sum()):,} passes, {int(curve['rows_seen'].sum()):,} rows seen,"
        f" {number(float(curve['seconds'].sum()), 3)} s of fitting and scoring; largest resident"
        f" size of the process {_mebibytes(max(node.attrs['peak_memory'] for node in nodes))}"
    )
    caps = sorted({node.attrs["memory"] for node in nodes if "memory" in node.attrs})
    return f"{text}, allowed {listed([_mebibytes(cap) for cap in caps])}" if caps else text


def _machine(experiment: Experiment) -> str:
    """Where the dictionaries were learned; several where they were learned in several places."""
    found = []
    for node in experiment.nodes.values():
        machine = node.attrs.get("machine")
        where = f"on {node.attrs['device']}"
        if node.attrs.get("engine"):  # older dictionaries do not say
            where += f" by the {node.attrs['engine']} engine"
        if machine:
            where = (
                f"{machine['processor']}, {count(machine['threads'], 'thread')},"
                f" {_mebibytes(machine['memory'])}, {machine['system']}; {where}"
            )
        if node.attrs.get("scheduler"):
            where += f", spread by {node.attrs['scheduler']}"
        found.append(where)
    return "; ".join(dict.fromkeys(found))


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _fit_options(experiment: Experiment) -> dict[str, Any]:
    """Options of the fit as the command line names them."""
    fit = experiment.facts["fit"]
    return {name.replace("_", "-"): value for name, value in fit.items() if value is not None}


def _command(experiment: Experiment) -> str:
    """The command that learns the same dictionaries again."""
    facts, spec = experiment.facts, experiment.spec
    options = {
        "dataset": facts["dataset"],
        "data": facts["data"],
        "out": experiment.folder.parent,
        "patch": f"{spec.rows}x{spec.cols}",
        "stride": spec.stride,
        "threshold": f"{spec.threshold:g}",
        "k": ",".join(map(str, experiment.sizes)),
    } | _fit_options(experiment)
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items()]
    return " \\\n    ".join(["python -m pipeline sweep", *words])
