"""Nearest centroids for rows at hand: what prediction and reconstruction need."""

import numpy as np

from pipeline.engines import EngineSpec
from pipeline.rows.source import ArraySource, read_ahead, row_dtype
from pipeline.runtime.devices import resolve_device
from pipeline.runtime.kernel_cache import code_bytes
from storage.errors import InputError


class NearestCentroids:
    """A dictionary that is loaded once, to label block after block of rows.

    Memory: `projected_bytes`.

    Args:
        centroids: (k, d) float32 or float64.
        dtype: of the rows; integers of more than 16 bits are taken as float64.
        engine: as for a fit.
        device: as for a fit.

    Raises:
        InputError: a device that is not there, an unknown engine, or centroids that are not (k, d).
    """

    def __init__(
        self, centroids: np.ndarray, dtype: np.dtype, *, engine: str = "auto", device: str = "auto"
    ) -> None:
        if centroids.ndim != 2 or centroids.size == 0:
            raise InputError(f"centroids have the shape {centroids.shape}: give (k, d)")
        self._dtype, self._dim = row_dtype(np.dtype(dtype)), centroids.shape[1]
        spec = EngineSpec.resolve(
            engine, resolve_device(device, self._dtype), self._dim, self._dtype
        )
        self._engine = spec.make(largest=len(centroids))
        self._engine.load(centroids)

    def label(self, rows: np.ndarray) -> np.ndarray:
        """Index of the nearest centroid of each row, ties to the lowest.

        rows: (n, d), also none. Returns: (n,) int64.
        Raises: InputError for another number of columns.
        """
        if rows.ndim != 2 or rows.shape[1] != self._dim:
            raise InputError(
                f"rows {rows.shape} and centroids of {self._dim} values do not match: give (n, d)"
            )
        if len(rows) == 0:
            return np.empty(0, np.int64)
        # torch takes contiguous, writable arrays in native byte order
        return self._engine.assign(np.require(rows, self._dtype, ["C", "W"]))

    @staticmethod
    def projected_bytes(
        k: int,
        dim: int,
        rows: int,
        *,
        dtype: np.dtype = np.dtype(np.uint8),  # noqa: B008  # a constant
        device: str = "auto",
    ) -> int:
        """What k centroids and labelling so many rows at once take beside the rows, at most."""
        dtype = row_dtype(np.dtype(dtype))
        spec = EngineSpec.resolve("auto", resolve_device(device, dtype), dim, dtype)
        return spec.host_bytes(k, rows) + code_bytes(spec.numba_kernels())


def assign(
    rows: np.ndarray, centroids: np.ndarray, *, engine: str = "auto", device: str = "auto"
) -> np.ndarray:
    """Index of the nearest centroid of each row, ties to the lowest.

    Args:
        rows: (n, d) integers or floats.
        centroids: (k, d) float32 or float64.
        engine: as for `StreamingKMeans`.
        device: as for `StreamingKMeans`.

    Returns:
        (n,) int64. Memory: one tile of distances, not n · k.

    Raises:
        InputError: a device that is not there, or shapes that do not match.
    """
    source = ArraySource(rows)
    nearest = NearestCentroids(centroids, source.dtype, engine=engine, device=device)
    return np.concatenate([nearest.label(block) for block in read_ahead(source)])
