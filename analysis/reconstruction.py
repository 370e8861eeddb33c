"""An image rebuilt from a dictionary: each kept patch becomes its nearest centroid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from pipeline import assign, cut_patches, keep_mask
from storage import InputError, PatchSpec
from storage.sources import PIXEL_DTYPES


@dataclass(frozen=True)
class Rebuilt:
    """A rebuilt image and what it was made of.

    image: (height, width[, channels]) float64, pixel levels; 0 where no kept patch lies.
    labels: (m,) int64, the centroid of each kept patch, windows in reading order.
    kept: (down, across) bool, which windows' patches are kept.
    cover: (height, width) int64, how many kept patches lie on each pixel.
    patch_mse: mean squared error of the kept patches, squared pixel levels; NaN for none.
    image_mse: mean squared error over all pixels of the image, squared pixel levels.
    """

    image: np.ndarray
    labels: np.ndarray
    kept: np.ndarray
    cover: np.ndarray
    patch_mse: float
    image_mse: float


def reconstruct(
    image: np.ndarray,
    dictionary: xarray.DataTree | xarray.Dataset,
    *,
    spec: PatchSpec | dict[str, Any] | None = None,
) -> np.ndarray:
    """Rebuild an image from the centroids nearest to its patches.

    Each kept patch is replaced by its nearest centroid, overlaps are averaged over the kept
    patches that cover a pixel, and pixels that no kept patch covers stay zero.

    Args:
        image: (height, width) or (height, width, channels), in the data set's own dtype: which
            patches are kept depends on it.
        dictionary: a node of the tree that `open_dictionaries` returns, or its Dataset.
        spec: the patch geometry; needed only where the dictionary does not carry it, as a Dataset
            taken out of its tree.

    Returns: (height, width[, channels]) float64, pixel levels.
    Raises: InputError for an image that does not fit the dictionary, an unknown geometry, or one
        that contradicts the dictionary's own.
    """
    dataset = dictionary.to_dataset() if isinstance(dictionary, xarray.DataTree) else dictionary
    root = dictionary.root.attrs if isinstance(dictionary, xarray.DataTree) else dictionary.attrs
    centroids = dataset["centroids"].values
    return rebuild(image, centroids, _geometry(root.get("spec"), spec)).image


def rebuild(image: np.ndarray, centroids: np.ndarray, spec: PatchSpec) -> Rebuilt:
    """Rebuild one image; image: (height, width[, channels]), centroids: (k, *patch_shape) float32.

    Memory: the image's patches twice, and a tile of distances.
    Raises: InputError for an image that does not fit the centroids.
    """
    _check(image, centroids, spec)
    images = image[np.newaxis]
    kept = keep_mask(images, spec)[0]
    patches = cut_patches(images, spec)
    flat = centroids.reshape(len(centroids), -1)
    labels = assign(patches, flat) if len(patches) else np.empty(0, np.int64)
    total = np.zeros(image.shape)
    cover = np.zeros(image.shape[:2], np.int64)
    down, across = kept.shape
    for row in range(spec.rows):
        for col in range(spec.cols):
            window = (
                slice(row, row + (down - 1) * spec.stride + 1, spec.stride),
                slice(col, col + (across - 1) * spec.stride + 1, spec.stride),
            )
            total[window][kept] += centroids[labels, row, col]
            cover[window][kept] += 1
    divisor = np.maximum(cover, 1).reshape(*cover.shape, *(1,) * (image.ndim - 2))
    result = total / divisor
    errors = patches.astype(np.float64) - flat[labels]
    return Rebuilt(
        image=result,
        labels=labels,
        kept=kept,
        cover=cover,
        patch_mse=float(np.mean(errors**2)) if len(patches) else float("nan"),
        image_mse=float(np.mean((image - result) ** 2)),
    )


def _geometry(stored: Any, asked: PatchSpec | dict[str, Any] | None) -> PatchSpec:
    given = PatchSpec.from_dict(asked) if isinstance(asked, dict) else asked
    if stored is None and given is None:
        raise InputError(
            "the dictionary does not say how its patches were cut: pass a node of the tree that"
            " open_dictionaries returns, or spec=PatchSpec(rows, cols, …)"
        )
    if stored is None:
        assert given is not None  # the case before
        return given
    own = PatchSpec.from_dict(stored)
    if given is not None and given != own:
        raise InputError(f"spec={given} contradicts the dictionary's own {own}: leave spec out")
    return own


def _check(image: np.ndarray, centroids: np.ndarray, spec: PatchSpec) -> None:
    if image.dtype.name not in PIXEL_DTYPES:
        raise InputError(
            f"the image holds {image.dtype.name} where {', '.join(PIXEL_DTYPES)} are expected:"
            " give it in the dtype of the data set"
        )
    expected = (spec.rows, spec.cols, *image.shape[2:])
    if image.ndim not in (2, 3) or centroids.shape[1:] != expected:
        raise InputError(
            f"an image of shape {image.shape} does not fit centroids of shape"
            f" {centroids.shape[1:]}: give (height, width), or (height, width, channels) with as"
            " many channels as the centroids"
        )
