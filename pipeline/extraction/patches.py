"""Cut images into patches: which windows are kept, and their rows. Pure numpy, no I/O."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from storage.images.pixel_range import PixelRange
from storage.patch_spec import PatchSpec
from storage.tiles import extended

_SUM_DTYPES = (np.uint16, np.uint32, np.uint64)


def keep_mask(
    images: np.ndarray,
    spec: PatchSpec,
    levels: PixelRange | None = None,
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """Which windows are kept, by the definition in `storage.patch_spec`.

    Args:
        images: (n, rows, columns[, channels]); integers are summed exactly, floats in float64. They
            are extended where the spec says so.
        spec: the geometry, and the rule.
        levels: black, white and no data of the images; None: the type's range, all of it data.
        allowed: (n, windows down, windows across) bool, which alone may be kept; None: all.

    Returns:
        (n, windows down, windows across) bool; windows with a pixel of no data are not kept.
    """
    levels = levels or PixelRange.of_type(images.dtype)
    windows = spec.grid(images.shape[1], images.shape[2])
    images, spec = extended(images, spec), spec.within
    missing = levels.nodata_pixels(images)
    measure = spec.rule[0]
    if measure == "all":
        kept = np.ones((len(images), *windows), bool)
    elif measure == "range":
        kept = _ranges(images, missing, spec, windows) > _level(spec, levels, images.dtype, 1)
    else:
        kept = _above(measure, _from_black(images, levels, missing), spec, levels, images.dtype)
    if missing is not None:
        kept &= ~_windows(missing, spec, windows)
    if allowed is not None:
        kept &= allowed
    return kept


def _above(
    measure: str, values: np.ndarray, spec: PatchSpec, levels: PixelRange, dtype: np.dtype
) -> np.ndarray:
    """Windows whose mean, or standard deviation, is above the rule's share of the span.

    values: (n, rows, columns[, channels]) from black, as unsigned integers or float64.
    """
    dim = spec.dim(math.prod(values.shape[3:]))
    whole = values.dtype.kind != "f"
    windows = spec.grid(values.shape[1], values.shape[2])

    most = int(np.iinfo(dtype).max) - int(levels.black) if whole else 0
    narrow = next(t for t in _SUM_DTYPES if most * dim <= np.iinfo(t).max) if whole else np.float64
    total = _sums(values.astype(narrow, copy=False), spec, windows)
    if measure == "nonblank":
        return np.asarray(total > _level(spec, levels, dtype, dim))
    # d² times the variance is d·Σx² − (Σx)²; in integers exact, up to 2⁶⁴
    wide = np.uint64 if whole and dim**2 * most**2 < 1 << 64 else np.float64
    squares = values.astype(wide)
    np.multiply(squares, squares, out=squares)
    squares = _sums(squares, spec, windows)
    total = total.astype(wide)
    spread = squares * wide(dim) - total * total
    level = float((spec.rule[1] * Fraction(levels.span) * dim) ** 2)
    if wide is np.float64:  # less than the sums are rounded is nothing
        return np.asarray(spread > level + 8 * np.finfo(float).eps * dim * squares)
    return np.asarray(spread > level)


def _sums(values: np.ndarray, spec: PatchSpec, windows: tuple[int, int]) -> np.ndarray:
    """Sum of each window, of all channels, in the type of the values."""
    if values.ndim == 4:
        values = values.sum(axis=3, dtype=values.dtype)
    return _windows(values, spec, windows)


def _level(spec: PatchSpec, levels: PixelRange, dtype: np.dtype, times: int) -> float:
    """So many times the rule's share of the span, rounded down for whole numbers."""
    level = spec.rule[1] * Fraction(levels.span) * times
    return float(level) if dtype.kind == "f" else math.floor(level)


def _from_black(images: np.ndarray, levels: PixelRange, missing: np.ndarray | None) -> np.ndarray:
    """Levels above black, as unsigned integers or float64; 0 where there is no data."""
    if images.dtype.kind == "f":
        values = images.astype(np.float64)
        if levels.black:
            values -= levels.black
    elif images.dtype.kind == "u" and not levels.black:
        values = images
    else:  # modulo 2¹⁶, which all differences are within
        values = images.astype(np.uint16)
        values -= np.array(int(levels.black)).astype(np.uint16)
    if missing is not None:
        values = values.copy() if values is images else values
        values[missing] = 0
    return values


def _ranges(
    images: np.ndarray, missing: np.ndarray | None, spec: PatchSpec, windows: tuple[int, int]
) -> np.ndarray:
    """Highest less lowest level of each window, of all channels, wide enough for its type."""
    values = images.astype(np.float64 if images.dtype.kind == "f" else np.int32)
    if missing is not None:
        values[missing] = 0
    high, low = (
        _windows(most(values, axis=3) if values.ndim == 4 else values, spec, windows, pick)
        for most, pick in ((np.max, np.maximum), (np.min, np.minimum))
    )
    return np.asarray(high - low)


def _windows(
    values: np.ndarray,
    spec: PatchSpec,
    windows: tuple[int, int],
    joined: Callable[..., np.ndarray] = np.add,
) -> np.ndarray:
    """Sum, or what else joins two values, of each window; of bool, whether any is true.

    values: (n, rows, columns).
    """
    for axis, size, count in ((1, spec.rows, windows[0]), (2, spec.cols, windows[1])):
        values = _sliding(joined, values, axis, size, count, spec.stride)
    return values


def allowed_windows(mask: np.ndarray, spec: PatchSpec, by: str) -> np.ndarray:
    """Windows whose pixels are "all" set, or whose "centre" is; mask: (n, rows, columns) bool."""
    windows = spec.grid(mask.shape[1], mask.shape[2])
    if by == "all":
        return ~_windows(~mask, spec, windows)
    centres = mask[:, spec.rows // 2 :: spec.stride, spec.cols // 2 :: spec.stride]
    return centres[:, : windows[0], : windows[1]]


def count_patches(
    images: np.ndarray,
    spec: PatchSpec,
    levels: PixelRange | None = None,
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """Number of kept patches of each image, (n,) int64; its arguments are `keep_mask`'s.

    Raises: InputError as `PixelRange.check`.
    """
    levels = levels or PixelRange.of_type(images.dtype)
    levels.check(images)
    kept = keep_mask(images, spec, levels, allowed)
    return np.count_nonzero(kept, axis=(1, 2)).astype(np.int64)


def cut_patches(
    images: np.ndarray,
    spec: PatchSpec,
    levels: PixelRange | None = None,
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """Rows of the kept patches, image by image, windows in reading order.

    Args:
        images: (n, rows, columns[, channels]), extended where the spec says so.
        spec: as for `keep_mask`.
        levels: as for `keep_mask`.
        allowed: as for `keep_mask`.

    Returns:
        (m, d) of the images' dtype; d runs over rows, columns, channels.

    >>> import numpy as np, patchdict
    >>> images = np.array([[[0, 0, 1], [0, 0, 2]]], np.uint8)
    >>> patchdict.cut_patches(images, patchdict.PatchSpec(2, 2))  # one of the two is blank
    array([[0, 1, 0, 2]], dtype=uint8)
    """
    images, spec = extended(images, spec), spec.within
    kept = keep_mask(images, spec, levels, allowed)
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


def _sliding(
    joined: Callable[..., np.ndarray],
    values: np.ndarray,
    axis: int,
    size: int,
    count: int,
    stride: int,
) -> np.ndarray:
    """`size` neighbours joined at `count` places, `stride` apart, along `axis`."""
    total = None
    for shift in range(size):
        places = [slice(None)] * values.ndim
        places[axis] = slice(shift, shift + (count - 1) * stride + 1, stride)
        part = values[tuple(places)]
        if total is None:
            total = part.copy()
        else:
            joined(total, part, out=total)
    assert total is not None  # size >= 1 by PatchSpec
    return total
