"""Cut images into patches: which windows are kept, and their rows. Pure numpy, no I/O."""

import math

import numpy as np

from storage.images.pixel_range import PixelRange
from storage.patch_spec import PatchSpec

_SUM_DTYPES = (np.uint16, np.uint32, np.uint64)


def keep_mask(images: np.ndarray, spec: PatchSpec, levels: PixelRange | None = None) -> np.ndarray:
    """Which windows are kept, by the definition in `storage.patch_spec`.

    images: (n, rows, columns[, channels]); integers are summed exactly, floats in float64.
    levels: black, white and no data of the images; None: the type's range, all of it data.
    Returns: (n, windows down, windows across) bool; windows with a pixel of no data are not kept.
    """
    levels = levels or PixelRange.of_type(images.dtype)
    channels = math.prod(images.shape[3:])
    windows = spec.grid(images.shape[1], images.shape[2])
    missing = levels.nodata_pixels(images)
    if images.dtype.kind == "f":
        level = float(spec.level(levels.span, channels))
        sums = images.astype(np.float64)
        if levels.black:
            sums -= levels.black
    else:
        level = math.floor(spec.level(levels.span, channels))
        fits = (int(np.iinfo(images.dtype).max) - int(levels.black)) * spec.dim(channels)
        dtype = next(dtype for dtype in _SUM_DTYPES if fits <= np.iinfo(dtype).max)
        sums = images.astype(dtype)
        if levels.black:  # modulo the type's range, which all differences are within
            sums -= np.array(int(levels.black)).astype(dtype)
    if missing is not None:
        sums[missing] = 0
    if images.ndim == 4:
        sums = sums.sum(axis=3, dtype=sums.dtype)
    kept: np.ndarray = _windows(sums, spec, windows) > level
    if missing is not None:
        kept &= ~_windows(missing, spec, windows)
    return kept


def _windows(values: np.ndarray, spec: PatchSpec, windows: tuple[int, int]) -> np.ndarray:
    """Sum of each window; of bool, whether any is true. values: (n, rows, columns)."""
    for axis, size, count in ((1, spec.rows, windows[0]), (2, spec.cols, windows[1])):
        values = _sliding_sum(values, axis, size, count, spec.stride)
    return values


def count_patches(
    images: np.ndarray, spec: PatchSpec, levels: PixelRange | None = None
) -> np.ndarray:
    """Number of kept patches of each image, (n,) int64.

    Raises: InputError as `PixelRange.check`.
    """
    levels = levels or PixelRange.of_type(images.dtype)
    levels.check(images)
    return np.count_nonzero(keep_mask(images, spec, levels), axis=(1, 2)).astype(np.int64)


def cut_patches(
    images: np.ndarray, spec: PatchSpec, levels: PixelRange | None = None
) -> np.ndarray:
    """Rows of the kept patches, image by image, windows in reading order.

    images: (n, rows, columns[, channels]).
    levels: as for `keep_mask`.
    Returns: (m, d) of the images' dtype; d runs over rows, columns, channels.
    """
    kept = keep_mask(images, spec, levels)
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
