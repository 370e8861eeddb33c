"""What else assigns rows to their nearest centroids on a GPU.

Rows are widened to the peer's type before its time begins.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
import torch

from tests.benchmarks.gpu.ceilings import precision

SCORES_AT_ONCE = 1 << 28  # of rows × centroids: float32, 1 GiB
ITERATIONS = 2  # beyond the first
LEVELS = 256  # float16 ends at 65504, below most squared lengths, so its rows are divided by that


class Peer(Protocol):
    """A way to do a Lloyd iteration, ready for some rows and centroids."""

    def assign(self) -> object:
        """Labels of all rows."""

    def iterate(self, count: int) -> object:
        """So many iterations, and what comes before the first."""


class TorchPeer:
    """Scores chunk by chunk, the least of each row, sums by index; all in float32.

    scores: of rows (m, d) and centroids (k, d), (m, k). tf32: whether products may be rounded.
    """

    def __init__(
        self,
        scores: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        rows: torch.Tensor,
        centroids: np.ndarray,
        *,
        tf32: bool,
    ) -> None:
        self._scores, self._tf32 = scores, tf32
        self._rows = rows.float()
        self._centroids = torch.from_numpy(centroids).to(rows.device)
        self._chunk = max(1, SCORES_AT_ONCE // len(centroids))

    def assign(self) -> torch.Tensor:
        return self._labels(self._centroids)

    def iterate(self, count: int) -> torch.Tensor:
        centroids, (k, _) = self._centroids, self._centroids.shape
        for _ in range(count):
            labels = self._labels(centroids)
            sums = torch.zeros_like(centroids).index_add_(0, labels, self._rows)
            counts = torch.bincount(labels, minlength=k)[:, None]
            centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
        return centroids

    def _labels(self, centroids: torch.Tensor) -> torch.Tensor:
        with precision(tf32=self._tf32):
            parts = [self._scores(x, centroids).argmin(1) for x in self._rows.split(self._chunk)]
        return torch.cat(parts)


def by_product(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Half squared distances less what is the row's own, as one matrix product."""
    half_norms = 0.5 * centroids.square().sum(1)
    return torch.addmm(half_norms, rows, centroids.T, alpha=-1)


class FlashPeer:
    """The package flash-kmeans: its assignment kernel, and its loop.

    Raises: ImportError where it is not installed.
    """

    def __init__(self, rows: torch.Tensor, centroids: np.ndarray, *, dtype: torch.dtype) -> None:
        from flash_kmeans import batch_kmeans_Euclid  # not a dependency
        from flash_kmeans.assign_euclid_triton import euclid_assign_triton

        self._loop, self._assign = batch_kmeans_Euclid, euclid_assign_triton
        scale = LEVELS if dtype == torch.float16 else 1
        self._rows = (rows.to(dtype) / scale)[None]  # of one batch
        self._centroids = (torch.from_numpy(centroids).to(rows.device) / scale).to(dtype)[None]
        self._lengths = self._rows.square().sum(-1)

    def assign(self) -> torch.Tensor:
        return self._assign(self._rows, self._centroids, self._lengths)

    def iterate(self, count: int) -> object:
        k = self._centroids.shape[1]
        start = self._centroids.clone()
        return self._loop(self._rows, k, max_iters=count, tol=0.0, init_centroids=start)


PEERS: dict[str, Callable[[torch.Tensor, np.ndarray], Peer]] = {
    "torch cdist + argmin": partial(TorchPeer, torch.cdist, tf32=False),
    "torch matmul + argmin": partial(TorchPeer, by_product, tf32=False),
    "the same, TF32": partial(TorchPeer, by_product, tf32=True),
    "flash-kmeans float32": partial(FlashPeer, dtype=torch.float32),
    "flash-kmeans float16": partial(FlashPeer, dtype=torch.float16),
}
