"""What the report draws by chance, reproducibly: patches, sample images, the image to rebuild."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.measures.codebook import rebuilt_patches
from analysis.measures.coverage import squared_distances
from analysis.measures.patch_sample import sample_patches
from analysis.reconstruction.overlap import PART_BYTES, RebuiltBlock
from analysis.text import size_range
from pipeline import Preprocessing, assign
from storage import ImageSource, PatchSpec, PatchStore
from storage.images.middles import read_middles

SHOWN_PATCHES = 16
SHOWN_IMAGES = 10


@dataclass(frozen=True)
class Quantised:
    """The nearest centroids of some patches: labels (m,), tiles (m, *patch_shape)."""

    labels: np.ndarray
    tiles: np.ndarray


@dataclass(frozen=True)
class TypicalImage:
    """An image of the data with its versions: for each K the image, float32, and its MSE.

    whole: rows and columns of the image where `original` is only its middle.
    """

    split: str
    index: int
    original: np.ndarray
    versions: Mapping[int, tuple[np.ndarray, float]]
    whole: tuple[int, int] | None = None

    @property
    def title(self) -> str:
        """Which image it is, as in: test image 7."""
        name = f"{self.split} image {self.index:,}"
        return name if self.whole is None else f"middle of {name}"

    @property
    def part(self) -> str:
        """How much of it is shown, where not all, as in: 221×295 of 3000×4000 pixels."""
        if self.whole is None:
            return ""
        return f"{size_range([self.original.shape[:2]])} of {size_range([self.whole])} pixels"


@dataclass(frozen=True)
class Composition:
    """What one image is made of when one dictionary rebuilds it.

    windows: places at which a patch can be cut. patches: kept ones. distinct: centroids used.
    overlap: mean number of kept patches over a pixel that at least one covers.
    image_mse: over all pixels. covered_mse: over the pixels that a kept patch covers.
    patch_mse: over the kept patches. All three in squared pixel levels.
    """

    windows: int
    patches: int
    distinct: int
    overlap: float
    image_mse: float
    covered_mse: float
    patch_mse: float

    @classmethod
    def of(
        cls,
        image: np.ndarray,
        version: RebuiltBlock,
        centroids: np.ndarray,
        spec: PatchSpec,
        preprocessing: Preprocessing | None = None,
    ) -> "Composition":
        """Counted from an image, (height, width[, channels]), and the block of it alone rebuilt."""
        cover = version.cover[0]
        squares = version.squared_errors(image[np.newaxis])
        flat = centroids.reshape(len(centroids), -1).astype(np.float64)
        if preprocessing is None:
            of_patches = squared_distances(version.patches, flat, version.labels)
        else:
            of_patches = preprocessing.squared_errors(version.patches, flat, version.labels)
        return cls(
            windows=math.prod(spec.grid(*image.shape[:2])),
            patches=len(version.labels),
            distinct=len(np.unique(version.labels)),
            overlap=float(cover[cover > 0].mean()),
            image_mse=float(version.mean(squares)[0]),
            covered_mse=float(squares[0][cover > 0].mean()),
            patch_mse=float(of_patches.mean()) / flat.shape[1],
        )


def middles(
    source: ImageSource, which: np.ndarray, most: int, spec: PatchSpec
) -> tuple[np.ndarray, bool]:
    """Some images, or of large and of unequal ones the middle; and whether they are whole.

    most: pixel values of each; fewer where the patches of so many would take PART_BYTES.
    """
    bytes_each = spec.rows * spec.cols * source.dtype.itemsize  # of patches, for each value
    return read_middles(source, which, min(most, PART_BYTES * spec.stride**2 // bytes_each), spec)


def draw_patches(store: PatchStore, seed: int = 0) -> np.ndarray:
    """Random patches of a store, in random order.

    Returns: (SHOWN_PATCHES, *patch_shape) of the store's dtype, fewer where there are fewer.
    Memory: one chunk.
    """
    values = sample_patches(store, SHOWN_PATCHES, seed).values
    return np.random.default_rng(seed).permutation(values).reshape(-1, *store.patch_shape)


def quantise(
    patches: np.ndarray, centroids: np.ndarray, preprocessing: Preprocessing | None = None
) -> Quantised:
    """Nearest centroid of each patch; patches: (m, *patch_shape), centroids: (k, *patch_shape)."""
    rows, flat = (values.reshape(len(values), -1) for values in (patches, centroids))
    met = rows if preprocessing is None else preprocessing.rows(rows)
    labels = assign(met, flat, device="cpu")
    tiles = rebuilt_patches(rows, flat, labels, preprocessing)
    return Quantised(labels, tiles.reshape(len(tiles), *centroids.shape[1:]))


def typical_image(store: PatchStore) -> int:
    """Index of the image with the median number of kept patches; of several the first.

    Images without any do not count.
    """
    counts = store.image_counts
    kept = np.sort(counts[counts > 0])
    return int(np.flatnonzero(counts == kept[(len(kept) - 1) // 2])[0])
