"""Nearest centroids by torch on any device: tiles of rows against tiles of centroids.

On a CPU rows are cut into pieces, one thread each with torch kept to one thread inside: threads
that meet at a barrier after every small operation lose most of their time as soon as another
process wants a core.

Dtypes: stored integers of 8 or 16 bits, float32 or float64; compute float32 (float64 for float64
rows); returned labels of the type that the caller brings.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from pipeline.engines.device.kernels import first_of_equals
from pipeline.engines.ordered_sums import piece_rows
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
        self._threads = None
        if device.type == "cpu":
            one_thread = partial(torch.set_num_threads, 1)
            self._threads = ThreadPoolExecutor(thread_count(), "assign", one_thread)

    def load(self, centroids: np.ndarray) -> None:
        k = len(centroids)
        wide = centroids.astype(np.float64)
        # Distances do not change under a shift. It spends the digits on differences instead of on
        # the mean; a whole-number one keeps integer rows exact.
        shift = wide.mean(axis=0)
        shift = np.rint(shift) if self._dtype.kind in "ui" else shift
        near = torch.from_numpy(shift).to(self.compute)
        shifted = torch.from_numpy(wide) - near.double()
        norms = (0.5 * (shifted * shifted).sum(1)).to(self.compute)
        columns = shifted.T.to(self.compute)
        self._shift = near.to(self.device)
        # Each tile by itself: MPS has gone wrong with matrices that are parts of another.
        self._tiles = [
            (
                columns[:, first : first + TILE_CENTROIDS].contiguous().to(self.device),
                norms[first : first + TILE_CENTROIDS].to(self.device),
            )
            for first in range(0, k, TILE_CENTROIDS)
        ]
        self._width = min(k, TILE_CENTROIDS)
        first = first_of_equals(centroids)
        self._first = None if first is None else torch.from_numpy(first).to(self.device)
        self._tile_rows = self._rows_at_once(k)

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
            # |x − c|² / 2 less the part that is the row's own
            tile = self._widened(rows[start : start + self._tile_rows]) - self._shift
            best, label = self._tile_minimum(tile, scores, 0)
            for number in range(1, len(self._tiles)):
                score, index = self._tile_minimum(tile, scores, number)
                nearer = score < best  # strictly: ties stay with the lower index
                best = torch.where(nearer, score, best)
                label = torch.where(nearer, index, label)
            if self._first is not None:
                label = torch.index_select(self._first, 0, label)
            labels[start : start + self._tile_rows] = label

    def search_bytes(self, k: int) -> int:
        """Device memory that the search takes beside rows and labels, in bytes, at most."""
        itemsize, dim = self.compute.itemsize, self._dim
        tile_rows, width = self._rows_at_once(k), min(k, TILE_CENTROIDS)
        # the row as read, widened and shifted, scores and labels of two tiles and their comparison
        tile = tile_rows * (3 * itemsize * dim + itemsize * width + 5 * 8)
        if self._threads is not None:
            tile *= thread_count()
        return tile + k * (itemsize * (dim + 1) + 8) + itemsize * dim

    def _rows_at_once(self, k: int) -> int:
        row = min(k, TILE_CENTROIDS) * self.compute.itemsize
        return min(max(TILE_BYTES[self.device.type] // row, MIN_TILE_ROWS), MAX_TILE_ROWS)

    def _widened(self, rows: torch.Tensor) -> torch.Tensor:
        wide = rows.to(self.compute)
        if self._dtype == np.uint16 and rows.dtype == torch.int16:
            wide = torch.where(wide < 0, wide + 65536, wide)
        return wide

    def _tile_minimum(
        self, tile: torch.Tensor, scores: torch.Tensor, number: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        columns, norms = self._tiles[number]
        scores = scores[: len(tile) * len(norms)].view(len(tile), len(norms))
        torch.addmm(norms, tile, columns, alpha=-1, out=scores)
        score, index = torch.min(scores, dim=1)
        return score, index + number * TILE_CENTROIDS
