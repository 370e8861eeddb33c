"""What centroids leave of rows: the rows of the next stage of a residual quantiser."""

import numpy as np

from pipeline.rows.source import RowSource
from storage.mapped_files import let_go


def residuals(rows: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows less the centroid of each.

    Args:
        rows: (n, d), of any type.
        centroids: (k, d).
        labels: (n,) integers, the centroid of each row.

    Returns:
        (n, d) float32, rounded once.
    """
    left = np.take(centroids.astype(np.float32, copy=False), labels, axis=0)
    return np.subtract(rows, left, out=left, casting="same_kind")


class ResidualRows:
    """The rows of another source less the centroid of each.

    Args:
        source: of the rows.
        centroids: (k, d).
        labels: (n_rows,) integers, in memory or mapped.
    """

    def __init__(self, source: RowSource, centroids: np.ndarray, labels: np.ndarray) -> None:
        self.n_rows, self.dim, self.block_rows = source.n_rows, source.dim, source.block_rows
        self.dtype = np.dtype(np.float32)
        beside = getattr(source, "bytes_beside", 0) + source.dim * source.dtype.itemsize
        self.bytes_beside = beside + 12  # labels as numpy takes them
        self._source, self._centroids, self._labels = source, centroids, labels

    def read_block(self, index: int) -> np.ndarray:
        rows, start = self._source.read_block(index), index * self.block_rows
        left = residuals(rows, self._centroids, self._labels[start : start + len(rows)])
        let_go(self._labels)
        return left
