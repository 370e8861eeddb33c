"""The middle of images, where they are large or unequal."""

import numpy as np

from storage.images.source import ImageSource


def middle_size(
    size: tuple[int, int], channels: int, most: int, least: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns of the middle of an image of this size; see `read_middles`."""
    shrink = max(1.0, (size[0] * size[1] * channels / most) ** 0.5)
    rows, cols = (
        min(whole, max(short, int(whole / shrink)))
        for whole, short in zip(size, least, strict=True)
    )
    return rows, cols


def read_middles(
    source: ImageSource, which: np.ndarray, most: int, least: tuple[int, int]
) -> np.ndarray:
    """The middle of some images: as much as each of them has, of at most so many values.

    Args:
        source: the images.
        which: numbers of those that are read.
        most: pixel values of each.
        least: rows and columns that it has all the same.

    Returns:
        (n, rows, columns[, channels]).
    """
    height, width = source.sizes[which].min(axis=0).tolist()
    rows, cols = middle_size((height, width), source.channels, most, least)
    found = []
    for index, (height, width) in zip(which.tolist(), source.sizes[which].tolist(), strict=True):
        top, left = (height - rows) // 2, (width - cols) // 2
        found.append(source.reader.read(index, slice(top, top + rows), slice(left, left + cols)))
    return np.stack(found)
