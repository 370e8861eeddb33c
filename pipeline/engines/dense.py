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
from contextlib import closing
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from pipeline.engines.device.tiled_search import TILE_BYTES, TileSearch
from pipeline.engines.ordered_sums import piece_rows, sum_piece
from pipeline.rows.cluster_sums import ClusterSums, empty_sums
from pipeline.rows.source import RowSource, read_ahead
from pipeline.runtime.devices import thread_count
from pipeline.runtime.progress import Progress

T = TypeVar("T")


def projected_bytes(k: int, dim: int) -> int:
    """Host memory that an engine needs beside its rows, in bytes, at most.

    For each thread a tile of scores, a piece of rows in float64 twice, and its sums in three forms.
    """
    per_thread = TILE_BYTES["cpu"] + 2 * 8 * dim * piece_rows(dim) + 4 * 8 * k * dim
    return thread_count() * per_thread


class DenseEngine:
    """Assigns rows to their nearest centroid, ties to the lowest index; on the CPU.

    dim, dtype: of the rows.
    Memory: `projected_bytes`.
    """

    def __init__(self, dim: int, dtype: np.dtype) -> None:
        self._search = TileSearch(torch.device("cpu"), dtype)
        self._piece_rows = piece_rows(dim)
        one_thread = partial(torch.set_num_threads, 1)
        self._threads = ThreadPoolExecutor(thread_count(), "assign", one_thread)

    def cache_for(self, source: object, folder: object = None, blocks: object = None) -> None:
        """Nothing: every pass compares every row with every centroid."""

    def load(self, centroids: np.ndarray) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32 or float64."""
        self._search.load(centroids)
        self._k = len(centroids)

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """Index of the nearest centroid of each row. rows: (n, d). Returns: (n,) int64."""
        return np.concatenate(list(self._map(lambda piece: self._nearest(piece).numpy(), rows)))

    def run_pass(
        self,
        source: RowSource,
        blocks: range,
        centroids: np.ndarray,
        cache: None,
        progress: Progress,
    ) -> ClusterSums:
        """Sums over the rows of some blocks, assigned to `centroids`; see `AssignmentEngine`."""
        self.load(centroids)
        sums = empty_sums(source, len(centroids))
        with closing(read_ahead(source, blocks)) as stream:
            for rows in stream:
                self.step(rows, sums)
                progress.advance(len(rows))
        return sums

    def step(self, rows: np.ndarray, into: ClusterSums) -> None:
        """Assign the rows and add them to `into`, in place. rows: (n, d)."""

        def work(piece: torch.Tensor) -> ClusterSums:
            labels = self._nearest(piece).numpy()
            return sum_piece(piece.numpy(), labels, self._k, into.origin)

        for sums in self._map(work, rows):
            into += sums  # in the order of the rows

    def _map(self, work: Callable[[torch.Tensor], T], rows: np.ndarray) -> Iterator[T]:
        """Results of `work` for each piece of the rows, in order."""
        return self._threads.map(work, torch.from_numpy(rows).split(self._piece_rows))

    def _nearest(self, piece: torch.Tensor) -> torch.Tensor:
        """piece: (n, d) as stored -> labels (n,) int64."""
        labels = torch.empty(len(piece), dtype=torch.int64)
        self._search.label(piece, labels)
        return labels
