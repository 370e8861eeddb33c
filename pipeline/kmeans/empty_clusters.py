"""What becomes of a centroid that no row is nearest to."""

import numpy as np

from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import RowSource, take_rows

_DRAWS = 8  # rows drawn for each that is needed: one that is a centroid already would stay empty
_PUSH = 2.0**-10  # of a centroid, as in faiss; of float rows, of what their cluster spreads


def fill_empty(
    centroids: np.ndarray,
    old: np.ndarray,
    sums: ClusterSums,
    policy: str,
    source: RowSource,
    rng: np.random.Generator,
) -> int:
    """Give each empty cluster a new centroid, in place.

    centroids: (k, d), the new ones. old: (k, d), those that `sums` was gathered with.
    policy: "random" takes a row drawn at random (the study's); "split" takes half of the cluster
        with the largest SSE: the two centroids stand a small step apart on either side of its mean.
    Returns: how many were empty.
    """
    empty = np.flatnonzero(sums.counts == 0)
    if len(empty) == 0:
        return 0
    if policy == "random":
        numbers = rng.integers(source.n_rows, size=_DRAWS * len(empty))
        centroids[empty] = _drawn_rows(source, numbers, centroids, len(empty))
        return len(empty)
    sse, counts = sums.sse(old), sums.counts.astype(np.float64)
    signs = np.where(np.arange(centroids.shape[1]) % 2, -1.0, 1.0)
    for index in empty:
        # a cluster of one row, or of equal rows, has nothing to give
        largest = int(np.argmax(np.where(counts > 1, sse, -1.0)))
        step = signs * _step(centroids[largest], sse[largest] / counts[largest], source.dtype)
        centroids[index] = centroids[largest] + step
        centroids[largest] = centroids[largest] - step
        sse[largest] = sse[index] = sse[largest] / 4
        counts[largest] = counts[index] = counts[largest] / 2
    return len(empty)


def _step(centroid: np.ndarray, variance: float, rows: np.dtype) -> np.ndarray:
    """How far the halves of a cluster of such a variance go apart; (d,), (d,)."""
    if rows.kind in "ui":
        return np.maximum(np.abs(centroid), 1.0) * _PUSH
    # Floats may be in any unit, and far from zero.
    return np.maximum((variance / len(centroid)) ** 0.5 * _PUSH, 4 * np.spacing(np.abs(centroid)))


def _drawn_rows(
    source: RowSource, numbers: np.ndarray, centroids: np.ndarray, count: int
) -> np.ndarray:
    """What `new_rows` takes of the rows with these numbers; no more are read than it takes."""
    drawn = take_rows(source, numbers[:count]).astype(centroids.dtype)
    if _are_new(drawn, centroids).all():
        return drawn
    return new_rows(take_rows(source, numbers).astype(centroids.dtype), centroids, count)


def new_rows(drawn: np.ndarray, centroids: np.ndarray, count: int) -> np.ndarray:
    """The first `count` drawn rows that no centroid stands on, then any; (count, d)."""
    new = _are_new(drawn, centroids)
    return np.concatenate([drawn[new], drawn[~new]])[:count]


def _are_new(drawn: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Of each drawn row, whether neither a centroid nor one drawn before is equal; (m,) bool."""
    _, first, inverse = np.unique(
        np.concatenate([centroids, drawn]), axis=0, return_index=True, return_inverse=True
    )
    places = np.arange(len(centroids), len(centroids) + len(drawn))
    return np.asarray(first[inverse.reshape(-1)[places]] == places)
