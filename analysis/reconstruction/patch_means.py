"""From pixels to the nearest centroids of their patches, and back to pixels by their mean.

The two halves of a reconstruction; what lies between them are the codes of the images.
"""

import math

import numpy as np

from pipeline import NearestCentroids, Preprocessing, cut_patches, keep_mask
from storage import InputError, PatchSpec
from storage.images.pixel_range import PIXEL_DTYPES, PixelRange

PLACED_WINDOWS = 1 << 15  # whose centroids are added up at a time, in a core's cache


class NearestPatches:
    """Finds which patches of images are kept, and the centroid nearest to each.

    Args:
        centroids: (k, *patch_shape) float32.
        spec: how patches are cut from images that have been extended.
        dtype: of the images.
        levels: what their values mean.
        preprocessing: of patches before they meet the centroids; None: they meet as they are.

    Raises:
        InputError: images of another type than pixels have.
    """

    def __init__(
        self,
        centroids: np.ndarray,
        spec: PatchSpec,
        dtype: np.dtype,
        levels: PixelRange,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        if np.dtype(dtype).name not in PIXEL_DTYPES:
            raise InputError(
                f"the image holds {np.dtype(dtype).name} where {', '.join(PIXEL_DTYPES)} are"
                " expected: give it in the dtype of the data set"
            )
        self._spec, self._levels = spec, levels
        self._preprocessing = preprocessing
        flat = centroids.reshape(len(centroids), -1)
        met = dtype if preprocessing is None else preprocessing.dtype
        self._nearest = NearestCentroids(flat, met, device="cpu")

    def cut(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which windows are kept, (n, down, across) bool, and their patches, (m, d).

        images: (n, rows, columns[, channels]), extended.

        Raises:
            InputError: images smaller than a patch, and floats below black or above white.
        """
        self._levels.check(images)
        kept = keep_mask(images, self._spec, self._levels)
        return kept, cut_patches(images, self._spec, self._levels)

    def label(self, patches: np.ndarray) -> np.ndarray:
        """The centroid nearest to each patch, (m,) int64; one thread at a time."""
        return self.label_rows(self.rows(patches))

    def label_rows(self, rows: np.ndarray) -> np.ndarray:
        """The same of patches as `rows` gives them."""
        return self._nearest.label(rows)

    def rows(self, patches: np.ndarray) -> np.ndarray:
        """Patches, (m, d), as they meet the centroids, preprocessed or as they are."""
        return patches if self._preprocessing is None else self._preprocessing.rows(patches)

    def find(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `cut`, and the centroid of each patch."""
        kept, patches = self.cut(images)
        return kept, patches, self.label(patches)


class OverlapMean:
    """Puts centroids in the place of patches; a pixel is the mean over those that lie on it.

    Args:
        centroids: (k, *patch_shape) float32.
        spec: how patches are cut.
        black: level of the pixels on which none lies.
        mean: added to centroids by the second of three amplitudes, (*patch_shape); None: nothing.

    Attributes:
        none: the number that stands for no centroid.
    """

    def __init__(
        self, centroids: np.ndarray, spec: PatchSpec, black: float, mean: np.ndarray | None = None
    ) -> None:
        self._spec, self._black, self._channels = spec, black, centroids.shape[3:]
        # Last a centroid of zeros, for windows that are not kept; for each pixel of a patch all
        # centroids side by side.
        wide = np.concatenate([centroids, np.zeros_like(centroids[:1])]).astype(np.float64)
        self._columns = np.ascontiguousarray(np.moveaxis(wide, 0, 2))
        self.none, self._mean = len(centroids), mean

    def place(
        self, chosen: np.ndarray, size: tuple[int, ...], amplitudes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images of centroids, and how many lie on each pixel.

        Args:
            chosen: (n, windows down, windows across) intp, a centroid of each window, or `none`.
            size: rows and columns of the extended images.
            amplitudes: (n, windows down, windows across, 3) float64, of each window what is added,
                and the factors of the mean and of its centroid; None: 0 and 1, there is no mean.

        Returns:
            (n, rows, columns[, channels]) float64 and (n, rows, columns) int32.
        """
        rebuilt = np.zeros((len(chosen), *size, *self._channels))
        cover = np.zeros((len(chosen), *size), np.int32)
        step = max(1, PLACED_WINDOWS // math.prod(chosen.shape[1:]))
        for first in range(0, len(chosen), step):
            part = slice(first, first + step)
            own = None if amplitudes is None else amplitudes[part]
            self._add(chosen[part], rebuilt[part], cover[part], own)
        if self._black:
            rebuilt[cover == 0] = self._black
        return rebuilt, cover

    def _add(
        self,
        chosen: np.ndarray,
        rebuilt: np.ndarray,
        cover: np.ndarray,
        amplitudes: np.ndarray | None,
    ) -> None:
        """Means of the chosen centroids into `rebuilt`, and their number into `cover`."""
        stride, (down, across) = self._spec.stride, chosen.shape[1:]
        kept = chosen != self.none
        values = np.empty((*chosen.shape, *self._channels))
        if amplitudes is not None:  # the same for all channels
            shape = (*chosen.shape, *(1,) * len(self._channels))
            offset, contrast, gain = (amplitudes[..., i].reshape(shape) for i in range(3))
        for row in range(self._spec.rows):
            rows = slice(row, row + (down - 1) * stride + 1, stride)
            for col in range(self._spec.cols):
                cols = slice(col, col + (across - 1) * stride + 1, stride)
                # "clip" alone writes to `values` without a copy; no index is out of range
                np.take(self._columns[row, col], chosen, axis=0, out=values, mode="clip")
                if amplitudes is not None:
                    values *= gain
                    values += offset
                    if self._mean is not None:
                        values += contrast * self._mean[row, col]
                rebuilt[:, rows, cols] += values
                cover[:, rows, cols] += kept
        rebuilt /= np.maximum(cover, 1).reshape(*cover.shape, *(1,) * len(self._channels))
