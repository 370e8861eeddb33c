"""What a pass over the rows leaves behind: exact sums per cluster, and all that follows from them.

For integer rows every number is int64, so addition is associative and the result does not depend
on blocks, threads or workers. For floats they are float64, added in the order of the blocks.
"""

from dataclasses import dataclass

import numpy as np


@dataclass
class ClusterSums:
    """Sums over the rows assigned to each of k centroids.

    sums: (k, d) int64 or float64, sum of the rows.
    counts: (k,) int64, number of rows.
    squares: (k,) int64 or float64, sum of the rows' squared lengths.
    """

    sums: np.ndarray
    counts: np.ndarray
    squares: np.ndarray

    @classmethod
    def zeros(cls, k: int, dim: int, dtype: np.dtype) -> "ClusterSums":
        """No rows yet; `dtype` is that of the rows."""
        total = np.float64 if dtype.kind == "f" else np.int64
        return cls(np.zeros((k, dim), total), np.zeros(k, np.int64), np.zeros(k, total))

    def __iadd__(self, other: "ClusterSums") -> "ClusterSums":
        self.sums += other.sums
        self.counts += other.counts
        self.squares += other.squares
        return self

    @property
    def n_rows(self) -> int:
        return int(self.counts.sum())

    @property
    def live(self) -> int:
        """Number of centroids with at least one row."""
        return int(np.count_nonzero(self.counts))

    def means(self, otherwise: np.ndarray) -> np.ndarray:
        """Mean row of each cluster, (k, d) float64; empty ones keep the row of `otherwise`."""
        filled = self.counts > 0
        means = otherwise.astype(np.float64)
        means[filled] = self.sums[filled] / self.counts[filled, None]
        return means

    def sse(self, centroids: np.ndarray) -> np.ndarray:
        """Sum of squared distances of each cluster's rows to its centroid, (k,) float64.

        By Σ|x − c|² = Σ|x|² − 2 c·Σx + n|c|², in which the sums are exact.
        centroids: (k, d), those that the rows were assigned to.
        """
        wide = centroids.astype(np.float64)
        cross = np.einsum("kd,kd->k", wide, self.sums.astype(np.float64))
        norms = np.einsum("kd,kd->k", wide, wide)
        return np.maximum(self.squares - 2 * cross + self.counts * norms, 0.0)

    def mean_variance(self) -> float:
        """Mean over the columns of the variance of all rows, the scale of `tol`."""
        n, (_, dim) = self.n_rows, self.sums.shape
        column_means = self.sums.sum(axis=0) / n
        return max(float(self.squares.sum() / n - column_means @ column_means) / dim, 0.0)
