"""What a reader explores: a few images rebuilt at every K, and the atlas of each dictionary."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import xarray
from sklearn.neighbors import NearestNeighbors

from analysis.experiment import Experiment
from analysis.galleries import grid_shape
from analysis.kinds import kinds_of
from analysis.reconstruction import rebuild
from analysis.sorting import sort_on_grid

EXPLORED_BYTES = 8 << 20  # of arrays on the page; as text they take a third more
UNLABELLED = 10  # images shown of a split whose classes are unknown
NEAREST = 5  # neighbours of a centroid that are named


@dataclass(frozen=True)
class Chosen:
    """Images that are explored.

    names: what each is chosen by, its class or its place; the same in each split.
    indices: split -> which image stands for each name. images: split -> (m, *image_shape).
    classes: whether the names are classes.
    """

    names: tuple[str, ...]
    indices: Mapping[str, Sequence[int]]
    images: Mapping[str, np.ndarray]
    classes: bool


def explored_sizes(experiment: Experiment, shown: int) -> list[int]:
    """The K that are explored: ascending, as long as their arrays fit into EXPLORED_BYTES.

    shown: how many images are rebuilt at each K. Returns: at least the smallest K.
    """
    shape = experiment.image_shape
    windows = int(np.prod(experiment.spec.grid(*shape[:2])))
    images = 4 * shown * (int(np.prod(shape)) + windows)
    facts = 4 + 4 + 1 + 4 * (NEAREST + 1)  # count, SSE share, kind, place and neighbours
    dim = int(np.prod(experiment.patch_shape))
    sizes: list[int] = []
    total = 0
    for k in experiment.sizes:
        total += images + k * (dim + facts)
        if sizes and total > EXPLORED_BYTES:
            break
        sizes.append(k)
    return sizes


def rebuilt_images(experiment: Experiment, chosen: Chosen, sizes: Sequence[int]) -> xarray.Dataset:
    """The chosen images rebuilt at each K.

    Returns: a Dataset over k, split, shown (the chosen images), row, col[, channel]:
        original (split, shown, row, col[, channel]) of the images' dtype;
        rebuilt (k, split, shown, row, col[, channel]) float32, pixel levels;
        atom (k, split, shown, down, across) int32, the centroid of each window, −1 where the
        patch was not kept; mse (k, split, shown) float64, squared pixel levels; patches, distinct
        (k, split, shown) int64, kept patches and centroids among them.
    """
    originals = np.stack(list(chosen.images.values()))
    splits, shown, *shape = originals.shape
    grid = experiment.spec.grid(*shape[:2])
    rebuilt = np.empty((len(sizes), *originals.shape), np.float32)
    atoms = np.full((len(sizes), splits, shown, *grid), -1, np.int32)
    scores = np.empty((3, len(sizes), splits, shown))
    for at, k in enumerate(sizes):
        centroids = experiment.centroids(k)
        for split, place in np.ndindex(splits, shown):
            version = rebuild(originals[split, place], centroids, experiment.spec)
            rebuilt[at, split, place] = version.image
            atoms[at, split, place][version.kept] = version.labels
            scores[:, at, split, place] = (
                version.image_mse,
                len(version.labels),
                len(np.unique(version.labels)),
            )
    pixel = ("row", "col", "channel")[: len(shape)]
    images = ("k", "split", "shown")
    return xarray.Dataset(
        {
            "original": (("split", "shown", *pixel), originals),
            "rebuilt": ((*images, *pixel), rebuilt),
            "atom": ((*images, "down", "across"), atoms),
            "mse": (images, scores[0]),
            "patches": (images, scores[1].astype(np.int64)),
            "distinct": (images, scores[2].astype(np.int64)),
        },
        coords={"k": list(sizes), "split": list(chosen.images), "shown": list(chosen.names)},
    )


def atlases(experiment: Experiment, sizes: Sequence[int]) -> dict[int, xarray.Dataset]:
    """The atlas of each dictionary by K; sorting takes all threads that there are."""
    with ThreadPoolExecutor() as threads:
        return dict(zip(sizes, threads.map(lambda k: atlas(experiment, k), sizes), strict=True))


def atlas(experiment: Experiment, k: int) -> xarray.Dataset:
    """One dictionary, ordered so that neighbours look alike, with what is known of each centroid.

    Returns: a Dataset over `atom`: centroids (atom, row, col[, channel]) float32; count int64;
        share of the rows, sse_share of the SSE, float64; kind int64, an index into KINDS; near
        (atom, nearest) int64, the nearest other centroids, nearest first, and their distance, L2
        in pixel levels. Beside it `order` (down, across) int64, the atom in each cell of the
        grid, −1 for none.
    """
    node = experiment.nodes[k]
    centroids, counts, sse = (node[name].values for name in ("centroids", "count", "sse"))
    near, distance = nearest_centroids(centroids, NEAREST)
    return xarray.Dataset(
        {
            "centroids": (node["centroids"].dims, centroids),
            "count": ("atom", counts),
            "share": ("atom", counts / counts.sum()),
            "sse_share": ("atom", sse / sse.sum() if sse.sum() else np.zeros(k)),
            "kind": ("atom", kinds_of(centroids, experiment.pixels.largest)),
            "near": (("atom", "nearest"), near),
            "distance": (("atom", "nearest"), distance),
            "order": (("down", "across"), sort_on_grid(centroids, *grid_shape(k))),
        }
    )


def nearest_centroids(centroids: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other centroids of each, of equally near ones the lowest index first.

    centroids: (k, …). Returns: indices and L2 distances, (k, min(most, k − 1)), nearest first.
    Memory: a block of distances, not k · k.
    """
    flat = centroids.reshape(len(centroids), -1).astype(np.float64)
    most = min(most, len(flat) - 1)
    if most == 0:
        return np.empty((len(flat), 0), np.int64), np.empty((len(flat), 0))
    search = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(flat)
    near = np.sort(search.kneighbors(return_distance=False), axis=1)
    # By |x|² − 2 xy + |y|² two that are very near may change places.
    distance = np.linalg.norm(flat[:, None] - flat[near], axis=2)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1), np.take_along_axis(distance, order, axis=1)


def choose_images(experiment: Experiment) -> Chosen:
    """The images that are explored: of each split the most typical one of each class.

    Typical: with the median number of kept patches, of several the first. Without classes the
    first ten of the store's random order.
    """
    indices: dict[str, list[int]] = {}
    names: tuple[str, ...] = ()
    for split in experiment.splits:
        store = experiment.store(split)
        indices[split] = store.order[:UNLABELLED].tolist()
    shown = min(map(len, indices.values()))
    names = tuple(str(place) for place in range(1, shown + 1))
    images = {
        split: experiment.images(split).read(np.array(chosen[:shown]))
        for split, chosen in indices.items()
    }
    return Chosen(names, indices, images, classes=False)
