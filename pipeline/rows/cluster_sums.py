"""What a pass over the rows leaves behind: exact sums per cluster, and all that follows from them.

Rows of bytes add up in int64 throughout, so the result does not depend on blocks, threads or
workers. So do the sums of 16-bit rows, whose squares are float64 like everything of float rows:
added in the order of the blocks. Float rows are summed as differences to the centroid that they
are assigned to: about any other point, what tight clusters leave would be lost in rounding.
"""

from dataclasses import dataclass

import numpy as np

# Of the terms of an SSE, below which what is left of them is computed in another way.
CANCELLED = 2.0**-16


@dataclass
class ClusterSums:
    """Sums over the rows assigned to each of k centroids.

    sums: (k, d) int64 or float64, sum of the rows less the origin.
    counts: (k,) int64, number of rows.
    squares: (k,) int64 or float64, sum of the squared lengths of the rows less the origin.
    origin: (k, d) float64, the centroids of float rows; (d,) zeros for integer rows.
    """

    sums: np.ndarray
    counts: np.ndarray
    squares: np.ndarray
    origin: np.ndarray

    @classmethod
    def zeros(cls, centroids: np.ndarray, dtype: np.dtype) -> "ClusterSums":
        """No rows yet; centroids: (k, d), of the pass. dtype: of the rows."""
        k, dim = centroids.shape
        of_sums, of_squares = sum_types(dtype)
        return cls(
            np.zeros((k, dim), of_sums),
            np.zeros(k, np.int64),
            np.zeros(k, of_squares),
            centroids.astype(np.float64) if dtype.kind == "f" else np.zeros(dim),
        )

    def __iadd__(self, other: "ClusterSums") -> "ClusterSums":
        """Assumes one type of rows; those about other points are brought to these."""
        sums, squares = other.sums, other.squares
        # Pieces of a pass carry the very origin of its sums, which is not worth comparing.
        if other.origin is not self.origin and not np.array_equal(self.origin, other.origin):
            sums, squares = other._about(self.origin)
        self.sums += sums
        self.counts += other.counts
        self.squares += squares
        return self

    def _about(self, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums and squares of float rows less other points, (k, d) or (d,)."""
        way = self.origin - origin
        counts = self.counts[:, np.newaxis]
        squares = self.squares + ((2 * self.sums + counts * way) * way).sum(axis=1)
        return self.sums + counts * way, squares

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

    def scaled(self, factor: float) -> "ClusterSums":
        """Of float rows multiplied by a power of two; what leaves the range is infinite or zero."""
        with np.errstate(over="ignore"):
            squares = self.squares * factor * factor
        return ClusterSums(self.sums * factor, self.counts, squares, self.origin * factor)

    def sse(self, centroids: np.ndarray) -> np.ndarray:
        """Sum of squared distances of each cluster's rows to its centroid, (k,) float64.

        By Σ|x − c|² = Σ|x|² − 2 c·Σx + n|c|², in which the sums are exact. Where little is left
        of its terms: about whole numbers next to the centroids, which is exact for integer rows.
        centroids: (k, d), those that the rows were assigned to.
        """
        wide = centroids.astype(np.float64) - self.origin
        sse = _remainder(wide, self.sums, self.counts, self.squares)
        if self.sums.dtype != np.int64:
            return sse
        near = np.flatnonzero(sse < CANCELLED * self.squares)
        # Modulo 2^64: only what is left must fit.
        whole = np.rint(wide[near]).astype(np.int64)
        sums, counts = self.sums[near], self.counts[near]
        squares = self.squares[near]
        if squares.dtype != np.int64:
            squares = np.fmod(squares, 2.0**64).astype(np.uint64).view(np.int64)
        squares = squares - ((2 * sums - counts[:, np.newaxis] * whole) * whole).sum(axis=1)
        sums = sums - counts[:, np.newaxis] * whole
        sse[near] = _remainder(wide[near] - whole, sums, counts, squares)
        return sse

    def mean_variance(self) -> float:
        """Mean over the columns of the variance of all rows, the scale of `tol`."""
        n, (_, dim) = self.n_rows, self.sums.shape
        sums, squares = self.sums, self.squares
        if self.origin.ndim > 1:
            means = self.means(self.origin)
            sums, squares = self._about(np.average(means, axis=0, weights=self.counts))
        column_means = sums.sum(axis=0) / n
        total = squares.sum(dtype=np.float64)
        return max(float(total / n - column_means @ column_means) / dim, 0.0)


def sum_types(rows: np.dtype) -> tuple[np.dtype, np.dtype]:
    """Types of the sums of such rows, and of the sums of their squares."""
    whole, wide = np.dtype(np.int64), np.dtype(np.float64)
    return wide if rows.kind == "f" else whole, whole if rows.itemsize == 1 else wide


def _remainder(
    centroids: np.ndarray, sums: np.ndarray, counts: np.ndarray, squares: np.ndarray
) -> np.ndarray:
    """Σ|x|² − 2 c·Σx + n|c|² in float64; see `ClusterSums`."""
    cross = np.einsum("kd,kd->k", centroids, sums.astype(np.float64))
    norms = np.einsum("kd,kd->k", centroids, centroids)
    return np.maximum(squares - 2 * cross + counts * norms, 0.0)
