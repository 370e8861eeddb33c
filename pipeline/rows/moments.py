"""Sums over blocks of rows, piece by piece: mean, variance and covariance, as float64."""

import numpy as np

_PIECE_VALUES = 1 << 18  # of rows that are worked on at once, in a core's cache


def pieces(n: int, dim: int) -> list[slice]:
    """Rows in pieces, the same whatever the number of threads."""
    step = max(1, _PIECE_VALUES // dim)
    return [slice(first, first + step) for first in range(0, n, step)]


class Moments:
    """Of rows that are added block after block; the bits hang on their order and their blocks.

    origin: (d,) float64, near their mean, which is taken away first. pairs: whether products of
    columns are added up, for `covariance`, or squares alone, for `variance`.
    """

    def __init__(self, origin: np.ndarray, *, pairs: bool) -> None:
        self._origin, self._n, self._sums = origin, 0, np.zeros(len(origin))
        self._gram = np.zeros((len(origin), len(origin))) if pairs else None
        self._squares = 0.0

    def add(self, rows: np.ndarray) -> None:
        """Add rows, (n, d)."""
        for part in pieces(*rows.shape):
            wide = rows[part] - self._origin
            self._sums += wide.sum(axis=0)
            if self._gram is None:
                self._squares += float(np.einsum("nd,nd->", wide, wide))
            else:
                self._gram += wide.T @ wide
        self._n += len(rows)

    @property
    def mean(self) -> np.ndarray:
        """(d,) float64."""
        return self._origin + self._sums / self._n

    @property
    def variance(self) -> float:
        """About the mean, the mean over columns."""
        n, dim = self._n, len(self._origin)
        return max(0.0, self._squares / n - float(self._sums @ self._sums) / n**2) / dim

    def covariance(self) -> np.ndarray:
        """(d, d) float64, for the last time: it takes the place of the sums."""
        assert self._gram is not None
        apart = self._sums / self._n
        self._gram /= self._n
        self._gram -= np.outer(apart, apart)
        return self._gram
