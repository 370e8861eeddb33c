"""The plain assignment engine: every row against every centroid, by torch, on any device.

The reference for the others. Distances never exist for more than one tile of rows × centroids.

Dtypes: stored uint8, uint16, other integers or floats; compute float32 (float64 for rows that
float32 cannot hold); accumulate int64 for integers, float64 for floats; returned labels int64.
"""

import numpy as np
import torch

from pipeline.sums import ClusterSums
from storage.errors import InputError

# At most so many rows are summed at once: float32 adds a column of them exactly, 65,536 · 255
# being less than 2^24.
MAX_PIECE_ROWS = 1 << 16
PIECE_BYTES = 8 << 20  # of a piece in float32
TILE_CENTROIDS = 2048
TILE_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20, "mps": 64 << 20}
MIN_TILE_ROWS, MAX_TILE_ROWS = 256, 1 << 16
_FLOAT32_ROWS = ("uint8", "int8", "uint16", "int16", "float16", "float32")
_EXACT_FLOAT32 = 1 << 24


def piece_rows(dim: int) -> int:
    """Rows summed at once: fixed by the dimension alone, so that float sums are reproducible."""
    return min(MAX_PIECE_ROWS, 1 << max(8, (PIECE_BYTES // (4 * dim)).bit_length() - 1))


def projected_bytes(k: int, dim: int) -> int:
    """Host memory that an engine needs beside its rows, in bytes, at most.

    A tile of scores, a piece of rows in float64 twice, and its sums in three forms.
    """
    return TILE_BYTES["cpu"] + 2 * 8 * dim * piece_rows(dim) + 4 * 8 * k * dim


class DenseEngine:
    """Assigns rows to their nearest centroid, ties to the lowest index.

    device: where it computes. dim, dtype: of the rows.
    Memory: `projected_bytes`.
    """

    def __init__(self, device: torch.device, dim: int, dtype: np.dtype) -> None:
        wide = dtype.name not in _FLOAT32_ROWS
        if wide and device.type == "mps":
            raise InputError(f"MPS has no float64, which {dtype} rows need: use float32 or cpu")
        self.device = device
        self.compute = torch.float64 if wide else torch.float32
        # Column sums of a piece and squared lengths of a row, each in the narrowest exact type.
        narrow = dtype == np.uint8
        self._sum_dtype = torch.float32 if narrow else torch.float64
        short = narrow and dim * 255**2 < _EXACT_FLOAT32
        self._square_dtype = torch.float32 if short else torch.float64
        # MPS has no float64: what needs it is added on the host.
        self._sum_device = device if device.type != "mps" else torch.device("cpu")
        self._integers = dtype.kind in "ui"
        self._piece_rows = piece_rows(dim)

    def load(self, centroids: np.ndarray) -> None:
        """Take the centroids that the next calls assign to; centroids: (k, d) float32."""
        k, dim = centroids.shape
        wide = centroids.astype(np.float64)
        # Distances do not change under a shift; a whole-number one keeps integer rows exact and
        # spends float32's digits on differences instead of on the mean.
        shift = np.rint(wide.mean(axis=0))
        shifted = torch.from_numpy(wide - shift)
        self._shift = torch.from_numpy(shift).to(self.device, self.compute)
        self._half_norms = (0.5 * (shifted * shifted).sum(1)).to(self.device, self.compute)
        self._transposed = shifted.T.contiguous().to(self.device, self.compute)
        self._k, self._dim = k, dim
        self._first = self._first_of_equals(centroids)
        width = min(k, TILE_CENTROIDS)
        itemsize = self._shift.element_size()
        rows = TILE_BYTES[self.device.type] // (width * itemsize)
        self._tile_rows = min(max(rows, MIN_TILE_ROWS), MAX_TILE_ROWS)
        self._scores = torch.empty(self._tile_rows * width, dtype=self.compute, device=self.device)

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """Index of the nearest centroid of each row. rows: (n, d). Returns: (n,) int64."""
        labels = np.empty(len(rows), np.int64)
        for start in range(0, len(rows), self._piece_rows):
            piece = torch.from_numpy(rows[start : start + self._piece_rows]).to(self.device)
            labels[start : start + self._piece_rows] = self._nearest(piece).cpu().numpy()
        return labels

    def step(self, rows: np.ndarray, into: ClusterSums) -> None:
        """Assign the rows and add them to `into`, in place. rows: (n, d)."""
        for start in range(0, len(rows), self._piece_rows):
            piece = torch.from_numpy(rows[start : start + self._piece_rows]).to(self.device)
            into += self._sum_up(piece, self._nearest(piece))

    def _nearest(self, piece: torch.Tensor) -> torch.Tensor:
        """piece: (n, d) as stored -> labels (n,) int64, on the device."""
        labels = torch.empty(len(piece), dtype=torch.int64, device=self.device)
        for start in range(0, len(piece), self._tile_rows):
            # |x − c|² / 2 less the part that is the row's own
            tile = piece[start : start + self._tile_rows].to(self.compute).sub_(self._shift)
            best, label = self._tile_minimum(tile, 0)
            for first in range(TILE_CENTROIDS, self._k, TILE_CENTROIDS):
                score, index = self._tile_minimum(tile, first)
                nearer = score < best  # strictly: ties stay with the lower index
                best = torch.where(nearer, score, best)
                label = torch.where(nearer, index, label)
            labels[start : start + self._tile_rows] = label
        return labels if self._first is None else self._first[labels]

    def _tile_minimum(self, tile: torch.Tensor, first: int) -> tuple[torch.Tensor, torch.Tensor]:
        norms = self._half_norms[first : first + TILE_CENTROIDS]
        scores = self._scores[: len(tile) * len(norms)].view(len(tile), len(norms))
        columns = self._transposed[:, first : first + TILE_CENTROIDS]
        torch.addmm(norms, tile, columns, alpha=-1, out=scores)
        score, index = torch.min(scores, dim=1)
        return score, index + first

    def _sum_up(self, piece: torch.Tensor, labels: torch.Tensor) -> ClusterSums:
        """Sums of one piece, exact for integers: each partial sum fits its float type."""
        piece, labels = piece.to(self._sum_device), labels.to(self._sum_device)
        order = torch.argsort(labels, stable=True)
        counts = torch.bincount(labels, minlength=self._k)
        sums = torch.nn.functional.embedding_bag(
            order, piece.to(self._sum_dtype), counts.cumsum(0) - counts, mode="sum"
        )
        lengths = piece.to(self._square_dtype).square().sum(1, dtype=self._square_dtype)
        squares = torch.bincount(labels, weights=lengths.double(), minlength=self._k)
        total = np.int64 if self._integers else np.float64
        return ClusterSums(
            sums.cpu().numpy().astype(total),
            counts.cpu().numpy(),
            squares.cpu().numpy().astype(total),
        )

    def _first_of_equals(self, centroids: np.ndarray) -> torch.Tensor | None:
        """Lowest index among equal centroids, (k,) int64; None where all differ.

        Rounding may differ from one place of a matrix product to another, so equal centroids are
        not left to the comparison of scores.
        """
        _, first, inverse = np.unique(centroids, axis=0, return_index=True, return_inverse=True)
        if len(first) == len(centroids):
            return None
        return torch.from_numpy(first[inverse.reshape(-1)]).to(self.device)
