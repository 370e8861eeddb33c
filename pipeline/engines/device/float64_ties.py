"""Where the scores of a device cannot tell which centroid is nearest: float64 decides.

Where the device has no float64, the host does it.
"""

import numpy as np
import torch

from pipeline.runtime.devices import has_float64

SCORE_BYTES = 4 << 20  # of the scores and differences that exist at once


def slack_of(dim: int, compute: torch.dtype) -> float:
    """Bound on the rounding of the score ½|c|² − x·c, relative to (|x| + |x − c|)².

    One rounding for each term of the product, one each for row, centroid, norm and difference, and
    as many again for bounds that are made of rounded values.
    """
    return (dim + 8) * torch.finfo(compute).eps / 2


def unclear(
    best: torch.Tensor, second: torch.Tensor, squares: torch.Tensor, slack: float
) -> torch.Tensor:
    """Whether rounding may have changed which score is the lowest; (n,) bool.

    best, second: (n,), the two lowest scores. squares: (n,), |x|². slack: see `slack_of`.
    """
    # Negated, so that what is no number is unclear too.
    return (second - best > score_error(best, squares, slack)).logical_not_()


def score_error(best: torch.Tensor, squares: torch.Tensor, slack: float) -> torch.Tensor:
    """How far above the lowest score that of the nearest centroid can be."""
    length = squares.sqrt() + (squares + 2 * best).clamp_(min=0).sqrt_()
    return 2 * slack * length * length


class Float64Ties:
    """The nearest centroid of rows in float64, ties to the lowest index.

    Args:
        device: where it computes if that has float64.
        centroids: (k, d) float32 or float64.
        shift: (d,) float64, taken off rows and centroids.
        scale: power of two by which they are multiplied then.
        again: (m,) int64, centroids that equal one before them, which are never nearest.
    """

    def __init__(
        self,
        device: torch.device,
        centroids: np.ndarray,
        shift: np.ndarray,
        scale: float,
        again: np.ndarray,
    ) -> None:
        self._device = device if has_float64(device) else torch.device("cpu")
        wide = centroids.astype(np.float64)
        near = (wide - shift) * scale
        half = 0.5 * (near * near).sum(axis=1)
        half[again] = np.inf
        self._centroids, self._columns = self._there(wide), self._there(near).T
        self._half = self._there(half)
        self._shift, self._scale = self._there(shift), scale
        self._slack = slack_of(centroids.shape[1], torch.float64)

    @staticmethod
    def bytes(k: int, dim: int, rows: int) -> int:
        """What the centroids take, and in addition deciding of so many rows at once, at most."""
        return 8 * k * (2 * dim + 1) + 6 * (SCORE_BYTES + 8 * k) + 8 * rows * (3 * dim + 4)

    def settle(self, rows: torch.Tensor, labels: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """The labels, decided in float64 where that is asked for; (n, d), (n,), (n,) bool."""
        (left,) = where.to(self._device).nonzero(as_tuple=True)
        if len(left) == 0:
            return labels
        found = self.decide(rows.index_select(0, left.to(rows.device)))
        # On the host where MPS computes, whose writing by index cannot be relied on.
        settled = labels.to(self._device)
        settled[left] = found.to(settled.dtype)
        return settled.to(labels.device)

    def decide(self, rows: torch.Tensor) -> torch.Tensor:
        """Labels, (n,) int64 where float64 is; rows: (n, d) in any float type."""
        wide = rows.to(self._device).double()
        size = max(1, SCORE_BYTES // (8 * len(self._half)))
        return torch.cat([self._decide(part) for part in wide.split(size)])

    def _decide(self, rows: torch.Tensor) -> torch.Tensor:
        near = (rows - self._shift) * self._scale
        scores = torch.addmm(self._half, near, self._columns, alpha=-1)
        best = scores.amin(1)
        error = score_error(best, near.square().sum(1), self._slack)
        # Negated, as above.
        near_enough = (scores > (best + error)[:, None]).logical_not_()
        of_row, of_centroid = near_enough.nonzero(as_tuple=True)
        size = max(1, SCORE_BYTES // (8 * rows.shape[1]))
        pairs = zip(of_row.split(size), of_centroid.split(size), strict=True)
        distances = torch.cat([self._squares(rows[i], j) for i, j in pairs])
        least = best.fill_(torch.inf).scatter_reduce_(0, of_row, distances, "amin")
        nearest = distances == least[of_row]
        labels = of_row.new_full((len(rows),), len(self._half))
        return labels.scatter_reduce_(0, of_row[nearest], of_centroid[nearest], "amin")

    def _squares(self, rows: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
        """From differences: nothing cancels. rows: (p, d). of: (p,) their centroids."""
        return ((rows - self._centroids[of]) * self._scale).square_().sum(1)

    def _there(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)
