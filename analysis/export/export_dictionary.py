"""`export_dictionary`: one dictionary as a file that other tools open."""

import os
from pathlib import Path
from typing import Any

from analysis.experiment import open_experiment
from analysis.export.card import described
from analysis.export.formats import FORMATS
from analysis.measures.codebook import AnyDictionary, preprocessing_of
from analysis.text import number
from storage import InputError, group_name
from storage.atomic import check_file_name, remove_orphans, write_whole
from storage.layout import ExperimentLayout
from storage.places.place import Place, local
from storage.plain_attributes import parsed


def export_dictionary(
    dictionary: AnyDictionary,
    format: str,  # noqa: A002  # as the option is called
    path: str | Path,
    *,
    force: bool = False,
) -> dict[str, Any]:
    """Write a dictionary as a file that other tools open.

    Args:
        dictionary: a node of the tree that `open_dictionaries` returns, its Dataset, what
            `load_dictionary` returns, or a fitted StreamingKMeans.
        format: "npz" or "safetensors" (see `load_dictionary`), "sklearn" (a KMeans, by joblib),
            "faiss" (an IndexFlatL2), "torch" (see `TorchDictionary`), or "parquet" (a table of the
            centroids).
        path: of the file; any name but one that ends as files of another format do.
        force: replace a file that is there.

    Returns:
        Plain JSON: path, format, bytes, k, card (what is known of the dictionary, which is in
        the file where the format has room for it), opened_by (Python that opens the file),
        warning (or null). Memory: the dictionary, and the file twice.

    Raises:
        InputError: no such format, or one with no room for the dictionary's preprocessing, a file
            that is there already, no folder for it, a library that is not installed, or what is no
            dictionary.
    """
    path = local(path, "export")
    check_format(format)
    _check_target(path, format, force)
    found = described(dictionary)
    if not FORMATS[format].preprocesses and preprocessing_of(found) is not None:
        able = ", ".join(name for name, one in FORMATS.items() if one.preprocesses)
        raise InputError(
            f"{format} has no room for how patches are preprocessed before they meet these"
            f" centroids: use {able}"
        )
    content = FORMATS[format].content(found)
    try:
        remove_orphans(path)
        write_whole(path, content)
    except OSError as error:
        error.filename = str(path)  # not the name that it has while it is written
        raise
    card = parsed(found.attrs)
    return {
        "path": str(path),
        "format": format,
        "bytes": len(content),
        "k": card["k"],
        "card": card,
        "opened_by": FORMATS[format].opened.replace("PATH", repr(str(path))),
        "warning": FORMATS[format].warning or None,
    }


def export_of_experiment(
    folder: Place, k: int, name: str, out: Path | None = None, *, force: bool = False
) -> dict[str, Any]:
    """`export_dictionary` for the dictionary of k centroids in an experiment's folder.

    folder: of the experiment, or a sweep's OUT that holds only one. name: of the format. out: path
    of the file; None: in the folder `exports` of the experiment, which has none behind a URL.
    Raises: InputError as there, and where there is no such dictionary; IntegrityError where it is
        damaged.
    """
    check_format(name)
    experiment = open_experiment(folder)
    dictionary = experiment.dictionary(k)
    if out is None:
        exports = local(ExperimentLayout(experiment.folder).exports, "export")
        exports.mkdir(exist_ok=True)
        stem = f"{experiment.name}-{experiment.spec.label}-{group_name(k)}"
        out = exports / f"{stem}{FORMATS[name].suffix}"
    return export_dictionary(dictionary, name, out, force=force)


def check_format(name: str) -> None:
    """Raise InputError for a format that there is not."""
    if name not in FORMATS:
        raise InputError(f"no format {name!r}: use {', '.join(FORMATS)}")


def in_words(result: dict[str, Any]) -> str:
    """The result of `export_dictionary` for people."""
    card = result["card"]
    facts = [f"{result['k']:,} centroids"]
    if "patch" in card:
        facts[0] += f" of {card['patch'].replace('x', '×')}"
    if "pixel_mse" in card:
        facts.append(f"MSE {number(card['pixel_mse'])} in pixels")
    elif "mse" in card:
        facts.append(f"MSE {number(card['mse'])}")
    if "licence" in card:
        facts.append(f"{card['dataset']} ({card['licence']})")
    facts.append(f"{result['bytes']:,} bytes")
    opened = FORMATS[result["format"]].opened
    return f"{result['path']}: {', '.join(facts)}\nopened by {opened}"


def _check_target(path: Path, name: str, force: bool) -> None:
    """Raise InputError where no file of that format can be written to `path`."""
    others = {found.suffix: other for other, found in FORMATS.items() if other != name}
    if path.suffix in others:
        raise InputError(
            f"{path} has the ending of {others[path.suffix]}: give one that ends in"
            f" {FORMATS[name].suffix}, or --format {others[path.suffix]}"
        )
    check_file_name(path)
    if os.path.lexists(path) and not force:
        raise InputError(f"{path} is there already: replace it (--force), or choose another name")
