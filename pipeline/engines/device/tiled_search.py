"""Nearest centroids by torch on any device: tiles of rows against tiles of centroids.

On a CPU rows are cut into pieces, one thread each with torch kept to one thread inside: threads
that meet at a barrier after every small operation lose most of their time as soon as another
process wants a core.

Dtypes: stored integers of 8 or 16 bits, float32 or float64; compute float32 (float64 for float64
rows) with bounded rounding, float64 where that cannot tell; returned labels of the type that the
caller brings.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from pipeline.engines.cpu.centroid_table import duplicates
from pipeline.engines.device.float64_ties import Float64Ties, slack_of, unclear
from pipeline.engines.device.kernels import widened
from pipeline.engines.ordered_sums import piece_rows
from pipeline.rows.units import scale_of
from pipeline.runtime.devices import has_float64, thread_count
from storage.errors import InputError

TILE_CENTROIDS = 1024
TILE_BYTES = {
    "cpu": 2 << 20,  # about what a core's cache holds
    "cuda": 256 << 20,
    "mps": 64 << 20,
}
MIN_TILE_ROWS, MAX_TILE_ROWS = 256, 1 << 16


class TileSearch:
    """Finds the nearest centroid of each row, ties to the lowest index.

    Distances never exist for more than one tile. device: where it computes. dim, dtype: of the
    rows.
    Raises: InputError for float64 rows on a device that has no float64.
    """

    def __init__(self, device: torch.device, dim: int, dtype: np.dtype) -> None:
        wide = dtype == np.float64
        if wide and not has_float64(device):
            raise InputError(
                f"{device} has no float64, which {dtype} rows need: use float32, or device cpu"
            )
        self.compute = torch.float64 if wide else torch.float32
        self.device, self._dim, self._dtype = device, dim, dtype
        self._slack = slack_of(dim, self.compute)
        self._threads = None
        if device.type == "cpu":
            one_thread = partial(torch.set_num_threads, 1)
            self._threads = ThreadPoolExecutor(thread_count(), "assign", one_thread)

    def load(self, centroids: np.ndarray) -> None:
        k = len(centroids)
        shift, scale = self._frame(centroids.astype(np.float64))
        near = torch.from_numpy(shift).to(self.compute)
        again, _ = duplicates(centroids)
        shifted = (torch.from_numpy(centroids).double() - near.double()) * scale
        norms = (0.5 * (shifted * shifted).sum(1)).to(self.compute)
        norms[torch.from_numpy(again)] = torch.inf
        columns = shifted.T.to(self.compute)
        self._shift, self._scale = near.to(self.device), scale
        # Each tile by itself: MPS has gone wrong with matrices that are parts of another.
        self._tiles = [
            (
                columns[:, first : first + TILE_CENTROIDS].contiguous().to(self.device),
                norms[first : first + TILE_CENTROIDS].to(self.device),
            )
            for first in range(0, k, TILE_CENTROIDS)
        ]
        self._width = min(k, TILE_CENTROIDS)
        self._ties = Float64Ties(self.device, centroids, near.double().numpy(), scale, again)
        self._tile_rows = self._rows_at_once(k)

    def _frame(self, centroids: np.ndarray) -> tuple[np.ndarray, float]:
        """Shift and scale under which scores are taken; centroids: (k, d) float64.

        Neither changes which is nearest. The shift spends the digits on differences instead of on
        the mean; a whole-number one keeps integer rows exact. The scale keeps squares in range.
        """
        mean = centroids.mean(axis=0)
        if self._dtype.kind in "ui":
            return np.rint(mean), 1.0
        return mean, scale_of(float(np.abs(centroids - mean).max()), self._dtype)

    def label(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        if self._threads is None:
            self._label(rows, labels)
            return
        size = piece_rows(rows.shape[1])
        done = self._threads.map(self._label, rows.split(size), labels.split(size))
        deque(done, maxlen=0)

    def _label(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        size = min(self._tile_rows, len(rows)) * self._width
        scores = torch.empty(size, dtype=self.compute, device=self.device)
        for start in range(0, len(rows), self._tile_rows):
            wide = widened(rows[start : start + self._tile_rows], self._dtype, self.compute)
            # |x − c|² / 2 less the part that is the row's own
            tile = wide - self._shift
            if self._scale != 1:
                tile *= self._scale
            best, label, second = self._two_lowest(tile, scores, 0)
            for number in range(1, len(self._tiles)):
                score, index, other = self._two_lowest(tile, scores, number)
                second = torch.minimum(torch.minimum(second, other), torch.maximum(best, score))
                label = torch.where(score < best, index, label)
                best = torch.minimum(best, score)
            where = unclear(best, second, (tile * tile).sum(1), self._slack)
            labels[start : start + self._tile_rows] = self._ties.settle(wide, label, where)

    def search_bytes(self, k: int) -> int:
        """Device memory that the search takes beside rows and labels, in bytes, at most."""
        itemsize, dim = self.compute.itemsize, self._dim
        tile_rows, width = self._rows_at_once(k), min(k, TILE_CENTROIDS)
        # the row as read, widened, shifted and squared, scores and labels of two tiles and their
        # comparison
        tile = tile_rows * (4 * itemsize * dim + itemsize * width + 9 * 8)
        if has_float64(self.device):
            tile += Float64Ties.bytes(k, dim, tile_rows)
        if self._threads is not None:
            tile *= thread_count()
        return tile + k * (itemsize * (dim + 1) + 8) + itemsize * dim

    def _rows_at_once(self, k: int) -> int:
        row = min(k, TILE_CENTROIDS) * self.compute.itemsize
        return min(max(TILE_BYTES[self.device.type] // row, MIN_TILE_ROWS), MAX_TILE_ROWS)

    def _two_lowest(
        self, tile: torch.Tensor, scores: torch.Tensor, number: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The lowest score among a tile of centroids, whose it is, and the next; (n,) each."""
        columns, norms = self._tiles[number]
        scores = scores[: len(tile) * len(norms)].view(len(tile), len(norms))
        torch.addmm(norms, tile, columns, alpha=-1, out=scores)
        score, index = torch.min(scores, dim=1)
        scores.scatter_(1, index[:, None], torch.inf)
        return score, index + number * TILE_CENTROIDS, scores.amin(1)
