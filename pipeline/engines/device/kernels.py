"""What a device must be able to do for the engine that keeps rows on it.

All of it may be asynchronous: what is asked of one object is done in the order in which it was
asked, and only `ByteTotals.fetch` waits.
"""

from typing import Protocol

import numpy as np
import torch

UNLABELLED = -1  # label of a row that no sum holds yet


class ByteTotals(Protocol):
    """Sums of byte rows by cluster: whole numbers, exact in any order."""

    def add(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        """Add all rows. rows: (n, d) of one byte each. labels: (n,) int32; both on the device."""

    def move(self, rows: torch.Tensor, before: torch.Tensor, labels: torch.Tensor) -> None:
        """Take rows whose label changed from one sum and add them to another.

        before: (n,) int32, the labels under which the sums hold them; UNLABELLED: not at all.
        """

    def inherit(self, heirs: torch.Tensor, k: int) -> None:
        """Give the sums of each cluster to another one of k. heirs: (k before,) int64."""

    def fetch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums (k, d), counts (k,), sums of squared lengths (k,), all int64, on the host."""


class DeviceKernels(Protocol):
    """Nearest centroids and sums on one device, for rows of one type and dimension.

    moves: whether `ByteTotals.move` pays, so that labels are worth keeping.
    row_dtype: how rows lie on the device: as stored, or the same bits as another type.
    """

    device: torch.device
    row_dtype: torch.dtype
    moves: bool

    def load(self, centroids: np.ndarray) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32 or float64."""

    def label(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        """Nearest centroid of each row, ties to the lowest index, into `labels`.

        rows: (n, d) as stored, contiguous. labels: (n,) int32, contiguous; both on the device.
        """

    def totals(self, k: int) -> ByteTotals:
        """Sums of no rows yet, for rows of one byte."""

    def device_bytes(self, k: int) -> int:
        """Device memory that they take beside rows and labels, at most, for k centroids."""

    def host_bytes(self, k: int) -> int:
        """Host memory that they take, at most, for k centroids."""
