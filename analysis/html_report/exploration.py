"""What a reader explores: a few images rebuilt at every K, and the atlas of each dictionary."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from string import ascii_uppercase

import numpy as np
import xarray
from sklearn.neighbors import NearestNeighbors

from analysis.html_report.measured import Measured
from analysis.measures.gallery import grid_shape
from analysis.measures.patch_sample import evenly, sample_patches
from analysis.measures.similarity_grid import similarity_grid
from analysis.reconstruction.overlap import Rebuilder
from pipeline import assign
from storage import PatchSpec, PatchStore
from storage.images.middles import first_within, middle_size

EXPLORED_BYTES = 8 << 20  # of arrays on the page; as text they take a third more
UNLABELLED = 10  # images shown of a split whose classes are unknown
SIZES_BEFORE_IMAGES = 8  # so many K are rather shown than more images
CROPPED_VALUES = 1 << 16  # of an image that is explored, at most
NEAREST = 5  # neighbours of a centroid that are named
CLASSED_ROWS = 1 << 14  # patches whose classes tell which use a centroid
MOST_CLASSES = 24  # whose shares a reader can take in


@dataclass(frozen=True)
class Chosen:
    """Images that are explored.

    names: what each is chosen by, its class or a letter; the same in each split.
    indices: split -> which image stands for each name.
    images: split -> (m, row, col[, channel]), the middle of large ones and of those of several
        sizes.
    whole: whether they are all of each image.
    """

    names: tuple[str, ...]
    indices: Mapping[str, Sequence[int]]
    images: Mapping[str, np.ndarray]
    whole: bool = True

    def cut(self, spec: PatchSpec) -> PatchSpec:
        """How patches are cut from them: those of the middle lie within it, whatever the border."""
        return spec if self.whole else spec.within


def explored_sizes(measured: Measured, chosen: Chosen) -> list[int]:
    """The K that are explored: all, or where EXPLORED_BYTES are too few for them as many as fit.

    Returns: ascending, in even steps through the list; at least the smallest.
    """
    experiment, sizes = measured.experiment, measured.sizes
    splits, shape = len(chosen.images), next(iter(chosen.images.values())).shape
    windows = int(np.prod(chosen.cut(experiment.spec).grid(*shape[1:3])))
    images = 4 * splits * (int(np.prod(shape)) + shape[0] * windows)
    facts = 4 + 4 + 1 + 4 * (NEAREST + 1)  # count, SSE share, kind, place and neighbours
    dim = int(np.prod(experiment.patch_shape)) * (1 + measured.pictures.narrowed)  # bytes
    for most in range(len(sizes), 1, -1):
        fewer = evenly(sizes, most)
        if sum(images + k * (dim + facts) for k in fewer) <= EXPLORED_BYTES:
            return fewer
    return sizes[:1]


def rebuilt_images(measured: Measured, chosen: Chosen, sizes: Sequence[int]) -> xarray.Dataset:
    """The chosen images rebuilt at each K.

    Returns: a Dataset over k, split, shown (the chosen images), row, col[, channel]:
        original (split, shown, row, col[, channel]) of the images' dtype, where pixels hold no
        data float32 with NaN there;
        rebuilt (k, split, shown, row, col[, channel]) float32, pixel levels;
        atom (k, split, shown, down, across) int32, the centroid of each window, −1 where the
        patch was not kept; index (split, shown) int64, the image's place in its split;
        mse (k, split, shown) float64, squared pixel levels; patches, distinct (k, split, shown)
        int64, kept patches and centroids among them.
    """
    experiment = measured.experiment
    originals = np.stack(list(chosen.images.values()))
    splits, shown, *shape = originals.shape
    stack = originals.reshape(-1, *shape)
    spec = chosen.cut(experiment.spec)
    grid = spec.grid(*shape[:2])
    rebuilt = np.empty((len(sizes), *stack.shape), np.float32)
    atoms = np.full((len(sizes), len(stack), *grid), -1, np.int32)
    mse, distinct = np.empty((2, len(sizes), len(stack)))
    for at, k in enumerate(sizes):
        centroids, preprocessing = experiment.codebook(k)
        levels = experiment.pixels.levels
        rebuilder = Rebuilder(centroids, spec, stack.dtype, levels, preprocessing)
        for image, one in enumerate(stack[:, np.newaxis]):  # alone, for its patches take their room
            found = rebuilder.rebuild(one)
            rebuilt[at, image] = found.images[0]
            atoms[at, image][found.kept[0]] = found.labels
            mse[at, image] = found.mean(found.squared_errors(one))[0]
        distinct[at] = [len(np.unique(image[image >= 0])) for image in atoms[at]]
    patches = (atoms >= 0).sum(axis=(2, 3))
    missing = experiment.pixels.levels.nodata_pixels(stack)

    def parted(values: np.ndarray) -> np.ndarray:
        """(k, split · shown, …) -> (k, split, shown, …)."""
        return values.reshape(len(sizes), splits, shown, *values.shape[2:])

    pixel = ("row", "col", "channel")[: len(shape)]
    images = ("k", "split", "shown")
    return xarray.Dataset(
        {
            "original": (("split", "shown", *pixel), _shown(originals, missing)),
            "rebuilt": ((*images, *pixel), parted(rebuilt)),
            "atom": ((*images, "down", "across"), parted(atoms)),
            "index": (("split", "shown"), np.array([*chosen.indices.values()])),
            "mse": (images, parted(mse)),
            "patches": (images, parted(patches)),
            "distinct": (images, parted(distinct.astype(np.int64))),
        },
        coords={"k": list(sizes), "split": list(chosen.images), "shown": list(chosen.names)},
    )


def _shown(originals: np.ndarray, missing: np.ndarray | None) -> np.ndarray:
    """Images, (split, shown, row, col[, channel]), NaN where they hold no data."""
    if missing is None:
        return originals
    values = originals.astype(np.float32)
    values[missing.reshape(originals.shape[:4])] = np.nan
    return values


def atlases(measured: Measured, sizes: Sequence[int]) -> dict[int, xarray.Dataset]:
    """The atlas of each dictionary by K; sorting takes all threads that there are."""
    with ThreadPoolExecutor() as threads:
        orders = threads.map(
            lambda k: similarity_grid(measured.experiment.centroids(k), *grid_shape(k)), sizes
        )
        found = {k: atlas(measured, k) for k in sizes}
        return {
            k: one.assign(order=(("down", "across"), order))
            for (k, one), order in zip(found.items(), orders, strict=True)
        }


def atlas(measured: Measured, k: int) -> xarray.Dataset:
    """What is known of each centroid of a dictionary.

    Returns: a Dataset over `atom`: centroids (atom, row, col[, channel]) float32; count int64;
        share of the rows, sse_share of the SSE, float64; kind int64, an index into KINDS; near
        (atom, nearest) int64, the nearest other centroids, nearest first, and their distance, L2
        in pixel levels. `atlases` adds `order` (down, across) int64, the atom in each cell of a
        grid on which neighbours look alike, −1 for none.
    """
    use, stored = measured.usage[k], measured.experiment.nodes[k]["centroids"]
    centroids = measured.experiment.centroids(k)
    near, distance = nearest_centroids(centroids, NEAREST)
    return xarray.Dataset(
        {
            "centroids": (stored.dims, centroids),
            "count": use["count"],
            "share": use["share"],
            "sse_share": use["sse_share"].fillna(0),  # no error at all has no shares
            "kind": ("atom", measured.kinds[k]),
            "near": (("atom", "nearest"), near),
            "distance": (("atom", "nearest"), distance),
        }
    )


def nearest_centroids(centroids: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other centroids of each, of equally near ones the lowest index first.

    centroids: (k, …). Returns: indices and L2 distances, (k, min(most, k − 1)), nearest first.
    Memory: the centroids three times in float64, and a block of distances, not k · k.
    """
    flat = centroids.reshape(len(centroids), -1).astype(np.float64)
    most = min(most, len(flat) - 1)
    if most == 0:
        return np.empty((len(flat), 0), np.int64), np.empty((len(flat), 0))
    search = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(flat)
    near = np.sort(search.kneighbors(return_distance=False), axis=1)
    # By |x|² − 2 xy + |y|² two that are very near may change places.
    distance = np.stack([np.linalg.norm(flat - flat[other], axis=1) for other in near.T], axis=1)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1), np.take_along_axis(distance, order, axis=1)


@dataclass(frozen=True)
class ClassedPatches:
    """Random training patches of known class.

    names: of the classes. classes: (m,) uint8, of each patch. nearest: K -> (m,) its centroid.
    """

    names: tuple[str, ...]
    classes: np.ndarray
    nearest: Mapping[int, np.ndarray]


def classed_patches(measured: Measured, sizes: Sequence[int]) -> ClassedPatches | None:
    """CLASSED_ROWS patches at most; None: classes are not known, or too many."""
    experiment = measured.experiment
    labels, names = experiment.labels("train"), experiment.class_names
    if labels is None or names is None or len(names) > MOST_CLASSES:
        return None
    sample = sample_patches(measured.stores["train"], CLASSED_ROWS)
    images = np.repeat(sample.order, np.diff(sample.offsets))
    nearest = {}
    for k in sizes:
        centroids, preprocessing = experiment.codebook(k)
        met = sample.values if preprocessing is None else preprocessing.rows(sample.values)
        nearest[k] = assign(met, centroids.reshape(k, -1), device="cpu")
    return ClassedPatches(tuple(names), labels[images].astype(np.uint8), nearest)


def choose_images(measured: Measured) -> Chosen:
    """The images that are explored: of each split one of each class that all splits have.

    It is one with the median number of kept patches in its class. Where classes are not known the
    first UNLABELLED images of the store's random order. Of images that are large fewer are taken,
    and of each the middle.
    """
    experiment, stores = measured.experiment, measured.stores
    labels = {split: experiment.labels(split) for split in experiment.splits}
    classes = [found for found in labels.values() if found is not None]
    names: tuple[str, ...] | None = None
    present: list[int] = []
    if len(classes) == len(labels):
        present = sorted(set.intersection(*(set(found.tolist()) for found in classes)))
    if experiment.class_names is not None and present:
        names = tuple(experiment.class_names[label] for label in present)
        indices = {
            split: _typical(store, found, present)
            for (split, store), found in zip(stores.items(), classes, strict=True)
        }
    else:
        indices = {s: store.image_order[:UNLABELLED].tolist() for s, store in stores.items()}
    sizes, channels = np.array([experiment.image_shape[:2]]), experiment.image_shape[2:]
    (height, width), _ = middle_size(sizes, math.prod(channels), CROPPED_VALUES, experiment.spec)
    values = height * width * math.prod(channels)
    versions = min(len(measured.sizes), SIZES_BEFORE_IMAGES)
    most = max(1, EXPLORED_BYTES // 2 // (4 * values * len(indices) * versions))
    shown = min(most, *map(len, indices.values()))
    read = {
        split: measured.middles(split, np.array(found[:shown]), CROPPED_VALUES)
        for split, found in indices.items()
    }
    images, whole = _common(read, experiment.spec)
    if names is None:
        names = tuple(ascii_uppercase[:shown])  # no numbers, which images have of their own
    indices = {split: found[:shown] for split, found in indices.items()}
    return Chosen(names[:shown], indices, images, whole)


def _common(
    read: Mapping[str, tuple[np.ndarray, bool]], spec: PatchSpec
) -> tuple[dict[str, np.ndarray], bool]:
    """Images of all splits, cut to the rows and columns that all have, and whether they are whole.

    read: by split its images, or their middles, and whether they are whole.
    """
    images = {split: found for split, (found, _) in read.items()}
    whole = all(all_of_it for _, all_of_it in read.values())
    if whole and len({found.shape[1:3] for found in images.values()}) == 1:
        return images, True
    for split, (found, all_of_it) in read.items():
        if all_of_it:
            top, left = first_within(found.shape[1:3], spec)
            images[split] = found[:, top:, left:]
    height, width = (min(found.shape[axis] for found in images.values()) for axis in (1, 2))
    return {split: found[:, :height, :width] for split, found in images.items()}, False


def _typical(store: PatchStore, labels: np.ndarray, classes: Sequence[int]) -> list[int]:
    """Of each of these classes an image with the median number of kept patches."""
    counts, found = store.image_counts, list[int]()
    for label in classes:
        members = np.flatnonzero(labels == label)
        ranked = members[np.argsort(counts[members], kind="stable")]
        found.append(int(ranked[(len(ranked) - 1) // 2]))
    return found
