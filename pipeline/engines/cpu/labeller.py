"""Nearest centroids of the rows of a block, from what is known of them, and new bounds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pipeline.engines.cpu.assignment_cache import (
    AssignmentCache,
    CachedAssignments,
    room_for,
    set_unknown,
)
from pipeline.engines.cpu.bounds import (
    CentroidShifts,
    PendingRows,
    apply_bounds,
    group_by_anchor,
    measure_shifts,
    room_for_pending,
)
from pipeline.engines.cpu.centroid_table import CentroidTable, duplicates, make_table
from pipeline.engines.cpu.coarse_quantizer import CoarseQuantizer
from pipeline.engines.cpu.neighbour_lists import LIST_ENTRIES, KeptLists
from pipeline.engines.cpu.scan.candidate_scan import Candidates, scan_all, scan_candidates
from pipeline.engines.cpu.scan.heads import HeadChoice, Heads, make_heads
from pipeline.engines.cpu.threads import ThreadPool

SMALL = 256  # up to so many centroids, rows without a guess meet all of them
SMALL_BY_HEADS = 2048  # the same where heads are compared
FEW_ROWS = 8  # so many rows for each centroid pay for the lists
MARGIN = 4.0  # how far beyond the nearest to look, in shifts of the neighbours
KEEP_REACH = 0.9  # of the largest radius of a cluster, from one pass to the next
STRETCH_ROWS = 1 << 15  # that one thread takes on its own, at least
ROWS_OF_CLUSTER = 128  # unsettled ones among them, or lanes of the vectors stay empty


@dataclass
class Effort:
    """What a pass cost.

    rows: seen. scanned: not settled by bounds. products: of a scanned row and a candidate, in
    full, or where that tells, by their bytes. decided: in float64.
    """

    rows: int = 0
    scanned: int = 0
    products: int = 0
    decided: int = 0


@dataclass
class _Dictionary:
    """The centroids at work.

    heads: None where they are compared in full. expected, reach: (k,) float32, largest radius of
    each cluster, before and now. share: of the rows that bounds did not settle, as of the pass
    before. listed: whether the lists are theirs.
    """

    table: CentroidTable
    heads: Heads | None
    expected: np.ndarray
    reach: np.ndarray
    share: float
    listed: bool = False
    coarse: CoarseQuantizer | None = None

    @property
    def k(self) -> int:
        return len(self.table.centroids)


@dataclass
class _Pass:
    """What came of the centroids since the labels in the cache were found.

    own, others: (k,) float32, how far they went, seen from their own rows and from all others.
    equals: (m,) int64, those that had an equal then. shifts: what that means for bounds. margin:
    see `Candidates`.
    """

    own: np.ndarray
    others: np.ndarray
    equals: np.ndarray
    shifts: CentroidShifts | None = None
    margin: np.ndarray | None = None


@dataclass
class _Block:
    """Rows, what is known of them, and those not settled: as they come, and grouped by anchor."""

    rows: np.ndarray
    known: CachedAssignments
    pending: PendingRows
    grouped: PendingRows


@dataclass
class _Scanned:
    """Of a stretch. rows: how many. cost: products, decisions. reach: as above. left: (m,) int32,
    rows for which the lists are too short.
    """

    rows: int
    cost: tuple[int, int]
    reach: np.ndarray
    left: np.ndarray


class Labeller:
    """Labels are those of float64, ties to the lowest index, whatever was known before.

    dtype: of the rows. effort: since the last `begin`. threads: that do the work.
    list_entries: see `KeptLists`; they decide the speed alone.
    """

    def __init__(
        self, *, dtype: np.dtype, threads: ThreadPool, list_entries: int = LIST_ENTRIES
    ) -> None:
        self._dtype, self._threads = dtype, threads
        self._lists = KeptLists(threads, list_entries)
        self._rooms = [room_for_pending(0)] * 2
        self._dictionary: _Dictionary | None = None
        self._heads = HeadChoice()
        self.effort = Effort()

    def begin(
        self, centroids: np.ndarray, cache: AssignmentCache | None = None, n_rows: int = 0
    ) -> None:
        """Take the centroids of the next blocks; (k, d) float32 or float64.

        cache: of the source of the blocks, if any. n_rows: of the source that the pass sees.
        """
        before, self.effort, now = self.effort, Effort(), self._dictionary
        if now is None or not np.array_equal(now.table.centroids, centroids):
            share = min(max(before.scanned, 1) / max(before.rows, 1), 1.0)
            self._dictionary = now = self._take(centroids, now, share)
        scale = float(now.table.scale)
        went, equals = None, np.empty(0, np.int64)
        if cache is not None:
            went = cache.begin(n_rows, centroids, float(now.table.level) / scale)
        if went is None:
            went = np.zeros(now.k), np.zeros(now.k)
        elif cache is not None:
            equals = cache.relabelled(duplicates(cache.before)[1])
        own, others = ((1.000001 * each * scale).astype(np.float32) for each in went)
        self._pass = _Pass(own, others, equals)

    def find(self, rows: np.ndarray, guess: np.ndarray | None = None) -> CachedAssignments:
        """Labels and bounds of rows, (n, d), of which no more than a guess, (n,), is known."""
        known = room_for(len(rows), self._loaded.k)
        known.label[:] = 0 if guess is None else guess
        set_unknown(known)
        self.label(rows, known, labelled=guess is not None)
        return known

    def label(self, rows: np.ndarray, known: CachedAssignments, *, labelled: bool) -> None:
        """Nearest centroids and bounds of the rows, (n, d), into `known`.

        labelled: whether that holds what the last pass found.
        """
        self.effort.rows += len(rows)
        loaded = self._loaded
        if self._heads.choose(rows, loaded.table.centroids, guessed=labelled):
            table, heads = self._make_table(loaded.table.centroids, loaded.table)
            self._dictionary = loaded = replace(loaded, table=table, heads=heads, listed=False)
        whole = (loaded.table, known, self._threads, loaded.heads)
        if not labelled:
            small = SMALL if loaded.heads is None else SMALL_BY_HEADS
            if loaded.k <= small or (not loaded.listed and len(rows) < FEW_ROWS * loaded.k):
                everything = np.arange(len(rows), dtype=np.int32)
                self._count(scan_all(rows, everything, *whole))
                self.effort.scanned += len(rows)
                return
            if loaded.coarse is None:
                loaded.coarse = CoarseQuantizer(loaded.table, self._threads, self._heads.basis)
            self._count(loaded.coarse.guess(rows, known, loaded.heads))
        self._prepare(loaded)
        block = _Block(rows, known, self._room(0, len(rows)), self._room(1, len(rows)))
        length = max(STRETCH_ROWS, int(ROWS_OF_CLUSTER * loaded.k / loaded.share))
        apart = len(rows) >= length * self._threads.threads
        scanned = self._scan_apart(block, length) if apart else self._scan_together(block)
        for part in scanned:
            self._count(part.cost)
            self.effort.scanned += part.rows
            np.maximum(loaded.reach, part.reach, out=loaded.reach)
        left = np.concatenate([part.left for part in scanned] or [np.empty(0, np.int32)])
        if len(left):
            self._count(scan_all(rows, left, *whole, labelled=True))

    def _scan_apart(self, block: _Block, length: int) -> Sequence[_Scanned]:
        """Stretches that have enough rows of every cluster go their own ways, in a core's cache."""

        def work(first: int, stop: int) -> _Scanned:
            counts = np.zeros(self._loaded.k, np.int64)
            last = first + self._apply_bounds(block, first, stop, counts)
            places = first + counts.cumsum() - counts
            group_by_anchor(block.pending, first, last, places, block.grouped)
            return self._scan(block, first, last)

        n = len(block.rows)
        starts = range(0, n, length)
        return self._threads.run(work, [(first, min(first + length, n)) for first in starts])

    def _scan_together(self, block: _Block) -> Sequence[_Scanned]:
        """Threads apply bounds to stretches, then scan the clusters of all of them together."""
        stretches = self._threads.stretches(len(block.rows), each=3)
        counts = {first: np.zeros(self._loaded.k, np.int64) for first, _ in stretches}
        listed = self._threads.run(
            lambda first, stop: self._apply_bounds(block, first, stop, counts[first]), stretches
        )
        # A counting sort in pieces: each writes after what the ones before have of a cluster.
        each = np.stack(list(counts.values()))
        places = np.ascontiguousarray((each.T.cumsum().reshape(self._loaded.k, -1) - each.T).T)
        kept = {first: stretch for stretch, (first, _) in enumerate(stretches)}

        def place(first: int, _: int) -> None:
            one = kept[first]
            group_by_anchor(block.pending, first, first + listed[one], places[one], block.grouped)

        self._threads.run(place, stretches)
        return self._threads.run(partial(self._scan, block), self._threads.stretches(sum(listed)))

    def _apply_bounds(self, block: _Block, first: int, stop: int, counts: np.ndarray) -> int:
        """Rows of a stretch that bounds do not settle; how many."""
        shifts, table = self._pass.shifts, self._loaded.table
        assert shifts is not None  # prepared
        at = (first, stop)
        return int(apply_bounds(block.rows, table, shifts, block.known, at, block.pending, counts))

    def _scan(self, block: _Block, first: int, stop: int) -> _Scanned:
        loaded = self._loaded
        reach, left = np.zeros(loaded.k, np.float32), np.empty(stop - first, np.int32)
        margin = self._pass.margin
        assert margin is not None  # prepared
        candidates = Candidates(loaded.table, self._lists.lists, True, True, False, margin, reach)
        products, decided, unscanned = scan_candidates(
            block.rows, block.grouped, first, stop, candidates, loaded.heads, block.known, left
        )
        return _Scanned(stop - first, (products, decided), reach, left[:unscanned])

    def _prepare(self, loaded: _Dictionary) -> None:
        """Lists of neighbours, and what the shifts of the centroids mean for the bounds."""
        if not loaded.listed:
            reach = loaded.expected if loaded.expected.any() else None
            self._lists.update(loaded.table, reach)
            loaded.listed = True
        now = self._pass
        if now.shifts is None:
            lists = self._lists.lists
            went = (now.own, now.others, now.equals)
            now.shifts = measure_shifts(loaded.table, lists, *went, self._threads)
            nearby = now.shifts.ring[:, 1] + now.shifts.own
            now.margin = (MARGIN * float(loaded.table.level) * nearby).astype(np.float32)

    def _take(self, centroids: np.ndarray, before: _Dictionary | None, share: float) -> _Dictionary:
        k = len(centroids)
        self._heads.begin(k)
        table, heads = self._make_table(centroids, before.table if before else None)
        expected = np.zeros(k, np.float32)
        if before is not None and before.k == k and before.table.scale == table.scale:
            # Not all rows may have been seen since; what was far is not forgotten at once.
            expected = np.maximum(before.reach, KEEP_REACH * before.expected)
        return _Dictionary(table, heads, expected, np.zeros(k, np.float32), share)

    def _make_table(
        self, centroids: np.ndarray, before: CentroidTable | None
    ) -> tuple[CentroidTable, Heads | None]:
        """Table and heads of centroids."""
        basis, dtype = self._heads.basis, self._dtype
        # Centroids may be doubles, as those of a model of doubles.
        integers = dtype.kind in "ui"
        of_bytes = dtype == np.uint8 and centroids.dtype == np.float32
        if basis is None:
            return make_table(centroids, integers, before, of_bytes=of_bytes), None
        with self._heads.alone():
            table = make_table(centroids, integers, before, basis)
            return table, make_heads(table, basis)

    @property
    def _loaded(self) -> _Dictionary:
        assert self._dictionary is not None  # begin() comes first
        return self._dictionary

    def _count(self, cost: tuple[int, int]) -> None:
        """Note products and rows decided in float64."""
        self.effort.products += cost[0]
        self.effort.decided += cost[1]

    def _room(self, which: int, n: int) -> PendingRows:
        """Room for n rows, used again for every block: fresh memory costs more than the work."""
        if len(self._rooms[which].row) < n:
            self._rooms[which] = room_for_pending(n)
        return PendingRows(*(array[:n] for array in self._rooms[which]))
