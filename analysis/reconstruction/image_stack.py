"""Images from wherever they lie, read in blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from storage import ImageSource, InputError
from storage.images.pixel_range import PIXEL_DTYPES
from storage.images.writer import IMAGE_AXES


@dataclass(frozen=True)
class ImageStack:
    """Images of one size, none of which is read yet.

    Attributes:
        images: anything with a shape, a dtype and slices along its first axis, or an ImageSource.
        shape: (n, height, width[, channels]).
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
            if not images.uniform:
                raise InputError(
                    f"{images.where} holds images of several sizes: give one at a time"
                )
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

    def blocks(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """Number of the first image, and images, at most `size` at a time, in order.

        Memory: a block, or a chunk where that is larger: chunks are read whole and once.
        """
        step = max(1, size // self.chunk) * self.chunk
        for start in range(0, self.shape[0], step):
            whole = self._read(start, start + step)
            for first in range(0, len(whole), size):
                yield start + first, whole[first : first + size]

    def _read(self, start: int, stop: int) -> np.ndarray:
        if isinstance(self.images, ImageSource):
            return self.images.read(slice(start, stop))
        return np.asarray(self.images[start:stop]).astype(self.dtype, copy=False)


def in_order(images: xarray.DataArray) -> xarray.DataArray:
    """The array with its axes in the order of IMAGE_AXES, where they have these names."""
    named = [axis for axis in IMAGE_AXES if axis in images.dims]
    return images.transpose(*named) if len(named) == images.ndim else images


def _native_chunk(images: Any) -> int:
    """Images in a chunk along the first axis; 1 where there are none."""
    chunks = getattr(images, "chunks", None)  # zarr: (n, …); dask, xarray: ((n, n, …), …)
    if not chunks and isinstance(images, xarray.DataArray):
        chunks = images.encoding.get("chunks")  # of a store that is read without dask
    if not chunks:
        return 1
    size = max(chunks[0]) if isinstance(chunks[0], tuple) else chunks[0]
    return max(1, min(int(size), images.shape[0]))
