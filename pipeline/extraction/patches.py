"""Cut images into patches: which windows are kept, and their rows. Pure numpy, no I/O."""

import math

import numpy as np

from storage.errors import InputError
from storage.patch_spec import PatchSpec

_SUM_DTYPES = (np.uint16, np.uint32, np.uint64)


def keep_mask(images: np.ndarray, spec: PatchSpec) -> np.ndarray:
    """Which windows are kept, by the definition in `storage.patch_spec`.

    images: (n, rows, columns[, channels]); integers are summed exactly, floats in float64.
    Returns: (n, windows down, windows across) bool.
    """
    channels = math.prod(images.shape[3:])
    windows = spec.grid(images.shape[1], images.shape[2])
    if images.dtype.kind == "f":
        level = float(spec.level(1, channels))
        sums = images.astype(np.float64)
    else:
        largest = int(np.iinfo(images.dtype).max)
        level = math.floor(spec.level(largest, channels))
        fits = largest * spec.dim(channels)
        dtype = next(dtype for dtype in _SUM_DTYPES if fits <= np.iinfo(dtype).max)
        sums = images.astype(dtype)
    if images.ndim == 4:
        sums = sums.sum(axis=3, dtype=sums.dtype)
    for axis, size, count in ((1, spec.rows, windows[0]), (2, spec.cols, windows[1])):
        sums = _sliding_sum(sums, axis, size, count, spec.stride)
    return sums > level


def count_patches(images: np.ndarray, spec: PatchSpec) -> np.ndarray:
    """Number of kept patches of each image, (n,) int64.

    Raises: InputError as `check_range`.
    """
    check_range(images)
    return np.count_nonzero(keep_mask(images, spec), axis=(1, 2)).astype(np.int64)


def check_range(images: np.ndarray) -> None:
    """Raise InputError for float pixels outside 0…1.

    The rule for keeping a patch goes by its sum and by the largest value there can be.
    """
    if images.dtype.kind == "f" and not (
        np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1
    ):
        raise InputError(
            "the images hold float pixels below 0, above 1, or not numbers: scale them to 0…1"
        )


def cut_patches(images: np.ndarray, spec: PatchSpec) -> np.ndarray:
    """Rows of the kept patches, image by image, windows in reading order.

    images: (n, rows, columns[, channels]).
    Returns: (m, d) of the images' dtype; d runs over rows, columns, channels.
    """
    kept = keep_mask(images, spec)
    down, across = kept.shape[1:]
    channels = images.shape[3:]
    patches = np.empty((np.count_nonzero(kept), spec.rows, spec.cols, *channels), images.dtype)
    for row in range(spec.rows):
        for col in range(spec.cols):
            window = images[
                :,
                row : row + (down - 1) * spec.stride + 1 : spec.stride,
                col : col + (across - 1) * spec.stride + 1 : spec.stride,
            ]
            patches[:, row, col] = window[kept]
    return patches.reshape(len(patches), spec.dim(math.prod(channels)))


def _sliding_sum(values: np.ndarray, axis: int, size: int, count: int, stride: int) -> np.ndarray:
    """Sums of `size` neighbours at `count` places, `stride` apart, along `axis`."""
    total = None
    for shift in range(size):
        places = [slice(None)] * values.ndim
        places[axis] = slice(shift, shift + (count - 1) * stride + 1, stride)
        part = values[tuple(places)]
        if total is None:
            total = part.copy()
        else:
            total += part
    assert total is not None  # size >= 1 by PatchSpec
    return total
