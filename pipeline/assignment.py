"""Nearest centroids for rows at hand: what prediction and reconstruction need."""

import numpy as np

from pipeline.devices import resolve_device
from pipeline.engines import make_engine
from pipeline.streaming import ArraySource, read_ahead
from storage.errors import InputError


def assign(
    rows: np.ndarray, centroids: np.ndarray, *, engine: str = "auto", device: str = "auto"
) -> np.ndarray:
    """Index of the nearest centroid of each row, ties to the lowest.

    rows: (n, d) integers or floats. centroids: (k, d) float32 or float64.
    Returns: (n,) int64. Memory: one tile of distances, not n · k.
    Raises: InputError for a device that is not there, or shapes that do not match.
    """
    if rows.ndim != 2 or centroids.ndim != 2 or rows.shape[1] != centroids.shape[1]:
        raise InputError(
            f"rows {rows.shape} and centroids {centroids.shape} do not match:"
            " give (n, d) and (k, d)"
        )
    source = ArraySource(rows)
    nearest = make_engine(engine, resolve_device(device, source.dtype), source.dim, source.dtype)
    nearest.load(centroids)
    return np.concatenate([nearest.assign(block) for block in read_ahead(source)])
