"""The card of a dictionary that is handed on: what it is, and how it was made."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray

from analysis.measures.codebook import AnyDictionary, node_of
from analysis.measures.pixel_scale import stored_scale
from storage.dictionary_store import is_preprocessed
from storage.images.datasets import licence_of
from storage.plain_attributes import parsed, plain

_OF_EXPERIMENT = ("spec", "source", "n_rows", "heldout_rows", "fit")
# Of the dictionary; a mark of the store, and an address in the network of who made it.
_LEFT_OUT = ("complete", "scheduler")


def described(dictionary: AnyDictionary) -> xarray.Dataset:
    """A dictionary in memory, with its card as attributes.

    Args:
        dictionary: as for `export_dictionary`.

    Returns:
        A Dataset whose attributes, `parsed`, are the card: k, patch, preprocessing, distance, mse,
        heldout_mse, unit (of both), dataset and licence (of a set that has a name), all else that
        was stored of the fit, spec and source. Names of folders are not in it. What is not known
        is left out.

    Raises:
        InputError: what is no dictionary.
    """
    dictionary = node_of(dictionary)
    tree = isinstance(dictionary, xarray.DataTree)
    root = parsed(dictionary.root.attrs) if tree else {}
    found = dictionary.to_dataset() if isinstance(dictionary, xarray.DataTree) else dictionary
    centroids, scale = found["centroids"], stored_scale(dictionary)
    card: dict[str, Any] = {
        "k": len(centroids),
        "patch": "x".join(map(str, centroids.shape[1:])) if centroids.ndim > 2 else None,
        "preprocessing": "none",  # or, as it was stored, what was done
        "distance": "euclidean",
        "unit": scale.unit if scale else None,
    }
    licence = licence_of(str(root.get("dataset")))
    if licence:
        card |= {"dataset": root["dataset"], "licence": licence}
    card |= {name: root[name] for name in _OF_EXPERIMENT if name in root}
    card |= {name: value for name, value in parsed(found.attrs).items() if name not in _LEFT_OUT}
    if is_preprocessed(card):
        card |= {"distance": card["preprocessing"]["distance"], "unit": None}
    if "source" in card:
        card["source"] = _without_folders(card["source"])
    taken = found.compute()
    taken.attrs = plain(card)
    return taken


def arrays_of(dictionary: xarray.Dataset) -> dict[str, np.ndarray]:
    """The arrays of a dictionary, without coordinates."""
    return {str(name): np.asarray(array.values) for name, array in dictionary.data_vars.items()}


def _without_folders(source: dict[str, Any]) -> dict[str, Any]:
    """What is stored of the images, with the mask's name in place of its path."""
    stated = dict(source.get("stated", {}))
    if "mask" not in stated:
        return source
    return source | {"stated": stated | {"mask": Path(stated["mask"]).name}}
