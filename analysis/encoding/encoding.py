"""Codes of images: at each position of a patch the number of its nearest centroid.

Codes are cut into chunks, whole images or a square of positions of a large one, each a pure
function of the pixels beneath it: chunks are made in any order, by any process.
"""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import xarray

from analysis.measures.codebook import preprocessing_of
from analysis.measures.pixel_scale import PixelUnit
from analysis.reconstruction.image_stack import ImageStack
from analysis.reconstruction.patch_means import NearestPatches
from analysis.reconstruction.reconstruct import check_fit, open_dictionary
from pipeline import NearestCentroids, Preprocessing
from storage import ImageSource, InputError, PatchSpec
from storage.codes.code_store import CODES, code_dtype, no_code
from storage.codes.code_writer import Coordinates
from storage.dictionary_store import dictionary_sum
from storage.tiles import extended, read_extended

CHUNK_CODES = 1 << 19  # of a chunk, at most
PATCH_BYTES = 32 << 20  # of patches in work at once
LEAST_POSITIONS = 1 << 12  # in work at once, under whatever cap

Place = tuple[slice, slice, slice]  # images, positions down and across
_LABELLING = threading.Lock()  # held while patches are labelled, by all cores


@dataclass(frozen=True, eq=False)
class Encoding:
    """Images of one size, and the dictionary that they are encoded by.

    Attributes:
        images: none of which is read yet.
        centroids: (k, *patch_shape) float32.
        spec: how patches are cut.
        unit: brings pixels to the unit that the dictionary knows.
        most: positions in work at once.
        chunk: codes in a chunk, at most.
        preprocessing: of patches before they meet the centroids; None: they meet as they are.
    """

    images: ImageStack
    centroids: np.ndarray
    spec: PatchSpec
    unit: PixelUnit
    most: int
    chunk: int
    preprocessing: Preprocessing | None = None

    name = CODES  # of what is made

    @classmethod
    def of(
        cls,
        images: Any,
        dictionary: xarray.DataTree | xarray.Dataset,
        *,
        spec: PatchSpec | dict[str, Any] | str | None = None,
        stride: int | None = None,
        white: float | None = None,
    ) -> "Encoding":
        """Arguments are those of `encode`; raises as it does."""
        centroids, geometry = open_dictionary(dictionary, spec, stride)
        stack = ImageStack.of(images, centroids.ndim)
        unit = PixelUnit.of(stack.dtype, dictionary, white)
        check_fit(stack.shape, centroids)
        if isinstance(images, ImageSource) and not images.uniform:
            raise InputError(
                f"the images of {images.where} have several sizes, which have no common grid of"
                " positions: encode those of one size at a time"
            )
        geometry.grid(*stack.shape[1:3])
        patch = geometry.dim(math.prod(stack.shape[3:])) * unit.dtype.itemsize
        most = max(LEAST_POSITIONS, min(CHUNK_CODES, PATCH_BYTES // patch))
        preprocessing = preprocessing_of(dictionary)
        return cls(stack, centroids, geometry, unit, most, CHUNK_CODES, preprocessing)

    @property
    def k(self) -> int:
        """Size of the dictionary."""
        return len(self.centroids)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, positions down and across."""
        return (self.images.shape[0], *self.spec.grid(*self.images.shape[1:3]))

    @property
    def chunks(self) -> tuple[int, int, int]:
        """Lengths of a chunk: whole images, or a square of a large one."""
        n, down, across = self.shape
        if down * across <= self.chunk:
            return min(n, self.chunk // (down * across)), down, across
        side = 1 << (self.chunk.bit_length() - 1) // 2
        return 1, min(side, down), min(side, across)

    @property
    def encoding(self) -> "Encoding":
        """Itself, as codes are made."""
        return self

    def smaller(self) -> "Encoding | None":
        """The same with half as many positions in work at once; None where these are few."""
        return replace(self, most=self.most // 2) if self.most > LEAST_POSITIONS else None

    @property
    def dtype(self) -> np.dtype:
        """Of the codes."""
        return code_dtype(self.k)

    @property
    def origins(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of the pixel at which the patch of each position begins, int64.

        Where the border is reflected some lie outside the image, below 0.
        """
        down, across = (
            np.arange(count) * self.spec.stride - before
            for count, before in zip(self.shape[1:], self.spec.before, strict=True)
        )
        return down, across

    @property
    def coordinates(self) -> Coordinates:
        """Of the codes: number of the image, row and column of the pixel at each position."""
        down, across = self.origins
        return {
            "image": ("image", np.arange(self.shape[0]), "image"),
            "row": ("row", down, "origin_row"),
            "col": ("col", across, "origin_col"),
        }

    @property
    def facts(self) -> dict[str, Any]:
        """What decoding needs beside the dictionary, as plain JSON."""
        height, width, *channels = self.images.shape[1:]
        return {
            "k": self.k,
            "dictionary": dictionary_sum(self.centroids),
            "spec": self.spec.to_dict(),
            "height": height,
            "width": width,
            "channels": channels[0] if channels else 0,
            "black": self.unit.levels.black,
            "no_code": no_code(self.dtype),
        }

    def made(self, place: tuple[slice, ...]) -> np.ndarray:
        """The codes of a place, of `dtype`; `no_code` where no patch is kept."""
        found = np.empty([part.stop - part.start for part in place], self.dtype)
        for own, kept, patches in self.patches(place):
            codes = np.full(kept.shape, no_code(self.dtype), self.dtype)
            codes[kept] = self.labels(patches)
            found[own] = codes
        return found

    def patches(self, place: tuple[slice, ...]) -> Iterator[tuple[Place, np.ndarray, np.ndarray]]:
        """Parts of a place, from its corner on, which positions are kept, their patches, (m, d)."""
        images, down, across = place
        for own, pixels in self._pixels((images, down, across)):
            yield own, *self.nearest.cut(self.unit.brought(pixels))

    def labels(self, patches: np.ndarray) -> np.ndarray:
        """The centroid nearest to each patch, (m,) int64."""
        return self.labels_of_rows(self.nearest.rows(patches))

    def labels_of_rows(self, rows: np.ndarray) -> np.ndarray:
        """The same of patches as they meet the centroids, see `NearestPatches.rows`."""
        with _LABELLING:
            return self.nearest.label_rows(rows)

    def _pixels(self, place: Place) -> Iterator[tuple[Place, np.ndarray]]:
        """Parts of a place that are worked on at once, from its corner on, and their pixels.

        Pixels are extended, (n, rows, columns[, channels]).
        """
        images, down, across = place
        height, width = down.stop - down.start, across.stop - across.start
        size, patch = self.images.shape[1:3], (self.spec.rows, self.spec.cols)
        if (height, width) == self.shape[1:] and height * width <= self.most:
            step = self.most // (height * width)
            for first in range(images.start, images.stop, step):
                read = self.images.read(first, min(first + step, images.stop))
                own = slice(first - images.start, first - images.start + len(read))
                yield (own, slice(0, height), slice(0, width)), extended(read, self.spec)
            return
        band = max(1, self.most // width)
        for image in range(images.start, images.stop):
            read_window = partial(self.images.window, image)
            for top in range(down.start, down.stop, band):
                rows = slice(top, min(top + band, down.stop))
                part = read_extended(
                    read_window,
                    (size[0], size[1]),
                    beneath(rows, self.spec.stride, patch[0]),
                    beneath(across, self.spec.stride, patch[1]),
                    self.spec,
                )
                first = image - images.start
                own_rows = slice(rows.start - down.start, rows.stop - down.start)
                yield (slice(first, first + 1), own_rows, slice(0, width)), part[np.newaxis]

    @cached_property
    def nearest(self) -> NearestPatches:
        """What cuts patches and labels them."""
        return NearestPatches(
            self.centroids,
            self.spec.within,
            self.unit.dtype,
            self.unit.levels,
            self.preprocessing,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "nearest"}

    @property
    def engine_bytes(self) -> int:
        """What labelling takes of each process, in bytes, at most."""
        dim, dtype = self.centroids[0].size, self._met
        return NearestCentroids.projected_bytes(self.k, dim, self.most, dtype=dtype, device="cpu")

    @property
    def _met(self) -> np.dtype:
        """Type of patches as they meet the centroids."""
        return self.unit.dtype if self.preprocessing is None else self.preprocessing.dtype

    @property
    def task_bytes(self) -> int:
        """What one chunk in work takes beside the engine, in bytes, at most."""
        patch, channels = (self.spec.rows, self.spec.cols), math.prod(self.images.shape[3:])
        at_once = [min(self.most, length) for length in self.shape[1:]]
        if math.prod(self.shape[1:]) > self.most:
            at_once = [max(1, self.most // self.chunks[2]), self.chunks[2]]
        area = math.prod(
            beneath(slice(0, count), self.spec.stride, size).stop
            for count, size in zip(at_once, patch, strict=True)
        )
        images = max(1, self.most // math.prod(self.shape[1:]))
        # The pixels, extended and in another unit; sums to tell which are kept.
        pixels = images * area * channels * (3 * self.unit.dtype.itemsize + 24)
        # Patches twice, as they are put into the engine's order; a mark and a label of each.
        row = self.unit.dtype.itemsize + self._met.itemsize
        patches = self.most * (self.centroids[0].size * row + 32)
        return pixels + patches + 3 * math.prod(self.chunks) * self.dtype.itemsize


def beneath(positions: slice, stride: int, patch: int) -> slice:
    """Pixels of the extended axis on which the patches of some positions lie."""
    return slice(positions.start * stride, (positions.stop - 1) * stride + patch)
