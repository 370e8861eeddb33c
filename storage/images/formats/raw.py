"""Images unpacked into one file of raw pixels, for windows that are read in any order."""

from pathlib import Path

import numpy as np

from storage.images.reader import ImageReader


class RawReader:
    """Reads what `unpack` wrote; an `ImageReader` that may be sent to other processes."""

    piece = (1, 1)
    resident_bytes = 0

    def __init__(self, path: Path, base: ImageReader) -> None:
        self.path, self.where = path, base.where
        self.dtype, self.channels, self.sizes = base.dtype, base.channels, base.sizes
        values = self.sizes.prod(axis=1) * max(1, self.channels)
        self._ends = np.cumsum(values * self.dtype.itemsize)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RawReader) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def read(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        """The window of one image."""
        height, width = self.sizes[index].tolist()
        shape = (height, width, self.channels) if self.channels else (height, width)
        start = int(self._ends[index - 1]) if index else 0
        image = np.memmap(self.path, self.dtype, "r", start, shape)
        return np.array(image[rows, cols])

    def name(self, index: int) -> str:
        """Names one image."""
        return f"image {index} of {self.where}"


def unpack(base: ImageReader, path: Path) -> RawReader:
    """Write all pixels into a file, an image at a time, and open it."""
    with path.open("wb") as file:
        for index, (height, width) in enumerate(base.sizes.tolist()):
            image = base.read(index, slice(0, height), slice(0, width))
            file.write(np.ascontiguousarray(image).data)
    return RawReader(path, base)
