"""Nearest centroids for rows at hand: what prediction and reconstruction need."""

import numpy as np

from pipeline.devices import resolve_device
from pipeline.fit import make_engine


def assign(
    rows: np.ndarray, centroids: np.ndarray, *, engine: str = "auto", device: str = "auto"
) -> np.ndarray:
    """Index of the nearest centroid of each row, ties to the lowest.

    rows: (n, d) integers or floats. centroids: (k, d) float32.
    Returns: (n,) int64. Memory: one tile of distances, not n · k.
    Raises: InputError for a device that is not there, or shapes that do not match.
    """
    nearest = make_engine(engine, resolve_device(device), rows.shape[1], rows.dtype)
    nearest.load(centroids)
    return nearest.assign(rows)
