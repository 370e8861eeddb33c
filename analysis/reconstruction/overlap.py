"""Blocks of images rebuilt from one dictionary, and how large they may be under a cap.

Each kept patch becomes its nearest centroid; a pixel is the mean over the kept patches that lie on
it, and black where none does. Labels are found on the CPU, as everywhere in this folder: they are
float64's there, so that a report has the same bytes on every machine, and no drivers of a GPU count
towards its cap.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from analysis.reconstruction.parts import Part, widest
from analysis.reconstruction.patch_means import PLACED_WINDOWS, NearestPatches, OverlapMean
from pipeline import NearestCentroids, Preprocessing, check_budget, fits
from storage import PatchSpec
from storage.images.pixel_range import PixelRange
from storage.tiles import extended

BLOCK_VALUES = 1 << 19  # windows or pixel values of images in work together: more gains nothing
WHOLE_VALUES = 1 << 20  # of an image; larger ones, and those of several sizes, go by parts
PART_BYTES = 64 << 20  # of patches of a part, as long as it is larger than a patch


@dataclass(frozen=True)
class RebuiltBlock:
    """Some images, or a part of one, rebuilt.

    Attributes:
        images: (n, height, width[, channels]) float64, levels; black where no kept patch lies.
        kept: (n, windows down, windows across) bool; of a part those that begin in it, or have
            their centres there where the border is reflected.
        patches: (m, d) of the images' dtype, the kept ones, image by image in reading order.
        labels: (m,) int64, the centroid of each.
        cover: (n, height, width) int32, how many kept patches lie on each pixel.
        missing: (n, height, width) bool, which pixels hold no data; None: all do.
        rows, cols: where the pixels lie in their images.
    """

    images: np.ndarray
    kept: np.ndarray
    patches: np.ndarray
    labels: np.ndarray
    cover: np.ndarray
    missing: np.ndarray | None = None
    rows: slice = field(default_factory=lambda: slice(None))
    cols: slice = field(default_factory=lambda: slice(None))

    def squared_errors(self, images: np.ndarray) -> np.ndarray:
        """Squared errors against the images, means over channels, (n, height, width) float64.

        Zero where pixels hold no data.
        """
        errors = images - self.images
        np.square(errors, out=errors)
        if errors.ndim == 4:
            errors = errors.mean(axis=3)
        if self.missing is not None:
            errors[self.missing] = 0
        return errors

    def cropped(self, rows: slice, cols: slice) -> "RebuiltBlock":
        """Some of the pixels; the patches are all that there were."""
        own = slice(None), rows, cols
        missing = None if self.missing is None else self.missing[own]
        return replace(self, images=self.images[own], cover=self.cover[own], missing=missing)

    def mean(self, errors: np.ndarray) -> np.ndarray:
        """Means of `squared_errors` over the pixels that hold data, (n,); NaN where none does."""
        if self.missing is None:
            return np.asarray(errors.mean(axis=(1, 2)))
        with np.errstate(invalid="ignore"):
            return np.asarray(errors.sum(axis=(1, 2)) / (~self.missing).sum(axis=(1, 2)))


class Rebuilder:
    """Rebuilds images from one dictionary.

    Args:
        centroids: (k, *patch_shape) float32.
        spec: how patches are cut, of any stride.
        dtype: of the images.
        levels: what their values mean; None: as usual for the type.
        preprocessing: of patches before they meet the centroids; rebuilt patches keep their own
            brightness and contrast then. None: they meet as they are.

    Raises:
        InputError: images of another type than pixels have.
    """

    def __init__(
        self,
        centroids: np.ndarray,
        spec: PatchSpec,
        dtype: np.dtype,
        levels: PixelRange | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self.spec, self.channels = spec, centroids.shape[3:]
        self._centroids = centroids.reshape(len(centroids), -1)
        self._levels = levels or PixelRange.of_type(dtype)
        self.preprocessing = preprocessing
        self._patches = NearestPatches(
            centroids, self.spec.within, dtype, self._levels, preprocessing
        )
        mean = None
        if preprocessing is not None:
            centroids, mean = preprocessing.placed(centroids)
        self._mean = OverlapMean(centroids, spec, self._levels.black, mean)

    def rebuild(self, images: np.ndarray) -> RebuiltBlock:
        """Rebuild images, (n, height, width[, channels]), with channels as the centroids have.

        Raises:
            InputError: images smaller than a patch, and floats below black or above white.
        """
        found = self._rebuild(extended(images, self.spec))
        rows, cols = (
            slice(before, before + length)
            for before, length in zip(self.spec.before, images.shape[1:3], strict=True)
        )
        return found.cropped(rows, cols)

    def _rebuild(self, images: np.ndarray) -> RebuiltBlock:
        """The same of images that have been extended."""
        kept, patches, labels = self._patches.find(images)
        chosen = np.full(kept.shape, self._mean.none, np.intp)
        chosen[kept] = labels
        amplitudes = None
        if self.preprocessing is not None:
            amplitudes = np.zeros((*kept.shape, 3))
            amplitudes[kept] = self.preprocessing.amplitudes(patches, self._centroids, labels)
        rebuilt, cover = self._mean.place(chosen, images.shape[1:3], amplitudes)
        missing = self._levels.nodata_pixels(images)
        return RebuiltBlock(rebuilt, kept, patches, labels, cover, missing)

    def rebuild_part(self, pixels: np.ndarray, part: Part) -> RebuiltBlock:
        """Rebuild a part of an image.

        pixels: what is read of the extended image for it, (rows, columns[, channels]).
        """
        whole = self._rebuild(pixels[np.newaxis])
        windows = slice(None), part.rows.windows, part.cols.windows
        mine = np.zeros_like(whole.kept)
        mine[windows] = True
        chosen = mine[whole.kept]
        return replace(
            whole.cropped(part.rows.own, part.cols.own),
            kept=whole.kept[windows],
            patches=whole.patches[chosen],
            labels=whole.labels[chosen],
            rows=part.rows.pixels,
            cols=part.cols.pixels,
        )

    def leave_black(self, images: np.ndarray) -> RebuiltBlock:
        """Images, (n, height, width[, channels]), that no patch fits into."""
        n, dim = len(images), self.spec.dim(math.prod(self.channels))
        return RebuiltBlock(
            np.full(images.shape, self._levels.black, np.float64),
            np.zeros((n, 0, 0), bool),
            np.empty((0, dim), images.dtype),
            np.empty(0, np.int64),
            np.zeros(images.shape[:3], np.int32),
            self._levels.nodata_pixels(images),
        )


def block_images(shape: tuple[int, ...], spec: PatchSpec) -> int:
    """How many images of a shape, (height, width[, channels]), are best rebuilt together."""
    return max(1, BLOCK_VALUES // max(math.prod(spec.grid(*shape[:2])), math.prod(shape)))


def images_at_once(
    shape: tuple[int, ...],
    dtype: np.dtype,
    spec: PatchSpec,
    k: int,
    memory: int,
    *,
    chunk: int = 1,
    preprocessed: bool = False,
) -> int:
    """How many images to rebuild together, so that it stays within a cap.

    Args:
        shape: of one image, (height, width[, channels]).
        dtype: of its pixels.
        spec: how patches are cut.
        k: size of the dictionary.
        memory: bytes, of the whole process.
        chunk: images that are read at once, whatever is asked for.
        preprocessed: whether patches are, before they meet the centroids.

    Raises:
        MemoryBudgetError: even one does not fit.
    """
    read, images = chunk * math.prod(shape) * dtype.itemsize, block_images(shape, spec)
    whole = (*spec.extended(*shape[:2]), *shape[2:])
    while True:
        needed = read + _working_bytes(images, whole, dtype, spec, k, preprocessed)
        if images == 1 or fits(needed, memory):
            break
        images = (images + 1) // 2
    check_budget(f"rebuilding images from K = {k}", needed, memory)
    return images


def part_side(shape: tuple[int, ...], dtype: np.dtype, spec: PatchSpec) -> int:
    """Rows and columns of the parts that large images are best rebuilt in, a power of two."""
    channels = math.prod(shape[2:])
    side = 1 << (math.isqrt(BLOCK_VALUES // channels) or 1).bit_length() - 1
    while side > max(spec.rows, spec.cols):
        windows = math.prod(spec.within.grid(*widest(side, (shape[0], shape[1]), spec)))
        if windows * spec.dim(channels) * dtype.itemsize <= PART_BYTES:
            break
        side //= 2
    return side


def part_within(
    shape: tuple[int, ...],
    dtype: np.dtype,
    spec: PatchSpec,
    k: int,
    memory: int,
    held: int,
    *,
    preprocessed: bool = False,
) -> int:
    """The side of `part_side`, or less, so that it stays within a cap; see `images_at_once`.

    held: bytes of images, or of what is decoded to read them, beside the part.
    """
    side = part_side(shape, dtype, spec)
    while True:
        read = (*widest(side, (shape[0], shape[1]), spec), *shape[2:])
        needed = held + _working_bytes(1, read, dtype, spec, k, preprocessed)
        if side == 1 or fits(needed, memory):
            break
        side //= 2
    check_budget(f"rebuilding images from K = {k}", needed, memory)
    return side


def _working_bytes(
    images: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
    spec: PatchSpec,
    k: int,
    preprocessed: bool,
) -> int:
    """What images in work, (rows, columns[, channels]) each when extended, take at most."""
    height, width, *channels = shape
    windows, dim = math.prod(spec.within.grid(height, width)), spec.dim(math.prod(channels))
    # Sums to tell which are kept, or the rebuilt image and its errors; patches twice, as they are
    # put into the engine's order; of each window its mark, its label in three forms.
    one = math.prod(shape) * (dtype.itemsize + 4 * 8) + height * width * 16
    met = Preprocessing.dtype if preprocessed else dtype
    one += windows * (2 * dim * met.itemsize + 4 * 8)
    if preprocessed:  # the pixels stay, and amplitudes are found, and placed
        one += windows * (dim * dtype.itemsize + 3 * 3 * 8)
    placed = 8 * math.prod(channels) * max(PLACED_WINDOWS, windows)
    dictionary = (k + 1) * dim * 3 * 8
    engine = NearestCentroids.projected_bytes(k, dim, images * windows, dtype=met, device="cpu")
    return images * one + placed + dictionary + engine
