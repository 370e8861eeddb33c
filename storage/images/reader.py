"""What a lazy source of images must do: say its sizes, and read windows."""

import itertools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from storage.images.array_reader import ArrayReader

BLOCK_BYTES = 1 << 24  # of pixels that are read in order
_TOGETHER = 1 << 18  # bytes of small images that one thread reads, one after the other


@runtime_checkable
class ImageReader(Protocol):
    """Images that are read window by window; their sizes may differ, type and channels may not.

    Threads read at the same time. What is opened in each process is opened by its path.

    Attributes:
        where: names the images in an error, as their path does.
        dtype: of the pixels, in native byte order.
        channels: values of a pixel; 0 where there is no axis of channels.
        sizes: (n, 2) int64, rows and columns of each image.
        resident_bytes: what a process that has opened them holds, beside what it reads.
        piece: rows and columns that are read at once, whatever is asked for; (1, 1) for any.

    One with the attribute `in_files`, which is true, names each image by a file of its own.
    """

    where: str
    dtype: np.dtype
    channels: int
    sizes: np.ndarray
    resident_bytes: int
    piece: tuple[int, int]

    def read(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        """The window of one image, (rows, columns[, channels]) of `dtype`.

        Raises: InputError that names the file where it is damaged, gone or another one.
        """
        ...

    def name(self, index: int) -> str:
        """Names one image, as its file does."""
        ...


def window_bounds(rows: slice, cols: slice, size: np.ndarray) -> tuple[int, int, int, int]:
    """First and last-plus-one row, first and last-plus-one column of a window of one image."""
    top, bottom, _ = rows.indices(int(size[0]))
    left, right, _ = cols.indices(int(size[1]))
    return top, max(top, bottom), left, max(left, right)


def blocks_in_order(reader: ImageReader) -> Iterator[tuple[int, int, np.ndarray]]:
    """All pixels once, in order: whole images of one size together, or rows of a large one.

    Yields: number of the first image, its first row, and (n, rows, columns[, channels]).
    """
    image = int(reader.sizes.prod(axis=1).max()) * max(1, reader.channels) * reader.dtype.itemsize
    if isinstance(reader, ArrayReader) and image <= BLOCK_BYTES:
        step = BLOCK_BYTES // image
        for start in range(0, len(reader.sizes), step):
            yield start, 0, reader.read_many(slice(start, start + step))
        return
    parts, ahead = itertools.tee(_parts(reader))
    for part, pixels in zip(parts, _read_in_order(reader, ahead), strict=True):
        yield part.first, part.rows.start, pixels
        del pixels  # before the next takes as much


class _Part(NamedTuple):
    """Images from the first to before the last, whole and of one size; or some rows of one."""

    first: int
    stop: int
    rows: slice
    cols: slice

    def read(self, reader: ImageReader) -> np.ndarray:
        """Their pixels, (n, rows, columns[, channels])."""
        images = range(self.first, self.stop)
        found = [reader.read(index, self.rows, self.cols) for index in images]
        return np.stack(found) if len(found) > 1 else found[0][np.newaxis]


def _parts(reader: ImageReader) -> Iterator[_Part]:
    """All images in order: small ones together, others whole, large ones by some rows."""
    piece, sizes = reader.piece[0], reader.sizes.tolist()
    value = max(1, getattr(reader, "channels_read", reader.channels)) * reader.dtype.itemsize
    first = 0
    while first < len(sizes):
        height, width = sizes[first]
        fit = BLOCK_BYTES // (width * value)
        step = max(1, fit // piece) * piece
        most = _TOGETHER // (height * width * value) if step >= height else 1
        stop = first + 1
        while stop < min(len(sizes), first + most) and sizes[stop] == sizes[first]:
            stop += 1
        for top in range(0, height, step):
            yield _Part(first, stop, slice(top, min(top + step, height)), slice(0, width))
        first = stop


def _read_in_order(reader: ImageReader, parts: Iterator[_Part]) -> Iterator[np.ndarray]:
    """Parts in order, decoded by a thread of each core, two each in work or waiting."""
    threads = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(part.read, reader) for part in islice(parts, 2 * threads))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(part.read, reader) for part in islice(parts, 1))
        finally:
            pool.shutdown(cancel_futures=True)
