"""Sums of labelled rows by torch, piece by piece: one order of additions for every engine."""

import numpy as np
import torch

from pipeline.rows.cluster_sums import ClusterSums, squares_fit_float32
from pipeline.runtime.devices import CPU, has_float64

# At most so many rows are summed at once: float32 adds a column of them exactly, 65,536 · 255
# being less than 2^24.
MAX_PIECE_ROWS = 1 << 16
PIECE_BYTES = 2 << 20  # of a piece in float32


def piece_rows(dim: int) -> int:
    """Rows summed at once: fixed by the dimension alone, so that float sums are reproducible."""
    return min(MAX_PIECE_ROWS, 1 << max(8, (PIECE_BYTES // (4 * dim)).bit_length() - 1))


class PieceSums:
    """Sums up rows of one type, exactly for integers: each partial sum fits its float type.

    device: where the rows are. dim, dtype: of the rows.
    """

    def __init__(self, device: torch.device, dim: int, dtype: np.dtype) -> None:
        # Column sums of a piece and squared lengths of a row, each in the narrowest exact type.
        self._sum_dtype = torch.float32 if dtype == np.uint8 else torch.float64
        exact = squares_fit_float32(dtype, dim)
        self._square_dtype = torch.float32 if exact else torch.float64
        # Without float64 all is added on the host.
        self._device = device if has_float64(device) else CPU
        self._dtype, self._integers = dtype, dtype.kind in "ui"
        # Where bincount adds weights as the rows come, in a thirtieth of the time of bags; a GPU
        # adds them as its threads come.
        self._in_order = self._device.type == "cpu"

    def sum_up(
        self, piece: torch.Tensor, labels: torch.Tensor, k: int, origin: np.ndarray
    ) -> ClusterSums:
        """Sums of one piece. piece: (n, d) as stored. labels: (n,) int32 or int64.

        uint16 also as the int16 of the same bits. origin: (d,) float64, taken off float rows first.
        """
        piece, labels = piece.to(self._device), labels.to(self._device)
        if self._dtype == np.uint16:
            piece = piece.view(torch.uint16)
        if not self._integers:
            piece = piece.to(torch.float64) - torch.from_numpy(origin).to(self._device)
        order = torch.argsort(labels, stable=True)
        counts = torch.bincount(labels, minlength=k)
        starts = counts.cumsum(0) - counts
        sums = _added(piece.to(self._sum_dtype), order, starts)
        lengths = piece.to(self._square_dtype).square().sum(1, dtype=self._square_dtype)
        if self._in_order:
            squares = torch.bincount(labels, weights=lengths.double(), minlength=k)
        else:
            squares = _added(lengths.double()[:, None], order, starts)[:, 0]
        zeros = ClusterSums.zeros(0, 0, self._dtype)
        return ClusterSums(
            sums.cpu().numpy().astype(zeros.sums.dtype),
            counts.cpu().numpy(),
            squares.cpu().numpy().astype(zeros.squares.dtype),
            zeros.origin,
        )


def _added(values: torch.Tensor, order: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Sums of consecutive rows of values[order], each from one of `starts` on, one after the other.

    values: (n, d) floats. order: (n,), starts: (k,), both int64. Returns: (k, d).
    """
    return torch.nn.functional.embedding_bag(order, values, starts, mode="sum")
