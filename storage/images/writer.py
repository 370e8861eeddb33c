"""Images written one block or part after another into a zarr group, whole or not at all."""

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from storage.atomic import check_vacant, remove_orphans, staged
from storage.errors import InputError
from storage.layout import STORE_SUFFIX
from storage.strict_store import checked_compressors

CHUNK_BYTES = 8 << 20  # of a zarr chunk, decoded, at most
IMAGE_AXES = ("image", "row", "col", "channel")


@contextmanager
def write_images(
    path: Path,
    shape: tuple[int, ...],
    name: str,
    attributes: dict[str, Any],
    sizes: np.ndarray | None = None,
) -> Iterator["ImageWriter"]:
    """A writer of float32 images, which appear under `path` when the context ends well.

    Args:
        path: of the zarr v3 group, which xarray opens; ends in .zarr.
        shape: (n, height, width[, channels]).
        name: of the array in it, over (image, row, col[, channel]). Its chunks hold whole images,
            of large ones squares.
        attributes: of the group.
        sizes: (n, 2) rows and columns of each image, where they differ: each is an array of its
            own, over (row, col[, channel]), called as name_0000012.

    Yields:
        The writer. Memory: a chunk, beside what is written.

    Raises:
        InputError: another ending, something of that name that is there already, and a folder that
            does not exist.
    """
    check_target(path)
    remove_orphans(path)
    with staged(path) as staging:
        writer = ImageWriter(staging, shape, name, attributes, sizes)
        yield writer
        writer.finish()
        with warnings.catch_warnings():
            # zarr's, that this is no part of its format yet; xarray warns where it is missing
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(staging)
        check_target(path)  # once more, it took a while


def check_target(path: Path) -> None:
    """Raise InputError where `write_images` would."""
    if path.suffix != STORE_SUFFIX:
        raise InputError(f"cannot write images to {path}: use a name that ends in {STORE_SUFFIX}")
    check_vacant(path)


class ImageWriter:
    """Gathers pixels until they fill a chunk, for a chunk is written once.

    What is given must fill one chunk after the other: images in order, parts of one as the squares
    of `analysis.reconstruction.parts` come.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        name: str,
        attributes: dict[str, Any],
        sizes: np.ndarray | None = None,
    ) -> None:
        self._group = zarr.open_group(path, mode="w", zarr_format=3, attributes=attributes)
        self._shape, self._name, self._sizes = shape, name, sizes
        self._next, self._image = 0, -1
        if sizes is None:
            self._filled = self._create(name, shape, IMAGE_AXES[: len(shape)])

    def write(
        self,
        images: np.ndarray,
        first: int | None = None,
        rows: slice = slice(None),
        cols: slice = slice(None),
    ) -> None:
        """Take images, (m, height, width[, channels]), or a part of one.

        first: number of the first of them; None: they follow those before. rows, cols: where they
            lie in their images.
        """
        first = self._next if first is None else first
        self._next, corner = first + len(images), (rows.start or 0, cols.start or 0)
        if self._sizes is None:
            self._filled.fill(images, (first, *corner))
            return
        for index, image in enumerate(images, first):
            if index != self._image:
                self.finish()
                own = f"_{index:07d}"
                shape = (*self._sizes[index].tolist(), *self._shape[3:])
                axes = (f"row{own}", f"col{own}", *IMAGE_AXES[3 : len(self._shape)])
                self._filled, self._image = self._create(self._name + own, shape, axes), index
            self._filled.fill(image, corner)

    def finish(self) -> None:
        """Raise InputError where pixels are missing."""
        if (self._sizes is None or self._image >= 0) and self._filled.left:
            raise InputError(
                f"{self._filled.left:,} values of {self._name} were not written: give all images"
            )

    def _create(self, name: str, shape: tuple[int, ...], axes: Sequence[str]) -> "_FilledArray":
        array: zarr.Array = self._group.create_array(
            name,
            shape=shape,
            dtype="float32",
            chunks=chunk_shape(shape, len(self._shape) - len(shape)),
            compressors=checked_compressors(4),
            dimension_names=axes,
            config={"write_empty_chunks": True},  # an absent chunk is damage
        )
        return _FilledArray(array)


def chunk_shape(shape: tuple[int, ...], missing: int = 0) -> tuple[int, ...]:
    """Of a zarr array of float32 images: whole images, or a square of a large one.

    missing: 1 where the axis of images is.
    """
    if missing:
        return chunk_shape((1, *shape))[1:]
    image = 4 * math.prod(shape[1:])
    if image <= CHUNK_BYTES:
        return (min(shape[0], CHUNK_BYTES // image), *shape[1:])
    side = 1
    while 4 * (2 * side) ** 2 * math.prod(shape[3:]) <= CHUNK_BYTES:
        side *= 2
    return (1, min(side, shape[1]), min(side, shape[2]), *shape[3:])


class _FilledArray:
    """A zarr array that is filled chunk after chunk; left: values that are not written yet."""

    def __init__(self, array: zarr.Array) -> None:
        self._array, self.left = array, math.prod(array.shape)
        self._chunk: tuple[int, ...] = ()
        self._place: tuple[slice, ...] = ()
        self._waiting, self._missing = np.empty(0, np.float32), 0

    def fill(self, values: np.ndarray, corner: tuple[int, ...]) -> None:
        """Take values; corner: where the first of them lies."""
        corner += (0,) * (values.ndim - len(corner))
        reached = [
            range(at // size, -(-(at + length) // size))
            for at, length, size in zip(corner, values.shape, self._array.chunks, strict=True)
        ]
        for chunk in itertools.product(*reached):
            if chunk != self._chunk:
                self._begin(chunk)
            meets = [
                (at, max(at, own.start), min(at + length, own.stop), own.start)
                for at, length, own in zip(corner, values.shape, self._place, strict=True)
            ]
            part = values[tuple(slice(low - at, high - at) for at, low, high, _ in meets)]
            self._waiting[tuple(slice(low - own, high - own) for _, low, high, own in meets)] = part
            self._missing -= part.size
            if self._missing == 0:
                self._array[self._place] = self._waiting
                self.left -= self._waiting.size

    def _begin(self, chunk: tuple[int, ...]) -> None:
        if self._missing:
            raise InputError(
                f"{self._missing:,} values of a chunk of {self._array.basename} are missing: give"
                " the images in order"
            )
        self._chunk = chunk
        self._place = tuple(
            slice(at * size, min((at + 1) * size, length))
            for at, size, length in zip(chunk, self._array.chunks, self._array.shape, strict=True)
        )
        self._waiting = np.empty([own.stop - own.start for own in self._place], np.float32)
        self._missing = self._waiting.size
