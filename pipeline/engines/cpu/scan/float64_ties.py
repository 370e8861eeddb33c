"""Where float32 cannot tell which centroid is nearest: float64, ties to the lowest index."""

import numpy as np

from pipeline.engines.cpu.assignment_cache import MAX_LEVEL, CachedAssignments
from pipeline.engines.cpu.centroid_table import CentroidTable
from pipeline.engines.cpu.simd import inner


@inner(fastmath={"reassoc", "contract"})
def _exact(rows: np.ndarray, row: int, centroids: np.ndarray, j: int, scale: float) -> float:
    """Squared distance in float64, in the unit of a table, lest it leave the range."""
    total = 0.0
    for d in range(rows.shape[1]):
        difference = (np.float64(rows[row, d]) - np.float64(centroids[j, d])) * scale
        total += difference * difference
    return total


@inner
def decide(rows: np.ndarray, row: int, table: CentroidTable, few: np.ndarray, count: int) -> int:
    """Nearest of the centroids few[:count] in float64, ties to the lowest index."""
    centroids, scale = table.centroids, np.float64(table.scale)
    k = len(centroids)
    smallest, nearest = np.inf, k
    for p in range(count):
        j = few[p]
        if j < k:
            distance = _exact(rows, row, centroids, j, scale)
            if distance < smallest or (distance == smallest and j < nearest):
                smallest, nearest = distance, j
    return nearest


@inner
def decide_among_all(
    rows: np.ndarray, row: int, table: CentroidTable, few: np.ndarray, known: CachedAssignments
) -> None:
    """Label of one row in float64 among all centroids; nothing is learned about distances.

    few: (k,) int32 or longer, room.
    """
    k = len(table.centroids)
    for j in range(k):
        few[j] = j
    known.label[row] = decide(rows, row, table, few, k)
    known.upper[row] = MAX_LEVEL
    known.lower[row] = 0
