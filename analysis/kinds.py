"""What the centroids are: a stated rule that calls each flat, an edge, a stroke, or other.

The rule, on a centroid's grey values (the mean of its channels):
    flat:    the standard deviation of its pixels is below FLAT of the largest level;
    edge, stroke: not flat, and its gradients share an orientation: the structure tensor's
             coherence (l1 - l2) / (l1 + l2) is at least ORIENTED; an edge when at least half of
             its variance is odd (turns its sign under a turn by 180°), else a stroke;
    other:   the rest: corners, ends, crossings, spots.
Source of the structure tensor: Bigün and Granlund, "Optimal orientation detection of linear
symmetry", ICCV 1987.
"""

from dataclasses import dataclass

import numpy as np

FLAT = 0.05  # of the largest level
ORIENTED = 0.5  # coherence, 0 none … 1 one orientation
KINDS = ("flat", "edge", "stroke", "other")


@dataclass(frozen=True)
class KindShares:
    """Shares of each kind in KINDS, among centroids and among the patches that use them."""

    centroids: dict[str, float]
    patches: dict[str, float]


def kinds_of(centroids: np.ndarray, largest: float) -> np.ndarray:
    """Kind of each centroid; centroids: (k, rows, cols[, channels]) -> (k,) indices into KINDS."""
    grey = centroids.astype(np.float64)
    if grey.ndim == 4:
        grey = grey.mean(axis=3)
    centred = grey - grey.mean(axis=(1, 2), keepdims=True)
    variance = (centred**2).mean(axis=(1, 2))
    odd = (centred - centred[:, ::-1, ::-1]) / 2
    odd_share = (odd**2).mean(axis=(1, 2)) >= 0.5 * variance
    kinds = np.where(odd_share, KINDS.index("edge"), KINDS.index("stroke"))
    kinds[_coherence(grey) < ORIENTED] = KINDS.index("other")
    kinds[np.sqrt(variance) < FLAT * largest] = KINDS.index("flat")
    return kinds


def shares_of(centroids: np.ndarray, counts: np.ndarray, largest: float) -> KindShares:
    """Shares of each kind; counts: (k,) rows of each centroid."""
    kinds = kinds_of(centroids, largest)
    of_centroids = np.bincount(kinds, minlength=len(KINDS)) / len(kinds)
    of_patches = np.bincount(kinds, weights=counts, minlength=len(KINDS)) / counts.sum()
    return KindShares(
        dict(zip(KINDS, of_centroids.tolist(), strict=True)),
        dict(zip(KINDS, of_patches.tolist(), strict=True)),
    )


def _coherence(grey: np.ndarray) -> np.ndarray:
    """How much the gradients of each patch share one orientation; (k, rows, cols) -> (k,)."""
    # A patch of one row or column has gradients one way only.
    down, across = (
        np.gradient(grey, axis=axis) if grey.shape[axis] > 1 else np.zeros_like(grey)
        for axis in (1, 2)
    )
    xx, yy, xy = ((a * b).sum(axis=(1, 2)) for a, b in ((across,) * 2, (down,) * 2, (across, down)))
    energy = xx + yy
    return np.sqrt((xx - yy) ** 2 + 4 * xy**2) / np.maximum(energy, np.finfo(float).tiny)
