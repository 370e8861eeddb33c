"""Images from wherever they lie, read in blocks, or part by part."""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray

from analysis.measures.pixel_scale import PixelUnit
from analysis.reconstruction.overlap import (
    WHOLE_VALUES,
    Rebuilder,
    RebuiltBlock,
    block_images,
    images_at_once,
    part_side,
    part_within,
)
from analysis.reconstruction.parts import Part, parts_of
from storage import ImageSource, InputError, MemoryBudgetError, PatchSpec
from storage.images.pixel_range import PIXEL_DTYPES
from storage.images.writer import IMAGE_AXES
from storage.tiles import read_extended

HELD_BYTES = 64 << 20  # of large images that are read whole, where parts would be read in pieces


@dataclass(frozen=True)
class Step:
    """What is rebuilt together.

    Attributes:
        images: so many.
        side: rows and columns of the parts that each is rebuilt in; None: whole images.
    """

    images: int
    side: int | None = None


@dataclass(frozen=True)
class ImageStack:
    """Images, none of which is read yet.

    Attributes:
        images: anything with a shape, a dtype and slices along its first axis, or an ImageSource.
        shape: (n, height, width[, channels]), the most of each.
        dtype: in native byte order.
        chunk: images that are read at once, whatever is asked for.
    """

    images: Any
    shape: tuple[int, ...]
    dtype: np.dtype
    chunk: int

    @classmethod
    def of(cls, images: Any, ndim: int) -> "ImageStack":
        """The stack of an ImageSource, or of an array of numpy, xarray, dask or zarr.

        Args:
            images: a DataArray whose axes have the names of IMAGE_AXES may have them in any order.
            ndim: 3 for (image, row, col), 4 with channels.

        Raises:
            InputError: another number of axes, no images, and values that are not pixels.
        """
        if isinstance(images, ImageSource):
            shape = (len(images), *images.image_shape)
        else:
            shape = getattr(images, "shape", ())
        if len(shape) != ndim or 0 in shape:
            raise InputError(
                f"images of shape {tuple(shape)} do not fit the dictionary: give"
                f" ({', '.join(IMAGE_AXES[:ndim])}), and at least one image"
            )
        dtype = np.dtype(images.dtype)
        if dtype.name not in PIXEL_DTYPES:
            raise InputError(
                f"the images hold {dtype.name} where {', '.join(PIXEL_DTYPES)} are expected: give"
                " them in the dtype of the data set"
            )
        if isinstance(images, xarray.DataArray):
            images = in_order(images)
            shape = images.shape
        return cls(images, tuple(shape), dtype.newbyteorder("="), _native_chunk(images))

    @property
    def sizes(self) -> np.ndarray:
        """Rows and columns of each image, (n, 2) int64."""
        if isinstance(self.images, ImageSource):
            return self.images.sizes
        return np.broadcast_to(np.array(self.shape[1:3], np.int64), (self.shape[0], 2))

    def step(self, dtype: np.dtype, spec: PatchSpec) -> Step:
        """What is best rebuilt together: parts where an image is large, or where sizes differ.

        dtype: of the pixels as they meet the centroids.
        """
        shape = self.shape[1:]
        if self._large:
            return Step(1, part_side(shape, dtype, spec))
        return Step(block_images(shape, spec))

    def step_within(
        self, dtype: np.dtype, spec: PatchSpec, k: int, memory: int, *, preprocessed: bool
    ) -> Step:
        """The same as it stays within a cap in bytes on the memory of the process.

        preprocessed: see `images_at_once`.

        Raises:
            MemoryBudgetError: not even parts of one pixel do.
        """
        shape = self.shape[1:]
        if not self._large:
            with suppress(MemoryBudgetError):
                fit = partial(images_at_once, chunk=self.chunk, preprocessed=preprocessed)
                return Step(fit(shape, dtype, spec, k, memory))
        held = self.held_bytes
        side = part_within(shape, dtype, spec, k, memory, held, preprocessed=preprocessed)
        return Step(1, side)

    def amount(self, step: Step) -> tuple[int, str]:
        """What there is to rebuild: so many images, or pixels where these go by parts."""
        if step.side is None:
            return len(self.sizes), "images"
        return int(self.sizes.prod(axis=1).sum()), "pixels"

    @property
    def _large(self) -> bool:
        uniform = not isinstance(self.images, ImageSource) or self.images.uniform
        return not uniform or math.prod(self.shape[1:]) > WHOLE_VALUES

    @property
    def held_bytes(self) -> int:
        """Of what `parts` reads or decodes beside the part itself, at most."""
        if isinstance(self.images, ImageSource):
            return 2 * self.images.piece_bytes
        return self._read_together

    @property
    def _read_together(self) -> int:
        """Bytes of the images of a chunk where `parts` reads these whole, else 0."""
        if isinstance(self.images, ImageSource | np.ndarray):
            return 0
        pieces, lengths = _native_chunks(self.images)[1:3], self.shape[1:3]
        whole = all(piece >= length for piece, length in zip(pieces, lengths, strict=False))
        together = self.chunk * math.prod(self.shape[1:]) * self.dtype.itemsize
        return together if whole or together <= HELD_BYTES else 0

    def rebuilt(
        self, rebuilder: Rebuilder, unit: PixelUnit, step: Step
    ) -> Iterator[tuple[int, np.ndarray, RebuiltBlock]]:
        """Number of the first image, pixels in the dictionary's unit, and these rebuilt, in order.

        A part is (1, rows, columns[, channels]); those of one image come one after the other.
        """
        if step.side is None:
            for start, read in self._blocks(step.images):
                images = unit.brought(read)
                yield start, images, rebuilder.rebuild(images)
            return
        for index, part, read in self._parts(rebuilder.spec, step.side):
            pixels = unit.brought(read)
            if part is None:
                yield index, pixels[np.newaxis], rebuilder.leave_black(pixels[np.newaxis])
            else:
                own = pixels[np.newaxis, part.rows.own, part.cols.own]
                yield index, own, rebuilder.rebuild_part(pixels, part)

    def _blocks(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """Number of the first image, and images, at most `size` at a time.

        Memory: a block, or a chunk where that is larger: chunks are read whole and once.
        """
        step = max(1, size // self.chunk) * self.chunk
        for start in range(0, self.shape[0], step):
            whole = self.read(start, start + step)
            for first in range(0, len(whole), size):
                yield start + first, whole[first : first + size]

    def _parts(self, spec: PatchSpec, side: int) -> Iterator[tuple[int, Part | None, np.ndarray]]:
        """Number of an image, a part of it, and what that is to be read from, image by image.

        None in place of the part, and the image, where no patch fits into it.
        """
        held: np.ndarray | None = None
        read: Callable[[slice, slice], np.ndarray] | None
        for index, (height, width) in enumerate(self.sizes.tolist()):
            if self._read_together and index % self.chunk == 0:
                held = read = None  # before the next takes as much
                held = self.read(index, index + self.chunk)
            read = partial(self.window, index)
            if held is not None:
                read = partial(_cut, held[index % self.chunk])
            if height < spec.rows or width < spec.cols:
                yield index, None, read(slice(0, height), slice(0, width))
                continue
            for part in parts_of((height, width), spec, side):
                place = part.rows.read, part.cols.read
                yield index, part, read_extended(read, (height, width), *place, spec)

    def window(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        """A window of an image, (rows, columns[, channels])."""
        if isinstance(self.images, ImageSource):
            return self.images.reader.read(index, rows, cols)
        return np.asarray(self.images[index, rows, cols]).astype(self.dtype, copy=False)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Some whole images, of one size."""
        if isinstance(self.images, ImageSource):
            return self.images.read(slice(start, stop))
        return np.asarray(self.images[start:stop]).astype(self.dtype, copy=False)


def in_order(images: xarray.DataArray) -> xarray.DataArray:
    """The array with its axes in the order of IMAGE_AXES, where they have these names."""
    named = [axis for axis in IMAGE_AXES if axis in images.dims]
    return images.transpose(*named) if len(named) == images.ndim else images


def _cut(image: np.ndarray, rows: slice, cols: slice) -> np.ndarray:
    """A window of an image that is in memory."""
    return image[rows, cols]


def _native_chunk(images: Any) -> int:
    """Images in a chunk along the first axis; 1 where there are none."""
    chunks = _native_chunks(images)
    return max(1, min(chunks[0], images.shape[0])) if chunks else 1


def _native_chunks(images: Any) -> tuple[int, ...]:
    """Lengths of the largest chunks; none where there are none."""
    chunks = getattr(images, "chunks", None)  # zarr: (n, …); dask, xarray: ((n, n, …), …)
    if not chunks and isinstance(images, xarray.DataArray):
        chunks = images.encoding.get("chunks")  # of a store that is read without dask
    return tuple(int(max(one)) if isinstance(one, tuple) else int(one) for one in chunks or ())
