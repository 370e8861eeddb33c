"""Experiments side by side: their curves of MSE against K in one table and one figure.

They are told apart by what differs among them, of what the sweeps stored: images, patches, options
of the fit.
"""

import math
import os
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from analysis.experiment import Experiment, open_experiment
from analysis.experiment_folders import experiment_folders
from analysis.html_report.figures.compared_curves import PIXELS, comparison_figure
from analysis.html_report.figures.figure import finished, table
from analysis.html_report.figures.style import styled
from analysis.text import number
from pipeline import SweepOptions, named_today
from storage import InputError
from storage.atomic import remove_orphans, write_whole
from storage.errors import one_line
from storage.layout import comparison_folder, find_experiments
from storage.places.place import Place, place_of, writable

FIGURE = "mse"  # name of its files
_TOLD = ("dataset", "patch", "mode", "init")  # also where they are alike
_BY_MODE = ("max_iter", "min_gain", "breathing", "batch_size")  # some modes have, or set
_CELL, _LABEL, _GAP = 9, 19, 3  # letters: of a number, of a line of a label, between columns
_TIED = "\N{NO-BREAK SPACE}"
_SCORES = ("mse", "heldout_mse", "psnr", "heldout_psnr")


def compare(
    folders: str | Place | Sequence[str | Place], out: str | Place | None = None
) -> dict[str, Any]:
    """Compare experiments: their scores, and the curves of MSE against K as a figure.

    The MSE is per pixel, so patches of different sizes can be compared as they are. Pixels of
    different ranges are compared by their PSNR, for which the figure gets a second panel.

    Args:
        folders: sweeps' OUT, all of whose experiments are taken, or folders of experiments, or URLs
            of either; or one.
        out: folder of the figure (mse.png, .svg, .pdf) and its data (mse.csv); None: the folder
            `compare` in the OUT of the first experiment.

    Returns:
        Plain JSON: `experiments`, each with label, experiment (its folder), pixels (unit and range
        of the levels), unit (of the MSE) and dictionaries (k, mse, heldout_mse, and in dB psnr and
        heldout_psnr; null where there is none); `common`, what they have in common, in words;
        `files`, their paths.

    Raises:
        InputError: a folder holds no dictionaries.
        IntegrityError: they are damaged.
    """
    places = [*map(place_of, [folders] if isinstance(folders, str | Place) else folders)]
    if not places:
        raise InputError("nothing to compare: give the OUT of sweeps, or folders of experiments")
    rank = {
        place.resolve(): number
        for number, folder in reversed([*enumerate(places)])
        for place in experiment_folders(folder)
    }  # each experiment once, of the folder that names it first
    found = [open_experiment(place) for place in rank]
    labels, common = labels_of(found)
    ordered = sorted(zip(rank.values(), labels, found, strict=True), key=_order)
    curves = {label: _curve(experiment) for _, label, experiment in ordered}
    if out is None:
        alone = find_experiments(places[0])[0].folder == places[0]
        out = comparison_folder(places[0].resolve().parent if alone else places[0])
    return {
        "experiments": [
            {
                "label": label,
                "experiment": str(experiment.folder),
                "pixels": curve.attrs[PIXELS],
                "unit": curve["mse"].attrs["units"],
                "dictionaries": _entries(curve),
            }
            for (label, curve), (_, _, experiment) in zip(curves.items(), ordered, strict=True)
        ],
        "common": common,
        "files": [str(path) for path in _write(curves, common, writable(place_of(out)))],
    }


def _order(one: tuple[int, str, Experiment]) -> tuple[int, list[Any]]:
    """By the folder that was given, then by label, numbers by their size: 8×8 before 10×10."""
    rank, label, _ = one
    parts = re.split(r"(\d+)", label)
    return rank, [int(part) if part.isdecimal() else part for part in parts]


def _curve(experiment: Experiment) -> xarray.Dataset:
    """Scores over K, with the PSNR of held-out patches."""
    curve = experiment.curve
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = 10 * np.log10(curve["mse"] / curve["heldout_mse"])
    curve = curve.assign(heldout_psnr=curve["psnr"] + beyond)
    pixels = experiment.pixels
    return curve.assign_attrs({PIXELS: f"{pixels.level} of {pixels.range_text}"})


def _entries(curve: xarray.Dataset) -> list[dict[str, Any]]:
    columns = {name: curve[name].values.tolist() for name in ("k", *_SCORES)}
    lines = [dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)]
    return [
        {name: value if math.isfinite(value) else None for name, value in line.items()}
        for line in lines
    ]


def _write(curves: Mapping[str, xarray.Dataset], common: str, out: Place) -> list[Place]:
    """The figure and its data."""
    parts = [
        {"experiment": label, "k": curve["k"].values, "unit": curve["mse"].attrs["units"]}
        | {name + "_db" * ("psnr" in name): curve[name].values for name in _SCORES}
        for label, curve in curves.items()
    ]
    sizes = [len(part["k"]) for part in parts]
    columns = {
        name: np.concatenate(
            [np.broadcast_to(part[name], size) for part, size in zip(parts, sizes, strict=True)]
        )
        for name in parts[0]
    }
    with styled(), warnings.catch_warnings():
        # of letters that the font lacks; an SVG has them all the same
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure = finished(FIGURE, "", "", comparison_figure(curves, common), table(columns))
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{FIGURE}.{ending}" for ending in figure.files]
    for path, content in zip(paths, figure.files.values(), strict=True):
        remove_orphans(path)
        write_whole(path, content)
    return paths


def labels_of(experiments: Sequence[Experiment]) -> tuple[list[str], str]:
    """What tells each experiment from the others, each label once, and what all have in common."""
    facts = [experiment.facts for experiment in experiments]
    told = [
        {"dataset": images, "test": test} | _options(one)
        for images, test, one in zip(_images(facts), _tests(facts), facts, strict=True)
    ]
    names = dict.fromkeys(name for one in told for name in one)
    differing = [name for name in names if len({one[name] for one in told if name in one}) > 1]
    common = one_line(", ".join(told[0][name] for name in _TOLD if name not in differing))
    if len(told) == 1:
        return [common], ""
    labels = [", ".join(filter(None, map(one.get, differing))) for one in told]
    folders = [experiment.folder.resolve() for experiment in experiments]
    return list(map(one_line, _apart(labels, folders))), common


def _images(facts: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """A name for the images of each experiment, as short as tells different ones apart."""
    sources = [one["source"] for one in facts]
    prints = [source["fingerprint"] for source in sources]
    names = [str(source["name"]) for source in sources]
    paths = [str(one["dataset"]) for one in facts]
    for candidate in (
        names,
        [f"{name} {_pixels(source)}" for name, source in zip(names, sources, strict=True)],
        ["/".join(_parts(path)[-2:]) for path in paths],
        paths,
    ):
        if len(set(zip(candidate, prints, strict=True))) == len(set(candidate)):
            return candidate
    # a file that changed in its place
    return [f"{name} {digits[:6]}…" for name, digits in zip(names, prints, strict=True)]


def _tests(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The test images that were named to each experiment, as short as tells them apart."""
    paths = [str(one.get("test") or "") for one in facts]
    ends = ([os.path.join("", *Path(path).parts[-n:]) for path in paths] for n in (1, 2))
    names = next((end for end in ends if len(set(end)) == len(set(paths))), paths)
    return [f"tested on {name}" if name else "" for name in names]


def _pixels(source: Mapping[str, Any]) -> str:
    stated = source.get("stated", {})
    return " ".join([str(source["dtype"]), *(_words(*one) for one in stated.items())])


def _options(facts: Mapping[str, Any]) -> dict[str, str]:
    """Options of the patches and of the fit, in words; none where the mode's value is the usual."""
    spec, fit = dict(facts["spec"]), named_today(facts["fit"])
    usual = named_today(SweepOptions(mode=fit["mode"]).in_use())
    found = {"patch": f"{spec.pop('rows')}×{spec.pop('cols')} patches"}
    found |= dict.fromkeys(("patch keep", "patch sample", "patch border"), "")  # stored where given
    found |= {
        f"patch {name}": _words(name, value) for name, value in spec.items() if name != "seed"
    }
    found["patch seed"] = f"order of images {spec.get('seed')}"
    for name, value in fit.items():
        words = _words(name.replace("_", "-"), value)
        if name in _BY_MODE and value == usual.get(name):
            words = ""
        found[name] = str(value) if name in _TOLD else words
    return found


def _words(name: str, value: Any) -> str:
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def _parts(place: str | Place) -> list[str]:
    """Of a path or URL."""
    return str(place).replace(os.sep, "/").split("/")


def _apart(labels: Sequence[str], folders: Sequence[Place]) -> list[str]:
    """The labels; of those that are alike each with its folder."""
    found = []
    for label, folder in zip(labels, folders, strict=True):
        alike = [other for other, its in zip(folders, labels, strict=True) if its == label]
        own, ends = folder.parent, [other.parent for other in alike]
        if len(set(ends)) < len(ends):
            own, ends = folder, alike
        above = zip(*(_parts(other)[:-1] for other in ends), strict=False)
        shared = len([*takewhile(lambda names: len(set(names)) == 1, above)])
        place = "/".join(_parts(own)[shared:]) if len(alike) > 1 else ""
        found.append(", ".join(filter(None, (label, place))) or "as usual")
    return found


def in_words(result: Mapping[str, Any]) -> str:
    """What `compare` returned, as a table as wide as the terminal, and where the figure is."""
    experiments = result["experiments"]
    mixed = len({one["pixels"] for one in experiments}) > 1
    sizes = sorted({entry["k"] for one in experiments for entry in one["dictionaries"]})
    columns = [_column(one, sizes, mixed) for one in experiments]
    height = max(map(len, columns))
    first = [f"{text:>6}" for text in ("K", *(f"{size:,}" for size in sizes))]
    widest = shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf
    blocks: list[list[list[str]]] = []
    for column in columns:
        if not blocks or sum(len(one[0]) + _GAP for one in (*blocks[-1], column)) > widest:
            blocks.append([_padded(first, height)])
        blocks[-1].append(_padded(column, height))
    tables = [
        "\n".join((" " * _GAP).join(line).rstrip() for line in zip(*block, strict=True))
        for block in blocks
    ]
    unit = "" if mixed else f"MSE in {experiments[0]['unit']}"
    heading = "; ".join(filter(None, (result["common"], unit)))
    return "\n\n".join(filter(None, [heading, *tables, "\n".join(result["files"])]))


def _column(experiment: Mapping[str, Any], sizes: Sequence[int], mixed: bool) -> list[str]:
    """Lines of an experiment in the table: its label, the pixels where they differ, its scores."""
    by_k = {entry["k"]: entry for entry in experiment["dictionaries"]}
    names = {"mse": "MSE"}
    if any(entry["heldout_mse"] is not None for entry in by_k.values()):
        names["heldout_mse"] = "held-out"
    if mixed:
        names["psnr"] = "PSNR, dB"
    cells = [list(names.values())]
    for size in sizes:
        scores = [by_k.get(size, {}).get(name) for name in names]
        cells.append(["–" if score is None else number(score) for score in scores])
    lines = [" ".join(f"{cell:>{_CELL}}" for cell in line) for line in cells]
    parts = experiment["label"].split(", ")
    head = ", ".join(part.replace(" ", _TIED) for part in parts)  # lines end at commas
    heads = textwrap.wrap(
        head, max(len(lines[0]), _LABEL), break_long_words=False, break_on_hyphens=False
    )
    heads += [experiment["pixels"]] * mixed
    return [head.replace(_TIED, " ") for head in heads] + lines


def _padded(column: Sequence[str], height: int) -> list[str]:
    """Lines of equal width, those of fewer below blank ones."""
    width = max(map(len, column))
    return [" " * width] * (height - len(column)) + [line.rjust(width) for line in column]
