"""The plain assignment engine for CPUs: every row against every centroid, by torch.

The reference for the others. Distances never exist for more than one tile of rows × centroids.

Rows are cut into pieces, one thread each with torch kept to one thread inside: threads that meet
at a barrier after every small operation lose most of their time as soon as another process wants a
core.

Dtypes: stored integers of 8 or 16 bits, float32 or float64; compute float32 (float64 for float64
rows); accumulate int64 for integers, float64 for floats; returned labels int64.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from pipeline.devices import CPU, thread_count
from pipeline.engines.passing import sum_blocks
from pipeline.engines.piece_sums import PieceSums, piece_rows
from pipeline.progress import Progress
from pipeline.streaming import Source
from pipeline.sums import ClusterSums

TILE_CENTROIDS = 1024
TILE_BYTES = 2 << 20  # about what a core's cache holds
MIN_TILE_ROWS, MAX_TILE_ROWS = 256, 1 << 16
T = TypeVar("T")


def projected_bytes(k: int, dim: int) -> int:
    """Host memory that an engine needs beside its rows, in bytes, at most.

    For each thread a tile of scores, a piece of rows in float64 twice, and its sums in three forms.
    """
    per_thread = TILE_BYTES + 2 * 8 * dim * piece_rows(dim) + 4 * 8 * k * dim
    return thread_count() * per_thread


class DenseEngine:
    """Assigns rows to their nearest centroid, ties to the lowest index; on the CPU.

    dim, dtype: of the rows.
    Memory: `projected_bytes`.
    """

    def __init__(self, dim: int, dtype: np.dtype) -> None:
        self.compute = torch.float64 if dtype == np.float64 else torch.float32
        self._sums = PieceSums(CPU, dim, dtype)
        self._integers = dtype.kind in "ui"
        self._piece_rows = piece_rows(dim)
        one_thread = partial(torch.set_num_threads, 1)
        self._threads = ThreadPoolExecutor(thread_count(), "assign", one_thread)

    def remember(self, source: object, folder: object = None, blocks: object = None) -> None:
        """Nothing: every pass compares every row with every centroid."""

    def load(self, centroids: np.ndarray, memory: object = None) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32 or float64."""
        k = len(centroids)
        wide = centroids.astype(np.float64)
        # Distances do not change under a shift. It spends the digits on differences instead of on
        # the mean; a whole-number one keeps integer rows exact.
        shift = wide.mean(axis=0)
        shift = np.rint(shift) if self._integers else shift
        self._shift = torch.from_numpy(shift).to(self.compute)
        shifted = torch.from_numpy(wide) - self._shift.double()
        self._half_norms = (0.5 * (shifted * shifted).sum(1)).to(self.compute)
        self._transposed = shifted.T.contiguous().to(self.compute)
        self._k = k
        self._first = self._first_of_equals(centroids)
        width = min(k, TILE_CENTROIDS)
        itemsize = self._shift.element_size()
        rows = TILE_BYTES // (width * itemsize)
        self._tile_rows = min(max(rows, MIN_TILE_ROWS), MAX_TILE_ROWS)

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """Index of the nearest centroid of each row. rows: (n, d). Returns: (n,) int64."""
        return np.concatenate(list(self._map(lambda piece: self._nearest(piece).numpy(), rows)))

    def sum_up(
        self,
        source: Source,
        blocks: range,
        centroids: np.ndarray,
        memory: None,
        progress: Progress,
        heirs: np.ndarray | None = None,
    ) -> ClusterSums:
        """Sums over the rows of some blocks, assigned to `centroids`; see `AssignmentEngine`."""
        return sum_blocks(self, source, blocks, centroids, memory, progress, heirs)

    def step(self, rows: np.ndarray, into: ClusterSums, index: int | None = None) -> None:
        """Assign the rows and add them to `into`, in place. rows: (n, d)."""

        def work(piece: torch.Tensor) -> ClusterSums:
            return self._sums.sum_up(piece, self._nearest(piece), self._k, into.origin)

        for sums in self._map(work, rows):
            into += sums  # in the order of the rows

    def _map(self, work: Callable[[torch.Tensor], T], rows: np.ndarray) -> Iterator[T]:
        """Results of `work` for each piece of the rows, in order."""
        return self._threads.map(work, torch.from_numpy(rows).split(self._piece_rows))

    def _nearest(self, piece: torch.Tensor) -> torch.Tensor:
        """piece: (n, d) as stored -> labels (n,) int64."""
        labels = torch.empty(len(piece), dtype=torch.int64)
        size = min(self._tile_rows, len(piece)) * min(self._k, TILE_CENTROIDS)
        buffer = torch.empty(size, dtype=self.compute)
        for start in range(0, len(piece), self._tile_rows):
            # |x − c|² / 2 less the part that is the row's own
            tile = piece[start : start + self._tile_rows].to(self.compute) - self._shift
            best, label = self._tile_minimum(tile, buffer, 0)
            for first in range(TILE_CENTROIDS, self._k, TILE_CENTROIDS):
                score, index = self._tile_minimum(tile, buffer, first)
                nearer = score < best  # strictly: ties stay with the lower index
                best = torch.where(nearer, score, best)
                label = torch.where(nearer, index, label)
            labels[start : start + self._tile_rows] = label
        return labels if self._first is None else self._first[labels]

    def _tile_minimum(
        self, tile: torch.Tensor, buffer: torch.Tensor, first: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        norms = self._half_norms[first : first + TILE_CENTROIDS]
        scores = buffer[: len(tile) * len(norms)].view(len(tile), len(norms))
        columns = self._transposed[:, first : first + TILE_CENTROIDS]
        torch.addmm(norms, tile, columns, alpha=-1, out=scores)
        score, index = torch.min(scores, dim=1)
        return score, index + first

    def _first_of_equals(self, centroids: np.ndarray) -> torch.Tensor | None:
        """Lowest index among equal centroids, (k,) int64; None where all differ.

        Rounding may differ from one place of a matrix product to another, so equal centroids are
        not left to the comparison of scores.
        """
        _, first, inverse = np.unique(centroids, axis=0, return_index=True, return_inverse=True)
        if len(first) == len(centroids):
            return None
        return torch.from_numpy(first[inverse.reshape(-1)])
