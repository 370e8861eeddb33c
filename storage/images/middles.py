"""The middle of images, where they are large or unequal."""

from collections.abc import Sequence

import numpy as np

from storage.images.source import ImageSource
from storage.patch_spec import PatchSpec


def first_within(size: Sequence[int], spec: PatchSpec) -> tuple[int, int]:
    """Row and column of the first patch that lies within an image of this size.

    Where none does, that of a patch at its corner.
    """
    patch = spec.rows, spec.cols
    first = [-before % spec.stride for before in spec.before]
    fits = [start + p <= n for start, p, n in zip(first, patch, size, strict=True)]
    down, across = (start * fit for start, fit in zip(first, fits, strict=True))
    return down, across


def middle_size(
    sizes: np.ndarray, channels: int, most: int, spec: PatchSpec
) -> tuple[tuple[int, int], bool]:
    """Rows and columns of the middle of images, and whether that is all of them.

    Args:
        sizes: (n, 2) rows and columns of the images.
        channels: values of a pixel.
        most: pixel values of each.
        spec: of patches, of which at least one fits, and which fill the middle without a margin.
    """
    least = sizes.min(axis=0).tolist()
    shrink = max(1.0, (least[0] * least[1] * channels / most) ** 0.5)
    if shrink == 1 and bool((sizes == sizes[0]).all()):
        return (least[0], least[1]), True
    rows, cols = (
        patch + max(0, int((length - first) / shrink) - patch) // spec.stride * spec.stride
        for length, first, patch in zip(
            least, first_within(least, spec), (spec.rows, spec.cols), strict=True
        )
    )
    return (rows, cols), False


def read_middles(
    source: ImageSource, which: np.ndarray, most: int, spec: PatchSpec
) -> tuple[np.ndarray, bool]:
    """The middle of some images: as much as each of them has, of at most so many values.

    Args:
        source: the images.
        which: numbers of those that are read.
        most: pixel values of each.
        spec: of patches, which are cut where they are cut from the whole image.

    Returns:
        (n, rows, columns[, channels]), and whether that is all of each image.
    """
    sizes = source.sizes[which]
    (rows, cols), whole = middle_size(sizes, source.channels, most, spec)
    if whole:
        return source.read(which), True
    found = []
    for index, (height, width) in zip(which.tolist(), sizes.tolist(), strict=True):
        top, left = (
            first + (length - first) // 2 // spec.stride * spec.stride
            for length, first in zip(
                (height - rows, width - cols), first_within((height, width), spec), strict=True
            )
        )
        found.append(source.reader.read(index, slice(top, top + rows), slice(left, left + cols)))
    return np.stack(found), False
