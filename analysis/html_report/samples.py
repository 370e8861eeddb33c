"""What the report draws by chance, reproducibly: patches, sample images, the image to rebuild."""

import numpy as np

from analysis.html_report.figures.plates import Quantised
from analysis.measures.patch_sample import sample_patches
from pipeline import assign
from storage import ImageSource, PatchStore

SHOWN_PATCHES = 16
SHOWN_IMAGES = 10


def draw_patches(store: PatchStore, seed: int = 0) -> np.ndarray:
    """Random patches of a store, in random order.

    Returns: (SHOWN_PATCHES, *patch_shape) of the store's dtype, fewer where there are fewer.
    Memory: one chunk.
    """
    values = sample_patches(store, SHOWN_PATCHES, seed).values
    return np.random.default_rng(seed).permutation(values).reshape(-1, *store.patch_shape)


def quantise(patches: np.ndarray, centroids: np.ndarray) -> Quantised:
    """Nearest centroid of each patch; patches: (m, *patch_shape), centroids: (k, *patch_shape)."""
    rows, flat = (values.reshape(len(values), -1) for values in (patches, centroids))
    labels = assign(rows, flat, device="cpu")
    return Quantised(labels, centroids[labels])


def typical_image(store: PatchStore) -> int:
    """Index of the image with the median number of kept patches; of several the first.

    Images without any do not count.
    """
    counts, order = np.diff(store.offsets), store.order
    kept = np.sort(counts[counts > 0])
    return int(order[counts == kept[(len(kept) - 1) // 2]].min())


def sample_images(source: ImageSource, store: PatchStore) -> list[np.ndarray]:
    """The first images in the store's own random order."""
    return list(source.read(store.order[:SHOWN_IMAGES]))
