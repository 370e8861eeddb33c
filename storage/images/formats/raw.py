"""Images written one after the other into a file of raw pixels, for windows in any order."""

from array import array
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import InputError
from storage.images.pixel_range import PIXEL_DTYPES
from storage.images.reader import ImageReader
from storage.mapped_files import let_go


class RawReader:
    """Reads what `write_raw` wrote; an `ImageReader` that may be sent to other processes."""

    piece = (1, 1)

    def __init__(
        self, path: Path, where: str, dtype: np.dtype, channels: int, sizes: np.ndarray
    ) -> None:
        self.path, self.where = path, where
        self.dtype, self.channels, self.sizes = dtype, channels, sizes
        self._ends = np.cumsum(sizes.prod(axis=1) * max(1, channels) * dtype.itemsize)
        self.resident_bytes = sizes.nbytes + self._ends.nbytes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RawReader) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def read(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        """The window of one image."""
        height, width = self.sizes[index].tolist()
        shape = (height, width, self.channels) if self.channels else (height, width)
        start = int(self._ends[index - 1]) if index else 0
        image = self._pixels[start : int(self._ends[index])].view(self.dtype).reshape(shape)
        copy = np.array(image[rows, cols])
        let_go(self._pixels)
        return copy

    @cached_property
    def _pixels(self) -> np.memmap:
        """All of the file, mapped in each process by itself."""
        return np.memmap(self.path, np.uint8, "r")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_pixels"}

    def name(self, index: int) -> str:
        """Names one image."""
        return f"image {index} of {self.where}"


def write_raw(images: Iterable[np.ndarray], count: int, path: Path, where: str) -> RawReader:
    """Write images of any sizes into a file and open it. Memory: one image, and 24 bytes of each.

    Args:
        images: (rows, columns[, channels]) each, of one type and number of channels.
        count: how many there are.
        path: of the file.
        where: names the images in an error.

    Raises: InputError: others, or another number of them.
    """
    sizes, written, kind = array("q"), 0, None
    with path.open("wb") as file:
        for image in images:
            if written == count:
                raise InputError(f"{where} are more than count={count}: state their number")
            own = image.dtype.newbyteorder("="), image.ndim, image.shape[2:]
            right = image.ndim in (2, 3) and image.size and own[0].name in PIXEL_DTYPES
            if not right or own != (kind or own):
                raise InputError(
                    f"image {written} of {where} is {image.dtype} {image.shape} where pixels (rows,"
                    " columns) or (rows, columns, channels) of one type, of"
                    f" {', '.join(PIXEL_DTYPES)}, are expected: convert it"
                )
            kind = own
            sizes.extend(image.shape[:2])
            file.write(np.ascontiguousarray(image, own[0]).data)
            written += 1
    if kind is None or written < count:
        raise InputError(
            f"{where} are {written}, fewer than count={count}: state how many there are"
        )
    dtype, _, channels = kind
    pairs = np.frombuffer(sizes, np.int64).reshape(-1, 2)
    return RawReader(path, where, dtype, channels[0] if channels else 0, pairs)


def unpack(base: ImageReader, path: Path) -> RawReader:
    """Write all pixels of a reader into a file, an image at a time, and open it."""
    images = (
        base.read(index, slice(0, height), slice(0, width))
        for index, (height, width) in enumerate(base.sizes.tolist())
    )
    return write_raw(images, len(base.sizes), path, base.where)
