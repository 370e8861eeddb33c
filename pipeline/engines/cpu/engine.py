"""The exact assignment engine for CPUs: rows meet the centroids that may be nearest, not all.

With a guess a for row x at the distance r, a nearer centroid lies within 2r of c_a, by the triangle
inequality (Elkan 2003; Hamerly 2010). So rows are grouped by guess and scan the sorted neighbours
of its centroid. Rows whose stored bounds show that no other centroid can have come nearer are not
even read. A guess only decides the speed: labels are those of float64, ties to the lowest index.

Dtypes: stored integers of 8 or 16 bits, float32 or float64; compute float32 with bounded
rounding, float64 where that cannot tell; accumulate int64 for bytes, else as `ordered_sums` does;
returned labels int64.
"""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.engines.cpu.assignment_cache import (
    AssignmentCache,
    CachedAssignments,
    KnownTogether,
)
from pipeline.engines.cpu.bounds import BOUND_KERNELS
from pipeline.engines.cpu.labeller import Effort, Labeller
from pipeline.engines.cpu.neighbour_lists import LIST_ENTRIES, LIST_KERNELS
from pipeline.engines.cpu.scan.candidate_scan import scan_candidates
from pipeline.engines.cpu.threads import ThreadPool
from pipeline.engines.cpu.uint8_sums import add_rows, move_rows
from pipeline.engines.ordered_sums import piece_rows, sum_piece
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import RowSource, read_ahead
from pipeline.runtime.kernel_cache import compilation_told
from pipeline.runtime.progress import Progress

PRUNED_KERNELS = (scan_candidates, add_rows, move_rows, *BOUND_KERNELS, *LIST_KERNELS)


class PrunedEngine:
    """Assigns rows to their nearest centroid, ties to the lowest index; on the CPU.

    dim, dtype: of the rows. list_entries: see `KeptLists`. threads: that do the work. labeller:
    finds the labels.
    Memory: `PrunedSpec.host_bytes`.
    """

    def __init__(self, dim: int, dtype: np.dtype, list_entries: int = LIST_ENTRIES) -> None:
        self._dim, self._dtype, self._list_entries = dim, dtype, list_entries
        self.threads = ThreadPool()
        self.labeller = self._new_labeller()

    def _new_labeller(self) -> Labeller:
        return Labeller(dtype=self._dtype, threads=self.threads, list_entries=self._list_entries)

    @property
    def effort(self) -> Effort:
        """What was done since the last `load` or `run_pass`."""
        return self.labeller.effort

    def cache_for(
        self, source: RowSource, folder: Path | None = None, blocks: range | None = None
    ) -> AssignmentCache:
        return AssignmentCache(source.n_rows, source.block_rows, folder)

    def load(self, centroids: np.ndarray) -> None:
        self.labeller.begin(self._widened(centroids))

    def assign(self, rows: np.ndarray, guess: np.ndarray | None = None) -> np.ndarray:
        return self.labeller.find(rows, guess).label.astype(np.int64)

    def step(self, rows: np.ndarray, into: ClusterSums) -> None:
        self._add(rows, self.labeller.find(rows).label, into)

    def run_pass(
        self,
        source: RowSource,
        blocks: range,
        centroids: np.ndarray,
        cache: AssignmentCache | None,
        progress: Progress,
        *,
        goes_on: bool = False,
        at_once: int = 1,
    ) -> ClusterSums:
        together = [blocks[at : at + at_once] for at in range(0, len(blocks), at_once)]
        with (
            closing(read_ahead(source, blocks)) as stream,
            ThreadPoolExecutor(1, "beside") as beside,
            compilation_told(progress),
        ):
            rows: Iterator[np.ndarray] = (
                _joined([next(stream) for _ in some]) for some in together
            )
            first = beside.submit(list, islice(rows, 1))  # while centroids are prepared
            if not goes_on:
                self.labeller.begin(self._widened(centroids), cache, source.n_rows)
            sums = ClusterSums.zeros(centroids, self._dtype)
            if cache is not None:
                sums = cache.base_sums(blocks, sums)
            rows = _after(first.result(), rows)
            if cache is not None:
                self._pass_on(cache, together, rows, sums, progress, beside)
                cache.finish(blocks, sums)
                return sums
            for own in rows:
                self.step(own, sums)
                progress.advance(len(own))
        return sums

    def _pass_on(
        self,
        cache: AssignmentCache,
        together: list[range],
        rows: Iterator[np.ndarray],
        into: ClusterSums,
        progress: Progress,
        beside: Executor,
    ) -> None:
        """A pass that begins where the last one left the rows, those of some blocks together.

        While rows are labelled, `beside`, of one thread, reads what is known of the next, then
        keeps what was found of those before: in this order, and nobody else touches the cache or
        the sums.
        """
        asked = (beside.submit(cache.read_together, blocks) for blocks in together)
        ahead, kept = next(asked, None), None
        for blocks, own in zip(together, rows, strict=True):
            assert ahead is not None  # of the same blocks
            found, ahead = ahead.result(), next(asked, None)
            before = self._before(cache, blocks, own, found)
            self.labeller.label(own, found.known, labelled=all(found.labelled))
            if kept is not None:  # no more rows than two are held here
                kept.result()
            kept = beside.submit(self._keep, cache, blocks, own, found, before, into)
            progress.advance(len(own))
        if kept is not None:
            kept.result()

    def _before(
        self, cache: AssignmentCache, blocks: range, rows: np.ndarray, found: KnownTogether
    ) -> list[np.ndarray | None]:
        """Labels under which the sums hold the rows of each block; None: they do not."""
        before: list[np.ndarray | None] = []
        for index, part, labelled in zip(blocks, found.parts, found.labelled, strict=True):
            own = None
            if cache.in_base(index):
                label = found.known.label[part]
                own = label.copy() if labelled else self._labels_before(rows[part], cache)
            before.append(own)
        return before

    def _keep(
        self,
        cache: AssignmentCache,
        blocks: range,
        rows: np.ndarray,
        found: KnownTogether,
        before: list[np.ndarray | None],
        into: ClusterSums,
    ) -> None:
        """Write what was found of some blocks, and add what changed to the sums."""
        for index, part, own in zip(blocks, found.parts, before, strict=True):
            cache.write(index, CachedAssignments(*(array[part] for array in found.known)))
            labels = found.known.label[part]
            if own is None:
                self._add(rows[part], labels, into)
            else:  # of bytes, whose sums alone are a base
                move_rows(rows[part], own, labels, into.sums, into.counts, into.squares)

    def _labels_before(self, rows: np.ndarray, cache: AssignmentCache) -> np.ndarray:
        """Labels of the pass before, found once more: what was kept of them is damaged."""
        self._again.begin(cache.before)
        return cache.relabelled(self._again.find(rows).label)

    @cached_property
    def _again(self) -> Labeller:
        return self._new_labeller()

    def _add(self, rows: np.ndarray, labels: np.ndarray, into: ClusterSums) -> None:
        # Bytes are exact in any order: a piece for each thread.
        n, size = len(rows), piece_rows(self._dim)
        pieces = self.threads.stretches(n, each=1)
        if self._dtype.itemsize > 1:
            pieces = [(first, min(first + size, n)) for first in range(0, n, size)]

        def work(first: int, stop: int) -> ClusterSums:
            part = slice(first, stop)
            return sum_piece(rows[part], labels[part], len(into.counts), into.origin)

        for part in self.threads.each(work, pieces):  # in the order of the rows
            into += part

    def _widened(self, centroids: np.ndarray) -> np.ndarray:
        """In the type in which differences to the rows are taken."""
        return centroids.astype(np.float64) if self._dtype == np.float64 else centroids


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Rows of some blocks."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _after(first: list[np.ndarray], rows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The first rows, which are held here no longer, then the others."""
    while first:
        yield first.pop()
    yield from rows
