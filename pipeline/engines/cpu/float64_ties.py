"""Where float32 cannot tell which centroid is nearest: float64, ties to the lowest index."""

import numpy as np
from numba import njit

from pipeline.engines.cpu.layouts import MAX_LEVEL, Known


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _exact(rows: np.ndarray, row: int, centroids: np.ndarray, j: int) -> float:
    """Squared distance in float64."""
    total = 0.0
    for d in range(rows.shape[1]):
        difference = np.float64(rows[row, d]) - np.float64(centroids[j, d])
        total += difference * difference
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def decide(rows: np.ndarray, row: int, centroids: np.ndarray, few: np.ndarray, count: int) -> int:
    """Nearest of the centroids few[:count] in float64, ties to the lowest index."""
    k = len(centroids)
    smallest, nearest = np.inf, k
    for p in range(count):
        j = few[p]
        if j < k:
            distance = _exact(rows, row, centroids, j)
            if distance < smallest or (distance == smallest and j < nearest):
                smallest, nearest = distance, j
    return nearest


@njit(nogil=True, cache=True, error_model="numpy")
def decide_alone(rows: np.ndarray, row: int, centroids: np.ndarray, known: Known) -> None:
    """Label of one row in float64 among all centroids; nothing is learned about distances."""
    index = np.arange(len(centroids)).astype(np.int32)
    known.label[row] = decide(rows, row, centroids, index, len(index))
    known.upper[row] = MAX_LEVEL
    known.lower[row] = 0
