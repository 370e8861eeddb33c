"""Tiles: the windows of patch origins within one image that are cut together.

A small image is one tile; larger ones are cut into squares of `side` × `side` windows, which
overlap by the patch less its stride: memory follows the tile, never the image or their number.
Tiles are numbered image by image, in reading order within each. Where the border is reflected they
are tiles of the extended image, of which what is read is mirrored as it is needed.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from storage.errors import InputError
from storage.patch_spec import PatchSpec

WHOLE_BYTES = 32 << 20  # of an image in work; where one takes more, all are cut into tiles
TILE_BYTES = 16 << 20
_SUMS = 24  # three arrays of sums of up to 8 bytes, for each pixel value


@dataclass(frozen=True)
class Tile:
    """Windows of one image, and the pixels that they lie on.

    Attributes:
        image: its number in the source.
        rows, cols: of pixels of the extended image.
    """

    image: int
    rows: slice
    cols: slice


def working_bytes(size: tuple[int, int], spec: PatchSpec, channels: int, itemsize: int) -> int:
    """Pixels, sums, and all patches of so many rows and columns of an extended image, in bytes."""
    patches = int(windows_of(np.array([size]), spec.within).prod()) * spec.dim(channels)
    return math.prod(size) * channels * (itemsize + _SUMS) + patches * itemsize


def tile_side(sizes: np.ndarray, spec: PatchSpec, channels: int, itemsize: int) -> int | None:
    """Windows of a tile each way, a power of two; None where every image is one tile.

    Args:
        sizes: (n, 2) rows and columns of the images.
        spec: how they are cut.
        channels: values of a pixel.
        itemsize: bytes of a value.
    """
    whole = TileGrid(sizes, spec, None).largest
    if working_bytes(whole, spec, channels, itemsize) <= WHOLE_BYTES:
        return None
    side = 1
    while True:
        size = TileGrid(sizes, spec, 2 * side).largest
        if working_bytes(size, spec, channels, itemsize) > TILE_BYTES:
            return side
        side *= 2


def windows_of(sizes: np.ndarray, spec: PatchSpec) -> np.ndarray:
    """Windows down and across of images of these sizes, (n, 2) int64; 0 where none fits."""
    patch = np.array((spec.rows, spec.cols))
    beyond = np.subtract(spec.extended(0, 0), patch)  # of the extended images
    return np.where(sizes < patch, 0, (sizes + beyond) // spec.stride + 1)


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a source.

    Attributes:
        sizes: (n, 2) int64, rows and columns of each image.
        spec: how they are cut.
        side: windows of a tile each way; None: each image is one tile.
    """

    sizes: np.ndarray
    spec: PatchSpec
    side: int | None

    def __len__(self) -> int:
        return len(self.sizes) * self._each if self._each else int(self._ends[-1])

    @property
    def windows(self) -> int:
        """All windows of all images."""
        each = windows_of(self._distinct, self.spec).prod(axis=1)
        return int(each.sum()) * (len(self.sizes) if self._uniform else 1)

    @cached_property
    def one_each(self) -> bool:
        """Whether tile i is image i."""
        return self._each == 1 or bool((self._grids.prod(axis=1) == 1).all())

    @property
    def largest(self) -> tuple[int, int]:
        """Rows and columns of pixels in a tile, at most, of the extended images."""
        if self.side is not None:
            reach = (self.side - 1) * self.spec.stride
            return reach + self.spec.rows, reach + self.spec.cols
        rows, cols = self._distinct[np.argmax(self._distinct.prod(axis=1))].tolist()
        return self.spec.extended(rows, cols)

    @cached_property
    def too_small(self) -> int:
        """Images that no patch fits into."""
        small = int((windows_of(self._distinct, self.spec).min(axis=1) == 0).sum())
        return small * (len(self.sizes) if self._uniform else 1)

    def check_fits(self) -> None:
        """Raise InputError where no patch fits into any image."""
        patch, largest = self.spec, self._distinct.max(axis=0).tolist()
        patch.grid(*largest)
        if self.too_small == len(self.sizes):  # of several shapes
            raise InputError(
                f"patch {patch.rows}x{patch.cols} is larger than each of the {len(self.sizes)}"
                " images, down or across: use a smaller one"
            )

    @cached_property
    def _uniform(self) -> bool:
        return self.sizes.strides[0] == 0 or bool((self.sizes == self.sizes[0]).all())

    @property
    def _distinct(self) -> np.ndarray:
        """Sizes of the images, of those of one size only one."""
        return self.sizes[:1] if self._uniform else self.sizes

    @cached_property
    def _each(self) -> int:
        """Tiles of every image, where all have one size; else 0."""
        return int(self._grids[0].prod()) if self._uniform else 0

    @cached_property
    def _grids(self) -> np.ndarray:
        """Tiles down and across of each image, of those of one size only of one."""
        windows = windows_of(self._distinct, self.spec)
        if self.side is None:
            return np.repeat((windows.min(axis=1, keepdims=True) > 0).astype(np.int64), 2, axis=1)
        tiles = -(-windows // self.side)
        return np.where(tiles.min(axis=1, keepdims=True) > 0, tiles, 0)

    @cached_property
    def _ends(self) -> np.ndarray:
        """Tiles of all images up to each, it included."""
        return np.cumsum(self._grids.prod(axis=1))

    def images_of(self, tiles: np.ndarray) -> np.ndarray:
        """The image of each tile, (m,) int64."""
        if self._each:
            return tiles if self._each == 1 else tiles // self._each
        return np.searchsorted(self._ends, tiles, side="right")

    def of_image(self, image: int) -> tuple[int, int, int]:
        """The first tile of an image, and its tiles down and across."""
        if self._uniform:
            down, across = self._grids[0].tolist()
            return image * self._each, down, across
        down, across = self._grids[image].tolist()
        return int(self._ends[image]) - down * across, down, across

    def locate(self, tile: int) -> Tile:
        """Where a tile lies."""
        image = int(self.images_of(np.array([tile]))[0])
        if self.side is None:
            height, width = self.spec.extended(*self.sizes[image].tolist())
            return Tile(image, slice(0, height), slice(0, width))
        first, _, width = self.of_image(image)
        down, across = divmod(tile - first, width)
        return Tile(image, self._pixels(down, image, 0), self._pixels(across, image, 1))

    def _pixels(self, place: int, image: int, axis: int) -> slice:
        """Pixels of the windows of a tile along an axis."""
        assert self.side is not None  # by `locate`
        spec, patch = self.spec, (self.spec.rows, self.spec.cols)[axis]
        first = place * self.side
        count = int(windows_of(self.sizes[image], spec)[axis])
        last = min(first + self.side, count) - 1
        return slice(first * spec.stride, last * spec.stride + patch)

    def batches(self, tiles: np.ndarray, most: int) -> Iterator[np.ndarray]:
        """Tiles in runs that can be read together: whole images of one size, at most so many."""
        if self.side is not None:
            most = 1
        ends = np.array([len(tiles)])
        if self.side is None and not self._uniform:
            sizes = self.sizes[self.images_of(tiles)]
            changes = np.flatnonzero((sizes[1:] != sizes[:-1]).any(axis=1)) + 1
            ends = np.append(changes, len(tiles))
        first = 0
        for end in ends.tolist():
            for start in range(first, end, most):
                yield tiles[start : min(start + most, end)]
            first = end


def extended(images: np.ndarray, spec: PatchSpec) -> np.ndarray:
    """Images, (n, rows, columns[, channels]), with the border that they are cut with.

    Raises: InputError for images smaller than a patch.
    """
    spec.grid(*images.shape[1:3])
    if spec.border == "valid":
        return images
    sizes = spec.rows, spec.cols
    margins = [(n, size - 1 - n) for n, size in zip(spec.before, sizes, strict=True)]
    return np.pad(images, [(0, 0), *margins, *[(0, 0)] * (images.ndim - 3)], mode="reflect")


def read_extended(
    read: Callable[[slice, slice], np.ndarray],
    size: tuple[int, int],
    rows: slice,
    cols: slice,
    spec: PatchSpec,
) -> np.ndarray:
    """A window of an extended image, (rows, columns[, channels]).

    Args:
        read: gives the pixels of a window of the image itself.
        size: rows and columns of the image, no smaller than a patch.
        rows: of the extended image.
        cols: of the same.
        spec: how patches are cut.
    """
    axes = list(zip((rows, cols), spec.before, size, strict=True))
    if all(before <= part.start and part.stop <= before + n for part, before, n in axes):
        return read(*(slice(part.start - start, part.stop - start) for part, start, _ in axes))
    places = [mirrored(part, before, length) for part, before, length in axes]
    found = read(*(slice(int(along.min()), int(along.max()) + 1) for along in places))
    down, across = (along - along.min() for along in places)
    return found[down[:, np.newaxis], across]


def mirrored(part: slice, before: int, length: int) -> np.ndarray:
    """The pixel of an axis that stands at each place of a part of the extended axis, int64."""
    places = np.abs(np.arange(part.start, part.stop) - before)
    return np.minimum(places, 2 * (length - 1) - places)
