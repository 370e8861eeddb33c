"""`reconstruct`: an image, or a stack of them, rebuilt from a dictionary's centroids."""

import operator
from dataclasses import replace
from typing import Any

import numpy as np
import xarray

from analysis.measures.codebook import AnyDictionary, node_of, preprocessing_of
from analysis.measures.pixel_scale import PixelUnit
from analysis.reconstruction.image_stack import ImageStack, in_order
from analysis.reconstruction.overlap import Rebuilder
from pipeline import Preprocessing
from storage import InputError, PatchSpec
from storage.plain_attributes import parsed


def reconstruct(
    image: np.ndarray | xarray.DataArray,
    dictionary: AnyDictionary,
    *,
    spec: PatchSpec | dict[str, Any] | str | None = None,
    stride: int | None = None,
    white: float | None = None,
) -> np.ndarray | xarray.DataArray:
    """Rebuild an image, or a stack of images, from the centroids nearest to their patches.

    Each kept patch is replaced by its nearest centroid, overlaps are averaged over the kept
    patches that cover a pixel, and pixels that no kept patch covers are black. Where patches were
    preprocessed, each keeps its own brightness and contrast.

    Args:
        image: (row, col[, channel]) or (image, row, col[, channel]), in the data set's own dtype:
            which patches are kept depends on it. The dictionary decides which of the two it is:
            3 axes are one image for colour patches, a stack for grey ones. A DataArray with axes
            of these names may have them in any order.
        dictionary: a node of the tree that `open_dictionaries` returns, its Dataset, or a fitted
            StreamingKMeans.
        spec: the patch geometry; needed where the dictionary does not carry it, as a Dataset taken
            out of its tree, or an estimator of other rows than a patch store's; and for a part of
            an image, whose border is not reflected: the dictionary's own with another border.
        stride: step between patches in pixels, at least 1, also larger than the patch; None: the
            dictionary's own.
        white: the image's level of white, where it has another unit than the dictionary's images:
            its pixels, from 0 to `white`, are brought to their range and type.

    Returns:
        Of the image's shape, float64, pixel levels of the dictionary; for a DataArray one with its
        axes, coordinates and name. Memory: the result, and the patches of a block of images, or of
        a part of a large one, twice.

    Raises:
        InputError: an image that does not fit the dictionary, in shape or in the range of its
            pixels, an unknown geometry, one that contradicts the dictionary's own, or a stride
            that is not a number of pixels.
    """
    dictionary = node_of(dictionary)
    centroids, geometry = open_dictionary(dictionary, spec, stride)
    preprocessing = preprocessing_of(dictionary)
    pixels = np.asarray(in_order(image) if isinstance(image, xarray.DataArray) else image)
    unit = PixelUnit.of(pixels.dtype, dictionary, white)
    if white is None:
        unit.brought(pixels)  # which only looks at them
        unit.check_reach()
    rebuilt = _rebuild_any(pixels, centroids, geometry, unit, preprocessing)
    if isinstance(image, xarray.DataArray):
        return in_order(image).copy(data=rebuilt).transpose(*image.dims)
    return rebuilt


def open_dictionary(
    dictionary: xarray.DataTree | xarray.Dataset,
    spec: PatchSpec | dict[str, Any] | str | None = None,
    stride: int | None = None,
) -> tuple[np.ndarray, PatchSpec]:
    """Centroids, (k, *patch_shape) float32, and the geometry to rebuild with; see `reconstruct`."""
    tree = isinstance(dictionary, xarray.DataTree)
    root = parsed(dictionary.root.attrs if tree else dictionary.attrs)
    geometry = _geometry(root.get("spec"), spec)
    if stride is not None:
        try:
            geometry = replace(geometry, stride=operator.index(stride))
        except TypeError:
            raise InputError(
                f"stride {stride!r} is not a whole number: give it in pixels"
            ) from None
    return as_patches(np.asarray(dictionary["centroids"]), geometry), geometry


def as_patches(centroids: np.ndarray, spec: PatchSpec) -> np.ndarray:
    """Centroids of rows that were not known to be patches, (k, d), as patches of a geometry."""
    if centroids.ndim > 2:
        return centroids
    channels, more = divmod(centroids.shape[1], spec.rows * spec.cols)
    if more or not channels:
        raise InputError(
            f"centroids of {centroids.shape[1]} values are no patches of {spec.rows}x{spec.cols}"
            " pixels: give the geometry that they were cut by (spec)"
        )
    shape = (spec.rows, spec.cols) if channels == 1 else (spec.rows, spec.cols, channels)
    return centroids.reshape(len(centroids), *shape)


def check_fit(shape: tuple[int, ...], centroids: np.ndarray) -> None:
    """Raise InputError where images of a shape, (n, height, width[, channels]), do not fit."""
    if len(shape) != centroids.ndim or shape[3:] != centroids.shape[3:]:
        raise InputError(
            f"an image of shape {shape[1:]} does not fit centroids of shape"
            f" {centroids.shape[1:]}: give (height, width), or (height, width, channels) with as"
            " many channels as the centroids"
        )


def _rebuild_any(
    image: np.ndarray,
    centroids: np.ndarray,
    spec: PatchSpec,
    unit: PixelUnit,
    preprocessing: Preprocessing | None,
) -> np.ndarray:
    """One image, or a stack of them: as many axes as the centroids have make a stack."""
    if image.ndim != centroids.ndim:
        check_fit((1, *image.shape), centroids)
        return _rebuild_any(image[np.newaxis], centroids, spec, unit, preprocessing)[0]
    check_fit(image.shape, centroids)
    stack = ImageStack.of(image, centroids.ndim)
    rebuilder = Rebuilder(centroids, spec, unit.dtype, unit.levels, preprocessing)
    step, result = stack.step(unit.dtype, spec), np.empty(stack.shape)
    for start, _, block in stack.rebuilt(rebuilder, unit, step):
        result[start : start + len(block.images), block.rows, block.cols] = block.images
    return result


def _geometry(stored: Any, asked: PatchSpec | dict[str, Any] | str | None) -> PatchSpec:
    """The dictionary's own geometry, or the one asked for where it does not say."""
    given = PatchSpec.from_dict(asked) if isinstance(asked, dict | str) else asked
    if stored is None and given is None:
        raise InputError(
            "the dictionary does not say how its patches were cut: pass a node of the tree that"
            " open_dictionaries returns, or spec=PatchSpec(rows, cols, …)"
        )
    if stored is None:
        assert given is not None  # the case before
        return given
    own = PatchSpec.from_dict(stored)
    if given is not None and given.within != own.within:
        raise InputError(f"spec={given} contradicts the dictionary's own {own}: leave spec out")
    return given or own
