"""`distance_map`: how badly a dictionary explains each pixel of an image."""

from typing import Any

import numpy as np
import xarray

from analysis.encoding.encode import opened
from analysis.measures.codebook import AnyDictionary, node_of
from analysis.reconstruction.overlap import Rebuilder, RebuiltBlock
from storage import PatchSpec
from storage.plain_attributes import LEVEL, OF_IMAGES, describe

_ROWS = 1 << 14  # patches whose distances are computed together


def distance_map(
    images: Any,
    dictionary: AnyDictionary,
    *,
    spec: PatchSpec | dict[str, Any] | str | None = None,
    stride: int | None = None,
    white: float | None = None,
) -> xarray.DataArray:
    """How far from the dictionary each pixel of an image, or of a stack of images, is.

    The distance of a patch is the root of the mean squared difference to its nearest centroid, that
    of a pixel the mean over the kept patches that lie on it. What the dictionary has not seen
    stands out: anomaly detection as by the memory of patches of Roth et al. 2022 (PatchCore), with
    centroids in their place.

    Args:
        images: as for `encode`.
        dictionary: as for `reconstruct`.
        spec: as for `reconstruct`.
        stride: as for `reconstruct`.
        white: as for `reconstruct`.

    Returns:
        (image, row, col), or (row, col) for one image, float64, pixel levels of the dictionary; NaN
        where no kept patch lies. Its coordinate `score` is the largest distance of each image, NaN
        where there is none. Memory: the result, and the patches of a block of images, or of a part
        of a large one, twice.

    Raises:
        InputError: as `encode` does.
    """
    encoding, alone = opened(images, node_of(dictionary), spec=spec, stride=stride, white=white)
    stack, unit = encoding.images, encoding.unit
    mapper = _DistanceMapper(
        encoding.centroids, encoding.spec, unit.dtype, unit.levels, encoding.preprocessing
    )
    found = np.empty(stack.shape[:3])
    step = stack.step(unit.dtype, encoding.spec)
    for first, _, block in stack.rebuilt(mapper, unit, step):
        found[first : first + len(block.images), block.rows, block.cols] = block.images
    scores = np.fmax.reduce(found, axis=(1, 2))
    array = xarray.DataArray(
        found,
        {
            "score": (
                "image",
                scores,
                {"units": LEVEL, "long_name": "largest distance of the image"},
            )
        },
        ("image", "row", "col"),
        name="distance",
        attrs={"units": LEVEL, "long_name": "distance to the nearest centroids"},
    )
    describe(array, OF_IMAGES)
    return array[0].drop_vars("image") if alone else array


class _DistanceMapper(Rebuilder):
    """Makes maps of distances in place of images, (n, height, width); NaN where no patch lies."""

    def _rebuild(self, images: np.ndarray) -> RebuiltBlock:
        kept, patches, labels = self._patches.find(images)
        distances = np.zeros(kept.shape)
        distances[kept] = self._distances(patches, labels)
        stride, (down, across) = self.spec.stride, kept.shape[1:]
        total, cover = np.zeros(images.shape[:3]), np.zeros(images.shape[:3], np.int32)
        for row in range(self.spec.rows):
            rows = slice(row, row + (down - 1) * stride + 1, stride)
            for col in range(self.spec.cols):
                cols = slice(col, col + (across - 1) * stride + 1, stride)
                total[:, rows, cols] += distances
                cover[:, rows, cols] += kept
        with np.errstate(invalid="ignore"):  # 0 / 0
            total /= cover
        return RebuiltBlock(total, kept, patches, labels, cover)

    def _distances(self, patches: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Root mean square of the differences of patches, (m, d), to their centroids, (m,)."""
        found = np.empty(len(patches))
        for first in range(0, len(patches), _ROWS):
            part = slice(first, first + _ROWS)
            if self.preprocessing is not None:
                errors = self.preprocessing.squared_errors(
                    patches[part], self._centroids, labels[part]
                )
                found[part] = np.sqrt(errors / patches.shape[1])
                continue
            difference = patches[part].astype(np.float64) - self._centroids[labels[part]]
            found[part] = np.sqrt(np.square(difference).mean(axis=1))
        return found
