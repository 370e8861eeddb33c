"""Distances of rows to centroids, all of them; the engines do without."""

import numpy as np

from pipeline.rows.units import scale_of

TILE_ROWS = 256  # at once, so that their distances stay in the processor's cache


def distances(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Euclidean distances from differences: nothing cancels where both are far from zero.

    Args:
        rows: (n, d) float32 or float64.
        centroids: (k, d), of the same type.

    Returns:
        (n, k), of this type. Memory: that, and a tile of it.
    """
    found = np.zeros((len(rows), len(centroids)), rows.dtype)
    largest = max(float(np.abs(part).max(initial=0)) for part in (rows, centroids))
    scale = rows.dtype.type(scale_of(largest, rows.dtype))  # lest squares leave their range
    for start in range(0, len(rows), TILE_ROWS):
        tile = found[start : start + TILE_ROWS]
        for column, values in zip(rows[start : start + TILE_ROWS].T, centroids.T, strict=True):
            difference = column[:, np.newaxis] * scale - values * scale
            tile += difference * difference
    np.sqrt(found, out=found)
    return np.divide(found, scale, out=found)
