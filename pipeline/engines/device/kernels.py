"""What a device must be able to do for the engine that keeps rows on it.

All of it may be asynchronous: what is asked of one object is done in the order in which it was
asked, and only `Uint8Sums.fetch` waits.
"""

from typing import Protocol

import numpy as np
import torch

UNLABELLED = -1  # label of a row that no sum holds yet


class Uint8Sums(Protocol):
    """Sums of byte rows by cluster on a device: whole numbers, exact in any order."""

    def add(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        """Add all rows. rows: (n, d) of one byte each. labels: (n,) int32; both on the device."""

    def move(self, rows: torch.Tensor, before: torch.Tensor, labels: torch.Tensor) -> None:
        """Take rows whose label changed from one sum and add them to another.

        before: (n,) int32, the labels under which the sums hold them; UNLABELLED: not at all.
        """

    def inherit(self, successors: torch.Tensor, k: int) -> None:
        """Give the sums of each cluster to another one of k. successors: (k before,) int64."""

    def fetch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums (k, d), counts (k,), sums of squared lengths (k,), all int64, on the host."""


class DeviceKernels(Protocol):
    """Nearest centroids and sums on one device, for rows of one type and dimension.

    sums_bytes: whether byte rows are added up on the device; else they are on the host, like all
    others.
    row_dtype: how rows lie on the device: as stored, or the same bits as another type.
    """

    device: torch.device
    row_dtype: torch.dtype
    sums_bytes: bool

    def load(self, centroids: np.ndarray) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32 or float64."""

    def label(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        """Nearest centroid of each row, ties to the lowest index, into `labels`.

        rows: (n, d) as stored, contiguous. labels: (n,) int32, contiguous; both on the device.
        """

    def sums(self, k: int) -> Uint8Sums:
        """Sums of no rows yet, for rows of one byte."""

    def device_bytes(self, k: int) -> int:
        """Device memory that they take beside rows and labels, at most, for k centroids."""

    def host_bytes(self, k: int) -> int:
        """Host memory that they take, at most, for k centroids."""


def widened(rows: torch.Tensor, dtype: np.dtype, compute: torch.dtype) -> torch.Tensor:
    """Rows as floats; those of uint16 may lie as the int16 of the same bits. dtype: of the rows."""
    wide = rows.to(compute)
    if dtype == np.uint16 and rows.dtype == torch.int16:
        wide = torch.where(wide < 0, wide + 65536, wide)
    return wide


class SumsTable:
    """What a device holds of `Uint8Sums`: (k, d + 2) int64: sums, count, squares."""

    def __init__(self, device: torch.device, k: int, dim: int) -> None:
        self._dim = dim
        self._table = torch.zeros((k, dim + 2), dtype=torch.int64, device=device)

    def inherit(self, successors: torch.Tensor, k: int) -> None:
        mine = self._table
        self._table = mine.new_zeros((k, mine.shape[1])).index_add_(0, successors, mine)

    def fetch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        dim, found = self._dim, self._table.cpu().numpy()
        # Copies: on a CPU the table's own memory goes on changing.
        return found[:, :dim].copy(), found[:, dim].copy(), found[:, dim + 1].copy()
