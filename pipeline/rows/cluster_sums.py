"""What a pass over the rows leaves behind: exact sums per cluster, and all that follows from them.

Rows of bytes add up in int64 throughout, so the result does not depend on blocks, threads or
workers. So do the sums of 16-bit rows, whose squares are float64 like everything of float rows:
added in the order of the blocks. Float rows are summed about an origin near them, for a sum of
squares about a far one would leave nothing of their spread.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipeline.rows.source import RowSource


@dataclass
class ClusterSums:
    """Sums over the rows assigned to each of k centroids.

    sums: (k, d) int64 or float64, sum of the rows less the origin.
    counts: (k,) int64, number of rows.
    squares: (k,) int64 or float64, sum of the squared lengths of the rows less the origin.
    origin: (d,) float64, zero for integer rows.
    """

    sums: np.ndarray
    counts: np.ndarray
    squares: np.ndarray
    origin: np.ndarray

    @classmethod
    def zeros(
        cls, k: int, dim: int, dtype: np.dtype, origin: np.ndarray | None = None
    ) -> "ClusterSums":
        """No rows yet; `dtype` is that of the rows, origin: (d,), for float rows alone."""
        total = np.float64 if dtype.kind == "f" else np.int64
        squares = np.int64 if dtype.itemsize == 1 else np.float64
        return cls(
            np.zeros((k, dim), total),
            np.zeros(k, np.int64),
            np.zeros(k, squares),
            np.zeros(dim) if origin is None else origin,
        )

    def __iadd__(self, other: "ClusterSums") -> "ClusterSums":
        """Assumes one origin and one type of rows."""
        self.sums += other.sums
        self.counts += other.counts
        self.squares += other.squares
        return self

    @property
    def n_rows(self) -> int:
        """Rows in all clusters."""
        return int(self.counts.sum())

    @property
    def live(self) -> int:
        """Number of centroids with at least one row."""
        return int(np.count_nonzero(self.counts))

    def means(self, otherwise: np.ndarray) -> np.ndarray:
        """Mean row of each cluster, (k, d) float64; empty ones keep the row of `otherwise`."""
        means = self.origin + self.sums / np.maximum(self.counts, 1)[:, None]
        empty = self.counts == 0
        means[empty] = otherwise[empty]
        return means

    def sse(self, centroids: np.ndarray) -> np.ndarray:
        """Sum of squared distances of each cluster's rows to its centroid, (k,) float64.

        By Σ|x − c|² = Σ|x|² − 2 c·Σx + n|c|², in which the sums are exact.
        centroids: (k, d), those that the rows were assigned to.
        """
        wide = centroids.astype(np.float64) - self.origin
        cross = np.einsum("kd,kd->k", wide, self.sums.astype(np.float64))
        norms = np.einsum("kd,kd->k", wide, wide)
        return np.maximum(self.squares - 2 * cross + self.counts * norms, 0.0)

    def mean_variance(self) -> float:
        """Mean over the columns of the variance of all rows, the scale of `tol`."""
        n, (_, dim) = self.n_rows, self.sums.shape
        column_means = self.sums.sum(axis=0) / n
        squares = self.squares.sum(dtype=np.float64)
        return max(float(squares / n - column_means @ column_means) / dim, 0.0)


def empty_sums(source: "RowSource", k: int) -> ClusterSums:
    """Sums of no rows of this source yet."""
    return ClusterSums.zeros(k, source.dim, source.dtype, source.origin)
