"""A table of exact sums on a device that adds 64 bits by index."""

import numpy as np
import torch


class TotalsTable:
    """What a device holds of `ByteTotals`: (k, d + 2) int64: sums, count, squares."""

    def __init__(self, device: torch.device, k: int, dim: int) -> None:
        self._dim = dim
        self._table = torch.zeros((k, dim + 2), dtype=torch.int64, device=device)

    def inherit(self, heirs: torch.Tensor, k: int) -> None:
        """Give the sums of each cluster to another one of k. heirs: (k before,) int64."""
        mine = self._table
        self._table = mine.new_zeros((k, mine.shape[1])).index_add_(0, heirs, mine)

    def fetch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums (k, d), counts (k,), sums of squared lengths (k,), all int64, on the host."""
        dim, found = self._dim, self._table.cpu().numpy()
        # Copies: on a CPU the table's own memory goes on changing.
        return found[:, :dim].copy(), found[:, dim].copy(), found[:, dim + 1].copy()
