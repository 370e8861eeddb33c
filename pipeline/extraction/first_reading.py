"""The first reading: what is learned of each tile while all pixels go by for the fingerprint."""

import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np

from pipeline.extraction.patches import count_patches
from pipeline.extraction.tasks import TiledImages
from pipeline.runtime.progress import Progress
from storage.images.pixel_range import PixelRange
from storage.tiles import Tile, extended, mirrored


class FirstReading:
    """Checksums and numbers of kept patches of all tiles.

    Large images come by some rows at a time. The last of them stay until the windows that reach
    into the next ones are counted.

    Attributes:
        sums: (tiles,) uint32, CRC-32 of each tile's pixels.
        counts: (tiles,) int64, kept patches; None where the rule goes by the range of the pixels,
            which is known only when all have gone by.
    """

    def __init__(self, tiled: TiledImages, threads: int, progress: Progress) -> None:
        self._tiled, self._threads, self._progress = tiled, threads, progress
        self._levels = _levels_in_advance(tiled)
        self.sums = np.zeros(len(tiled.grid), np.uint32)
        self.counts = None if self._levels is None else np.zeros(len(tiled.grid), np.int64)
        self._pool = ThreadPoolExecutor(threads)
        self._pending = deque[tuple[np.ndarray, Future[np.ndarray]]]()
        self._carried = self._mirror = np.empty(0)  # rows that are still needed, of either image
        self._bytes = self._told = 0

    @classmethod
    def of(cls, tiled: TiledImages, threads: int, progress: Progress) -> Self:
        """Read all pixels once, which fixes the source's fingerprint; counting takes threads."""
        source = tiled.source
        reading = cls(tiled, threads, progress)
        progress.start(f"Counting {source.split}", -(-source.nbytes // 1_000_000), "MB")
        try:
            source.examine(reading._see)
            while reading._pending:
                reading._add_oldest()
        finally:
            reading._pool.shutdown(cancel_futures=True)
        progress.finish()
        return reading

    def _see(self, first: int, top: int, pixels: np.ndarray) -> None:
        """Take a block of images; its arguments are as `blocks_in_order` yields them."""
        grid = self._tiled.grid
        if pixels.shape[1] == grid.sizes[first, 0] and grid.side is None:
            self._see_whole(first, pixels)
        else:
            for place, image in enumerate(pixels):
                if grid.of_image(first + place)[1]:
                    self._see_rows(first + place, *self._extended(first + place, top, image))
        self._bytes += pixels.nbytes
        self._progress.advance(self._bytes // 1_000_000 - self._told)
        self._told = self._bytes // 1_000_000

    def _see_whole(self, first: int, pixels: np.ndarray) -> None:
        """Images of one size, each a tile, or none where no patch fits."""
        tile, down, across = self._tiled.grid.of_image(first)
        if not down * across:
            return
        step = self._tiled.tiles_at_once
        for start in range(0, len(pixels), step):
            part = extended(pixels[start : start + step], self._tiled.spec)
            tiles = np.arange(tile + start, tile + start + len(part))
            self.sums[tiles] = [zlib.crc32(image.data) for image in np.ascontiguousarray(part)]
            if self.counts is not None:
                self._count(tiles, part, self._tiled.allowed(tiles))

    def _extended(self, image: int, top: int, pixels: np.ndarray) -> tuple[int, np.ndarray]:
        """The rows of the extended image that are known with these, and the first of them."""
        spec = self._tiled.spec
        if spec.border == "valid":
            return top, pixels
        height, width = self._tiled.grid.sizes[image].tolist()
        rows, cols = spec.extended(height, width)
        above, bottom = spec.before[0], top + len(pixels)
        start = top + above if top > above else 0
        stop = rows if bottom == height else (bottom + above if bottom > above else 0)
        held = np.concatenate([self._mirror, pixels]) if top else pixels
        self._mirror = held[-spec.rows - above :].copy()
        down = mirrored(slice(start, stop), above, height) - bottom + len(held)
        across = mirrored(slice(0, cols), spec.before[1], width)
        return start, held[down[:, np.newaxis], across]

    def _see_rows(self, image: int, top: int, pixels: np.ndarray) -> None:
        """Some rows of one extended image; they come in order."""
        grid, spec = self._tiled.grid, self._tiled.spec
        first, down, across = grid.of_image(image)
        bottom = top + len(pixels)
        if not len(pixels):
            return
        reach = (grid.side or grid.sizes[image, 0]) * spec.stride
        least = max(0, top - spec.rows - spec.stride) // reach
        tiles = range(first + least * across, first + min(down, bottom // reach + 1) * across)
        places = [(tile, grid.locate(tile)) for tile in tiles]
        for tile, place in places:
            rows = slice(max(place.rows.start, top), min(place.rows.stop, bottom))
            if rows.start < rows.stop:
                part = np.ascontiguousarray(pixels[rows.start - top : rows.stop - top, place.cols])
                self.sums[tile] = zlib.crc32(part.data, int(self.sums[tile]))
        if self.counts is None:
            return
        held = np.concatenate([self._carried, pixels]) if top and len(self._carried) else pixels
        above = bottom - len(held)
        for tile, place in places:
            # Windows that end in these rows, and begin in the tile.
            begin = max(place.rows.start, _next_window(top, spec.rows, spec.stride))
            end = min(place.rows.stop, bottom)
            if end - begin >= spec.rows:
                rows = slice(begin - above, end - above)
                allowed = self._tiled.allowed_within([Tile(image, slice(begin, end), place.cols)])
                self._count(np.array([tile]), held[rows, place.cols][np.newaxis], allowed)
        keep = _next_window(bottom, spec.rows, spec.stride)
        self._carried = held[max(0, keep - above) :].copy()

    def _count(self, tiles: np.ndarray, pixels: np.ndarray, allowed: np.ndarray | None) -> None:
        """Count in another thread; some at a time, for they keep their pixels."""
        found = self._pool.submit(
            count_patches, pixels, self._tiled.spec.within, self._levels, allowed
        )
        self._pending.append((tiles, found))
        if len(self._pending) > self._threads:
            self._add_oldest()

    def _add_oldest(self) -> None:
        assert self.counts is not None  # else nothing is pending
        tiles, found = self._pending.popleft()
        self.counts[tiles] += found.result()


def _next_window(rows: int, patch: int, stride: int) -> int:
    """First row of the first window that needs more than so many rows."""
    return max(0, -(-(rows - patch + 1) // stride) * stride)


def _levels_in_advance(tiled: TiledImages) -> PixelRange | None:
    """What counting needs to know of the pixels' range, if that is known before they are read."""
    source, spec = tiled.source, tiled.spec
    if (known := source.levels_known()) is not None:
        return known
    if spec.rule[0] == "all" or (source.dtype.kind == "u" and not spec.rule[1]):
        whole = PixelRange.of_type(source.dtype)
        return PixelRange(whole.black, whole.white, source.options.nodata)
    return None
