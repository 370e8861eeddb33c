"""Images in an array, in memory or mapped from a file."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from storage.errors import InputError
from storage.mapped_files import let_go

_PICKED_TOGETHER = 8  # images that lie apart


class ArrayReader:
    """Reads (n, rows, columns[, channels]); an `ImageReader`.

    Pages of a mapped file are let go at once: they would count as resident memory. Each image that
    is picked alone may bring some MB of its neighbourhood with it.
    """

    piece = (1, 1)

    def __init__(self, images: np.ndarray, name: str) -> None:
        self._images, self._name = images, name
        self.where = str(getattr(images, "filename", None) or f"the array {name}")
        self.dtype = images.dtype.newbyteorder("=")
        self.channels = images.shape[3] if images.ndim == 4 else 0
        one = np.array(images.shape[1:3], np.int64)
        self.sizes = np.broadcast_to(one, (len(images), 2))
        self.resident_bytes = 0 if isinstance(images, np.memmap) else images.nbytes

    def read(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        """A copy of a part of one image, (rows, columns[, channels])."""
        copy = np.asarray(self._images[index, rows, cols].astype(self.dtype))
        let_go(self._images)
        return copy

    def read_many(self, which: slice | np.ndarray) -> np.ndarray:
        """A copy of some images."""
        images = self._images
        if isinstance(which, slice):
            copy = np.asarray(images[which].astype(self.dtype))
            let_go(images)
            return copy
        copy = np.empty((len(which), *images.shape[1:]), self.dtype)
        mapped = isinstance(images, np.memmap)
        step = _PICKED_TOGETHER if mapped else max(1, len(which))
        for first in range(0, len(which), step):
            part = slice(first, first + step)
            copy[part] = images[which[part]]
            let_go(images)
        return copy

    def name(self, index: int) -> str:
        """Names one image."""
        return f"image {index} of {self.where}"


class StackReader(ArrayReader):
    """Reads several arrays as one; they differ in their number of images alone."""

    def __init__(self, arrays: Sequence[np.ndarray], name: str) -> None:
        super().__init__(arrays[0], name)
        self._parts = [ArrayReader(array, name) for array in arrays]
        self._ends = np.cumsum([len(array) for array in arrays])
        self.sizes = np.broadcast_to(self.sizes[0], (int(self._ends[-1]), 2))
        self.resident_bytes = sum(part.resident_bytes for part in self._parts)

    def read(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        """A copy of a part of one image, (rows, columns[, channels])."""
        part, at = self._place(index)
        return part.read(at, rows, cols)

    def read_many(self, which: slice | np.ndarray) -> np.ndarray:
        """A copy of some images."""
        numbers = np.arange(len(self.sizes))[which]
        found = np.empty((len(numbers), *self._images.shape[1:]), self.dtype)
        for part, end in zip(self._parts, self._ends, strict=True):
            first = end - len(part.sizes)
            mine = (first <= numbers) & (numbers < end)
            if mine.any():
                found[mine] = part.read_many(numbers[mine] - first)
        return found

    def name(self, index: int) -> str:
        """Names one image."""
        part, at = self._place(index)
        return part.name(at)

    def _place(self, index: int) -> tuple[ArrayReader, int]:
        """The part that holds an image, and its number in that."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        part = self._parts[number]
        return part, index - int(self._ends[number]) + len(part.sizes)


class ListReader:
    """Reads a list of images, each (rows, columns[, channels]), of any sizes; an `ImageReader`.

    Raises: InputError where they are not of one type and number of channels.
    """

    piece = (1, 1)

    def __init__(self, images: Sequence[np.ndarray], name: str) -> None:
        self._images = [np.asarray(image) for image in images]
        self.where = f"the images {name}"
        kinds = {(image.dtype, image.ndim, image.shape[2:]) for image in self._images}
        if len(kinds) != 1 or self._images[0].ndim not in (2, 3):
            told = sorted({f"{image.dtype} {image.shape}" for image in self._images})[:3]
            raise InputError(
                f"{self.where} are of several kinds ({', '.join(told)}): give a list of arrays"
                " (rows, columns) or (rows, columns, channels) of one type"
                if kinds
                else f"{self.where} are none: give at least one"
            )
        (dtype, ndim, channels) = kinds.pop()
        self.dtype = dtype.newbyteorder("=")
        self.channels = channels[0] if ndim == 3 else 0
        self.sizes = np.array([image.shape[:2] for image in self._images], np.int64)
        self.resident_bytes = sum(image.nbytes for image in self._images)

    def read(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        """A copy of a part of one image, (rows, columns[, channels])."""
        return np.asarray(self._images[index][rows, cols].astype(self.dtype))

    def name(self, index: int) -> str:
        """Names one image."""
        return f"image {index} of {self.where}"


def one_array(array: Any) -> Any:
    """What has a shape, a type and slices, as it is; a tensor of torch as an array of numpy.

    Raises: InputError for what only leads to arrays: a group of zarr, a Dataset of xarray.
    """
    for names in ("array_keys", "data_vars"):
        if hasattr(array, names):
            found = getattr(array, names)
            listed = ", ".join(map(repr, found() if callable(found) else found))
            raise InputError(f"a {type(array).__name__} holds arrays: give one of them ({listed})")
    if not hasattr(array, "detach"):
        return array
    tensor = array.detach().cpu()
    # numpy knows no bfloat16; widening it loses nothing
    half = tensor.dtype.is_floating_point and tensor.itemsize == 2
    return (tensor.float() if half else tensor).numpy()


def checked_images(images: np.ndarray, what: str) -> np.ndarray:
    """The array; raises InputError where it holds no images."""
    if images.ndim not in (3, 4) or images.size == 0:
        raise InputError(
            f"{what} has the shape {images.shape} where (images, rows, columns) or"
            " (images, rows, columns, channels) is expected"
        )
    return images
