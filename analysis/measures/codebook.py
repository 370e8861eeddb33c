"""Dictionaries of preprocessed patches: how they are met, and how they look in pixels."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import xarray

from pipeline import Preprocessing
from storage import InputError
from storage.dictionary_store import PREPROCESSED, is_preprocessed
from storage.plain_attributes import parsed

Node = xarray.DataTree | xarray.Dataset


class Fitted(Protocol):
    """An estimator that was fitted, as StreamingKMeans."""

    def to_xarray(self) -> xarray.Dataset: ...


AnyDictionary = Node | Fitted


def node_of(dictionary: AnyDictionary, *, whole: bool = False) -> Node:
    """A dictionary as a node of a tree, or a Dataset; that of a fitted estimator is made.

    whole: whether a whole tree will do.
    Raises: InputError for what is no dictionary.
    """
    if isinstance(dictionary, Node):
        if not whole and "centroids" not in dictionary:
            raise InputError(
                "there are no centroids in it: pass a node of the tree that open_dictionaries"
                ' returns, as in tree[100] or tree["k00100"]'
            )
        return dictionary
    found = getattr(dictionary, "to_xarray", lambda: None)()
    if not isinstance(found, xarray.Dataset) or "centroids" not in found:
        raise InputError(
            f"{type(dictionary).__name__} is no dictionary: give one of a tree that"
            " open_dictionaries returns, as tree[50], or a fitted StreamingKMeans"
        )
    return found


def preprocessing_of(dictionary: xarray.DataTree | xarray.Dataset) -> Preprocessing | None:
    """What is done to patches before they meet a dictionary's centroids; None for nothing.

    Args:
        dictionary: a node of the tree that `open_dictionaries` returns, or its Dataset.

    Raises:
        InputError: arrays that it needs are not there.
    """
    arrays = {name: dictionary[name] for name in map(str, dictionary.data_vars)}
    try:
        return Preprocessing.stored(parsed(dictionary.attrs), arrays)
    except KeyError as error:
        raise InputError(
            f"the dictionary is of whitened patches, and has lost {error}: pass a whole node of"
            " the tree that open_dictionaries returns"
        ) from None


def pixel_centroids(dictionary: xarray.DataTree | xarray.Dataset) -> np.ndarray:
    """Centroids as patches that one can look at, (k, *patch_shape) float32, pixel levels.

    Those of preprocessed patches are brought back to pixels, with the brightness and contrast that
    patches have on average.
    """
    centroids = np.asarray(dictionary["centroids"])
    return in_pixels(centroids, preprocessing_of(dictionary))


def scores_in_pixels(attributes: Mapping[str, Any]) -> dict[str, float | None]:
    """mse, heldout_mse and variance of a dictionary, in squared pixel levels.

    attributes: of the dictionary, `parsed`. Those of preprocessed patches were scored anew for it.
    """
    if not is_preprocessed(attributes):
        return {name: attributes.get(name) for name in ("mse", "heldout_mse", "variance")}
    return {
        "mse": attributes["pixel_mse"],
        "heldout_mse": attributes.get("heldout_pixel_mse"),
        "variance": attributes[PREPROCESSED]["variance"],
    }


def rebuilt_patches(
    patches: np.ndarray,
    centroids: np.ndarray,
    labels: np.ndarray,
    preprocessing: Preprocessing | None,
) -> np.ndarray:
    """What centroids make of patches, (m, d) pixel levels, of the centroids' type.

    Preprocessed ones keep their own brightness and contrast.

    Args:
        patches: (m, d).
        centroids: (k, d), as patches meet them.
        labels: (m,), the centroid of each.
        preprocessing: of the patches; None: they meet centroids as they are.
    """
    if preprocessing is None or len(patches) == 0:
        return centroids[labels]
    return preprocessing.restored(patches, centroids, labels).astype(centroids.dtype)


def in_pixels(centroids: np.ndarray, preprocessing: Preprocessing | None) -> np.ndarray:
    """The same of centroids, (k, *patch_shape), whose preprocessing is known."""
    if preprocessing is None:
        return centroids
    flat = centroids.reshape(len(centroids), -1)
    return preprocessing.pixels(flat).reshape(centroids.shape)
