"""The exact assignment engine for CPUs: rows meet the centroids that may be nearest, not all.

With a guess a for row x at the distance r, a nearer centroid lies within 2r of c_a, by the triangle
inequality (Elkan 2003; Hamerly 2010). So rows are grouped by guess and walk the sorted neighbours
of its centroid. Rows whose stored bounds show that no other centroid can have come nearer are not
even read. A guess only decides the speed: labels are those of float64, ties to the lowest index.

Dtypes: stored integers of 8 or 16 bits, float32 or float64; compute float32 with bounded
rounding, float64 where that cannot tell; accumulate int64 for bytes, else as the torch engine
does; returned labels int64.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from pipeline.engines.cpu.assignment_cache import RowMemory, nothing_known, room_for
from pipeline.engines.cpu.bounds import group, screen
from pipeline.engines.cpu.candidate_scan import walk
from pipeline.engines.cpu.centroid_table import make_table, repeated, unit_of
from pipeline.engines.cpu.coarse_quantizer import Coarse, walk_all, walk_some
from pipeline.engines.cpu.layouts import RINGS, Known, Movers, Moves, Rows, Table
from pipeline.engines.cpu.moved_centroids import rank_moves, recheck
from pipeline.engines.cpu.neighbour_lists import LIST_ENTRIES, LIST_KERNELS, Neighbours
from pipeline.engines.cpu.threads import PIECES, Crew
from pipeline.engines.cpu.uint8_sums import add_rows, move_rows
from pipeline.engines.ordered_sums import piece_rows, sum_piece
from pipeline.engines.passing import sum_blocks
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import Source
from pipeline.runtime.devices import thread_count
from pipeline.runtime.progress import Progress

PRUNED_KERNELS = (walk, screen, group, recheck, add_rows, move_rows, *LIST_KERNELS)
SMALL = 256  # up to so many centroids, rows without a guess meet all of them
BLOCK_BYTES = 24 << 20  # of rows that are labelled together, at most
BLOCK_OF_CLUSTER = 1024  # rows for each centroid among them, where they fit
FEW_ROWS = 8  # so many rows for each centroid pay for the lists
MARGIN = 4.0  # how far beyond the nearest to look, in moves of the neighbours
STRETCH_ROWS = 1 << 15  # that one thread takes on its own, at least
ROWS_OF_CLUSTER = 128  # in such a stretch, or lanes of the vectors stay empty
KEEP_REACH = 0.9  # of the largest radius of a cluster, from one pass to the next


def projected_bytes(k: int, dim: int, block_rows: int) -> int:
    """Host memory that the engine needs beside its rows, in bytes, at most.

    Lists of neighbours and the centroids in several forms; for each row of a block its
    labels, bounds and place; for each thread its sums, counters and a piece of float rows.
    """
    lists = min(LIST_ENTRIES + 4 * k, k * (k + 3)) * 8
    tables = 8 * k * (8 * dim + 2 * len(RINGS))
    per_row = 64
    per_thread = 8 * k * (dim + 2 + PIECES) + 2 * 8 * dim * piece_rows(dim) + 64 * k
    return lists + tables + per_row * block_rows + thread_count() * per_thread


def blocks_at_once(k: int, source: Source) -> int:
    """How many blocks of a source the engine takes together, so that clusters have rows to share.

    Those of late passes are few. Float rows are summed in pieces, which must not be cut anew.
    """
    if source.dtype.kind == "f" and source.block_rows % piece_rows(source.dim):
        return 1
    room = BLOCK_BYTES // (source.block_rows * source.dim * source.dtype.itemsize)
    wanted = min(BLOCK_OF_CLUSTER * k, source.n_rows)
    return max(1, min(room, -(-wanted // source.block_rows)))


@dataclass
class Effort:
    """What a pass cost.

    rows: seen. walked: not settled by bounds. products: of a walked row and a candidate.
    decided: in float64. changed: their label.
    """

    rows: int = 0
    walked: int = 0
    products: int = 0
    decided: int = 0
    changed: int = 0


@dataclass
class _Loaded:
    """A dictionary at work.

    expected, reach: (k,) float32, largest radius of each cluster, before and now. share: of the
    rows that bounds did not settle, as of the pass before.
    """

    table: Table
    expected: np.ndarray
    reach: np.ndarray
    share: float = 1.0
    listed: bool = False
    coarse: Coarse | None = None

    @property
    def k(self) -> int:
        return len(self.table.centroids)


@dataclass
class _Walked:
    """Of a stretch of rows. cost: products, decisions. reach: as above. left: (m,) int32, rows
    for which the lists are too short.
    """

    cost: tuple[int, int]
    reach: np.ndarray
    left: np.ndarray


@dataclass
class _Pass:
    """What came of the centroids since the labels in the memory were found.

    own, others: (k,) float32, how far they went, seen from their own rows and from all others.
    twins: (m,) int64, those that had an equal then.
    """

    own: np.ndarray
    others: np.ndarray
    twins: np.ndarray
    memory: RowMemory | None = None
    moves: Moves | None = None
    movers: Movers | None = None
    margin: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))


class PrunedEngine:
    """Assigns rows to their nearest centroid, ties to the lowest index; on the CPU.

    dim, dtype: of the rows. effort: since the last `load`. crew: its threads.
    Memory: `projected_bytes`.
    """

    def __init__(self, dim: int, dtype: np.dtype) -> None:
        self._dim, self._dtype, self._integers = dim, dtype, dtype.kind in "ui"
        self.crew = Crew()
        self._unit = unit_of(dim)
        self._neighbours = Neighbours(self.crew)
        self._rooms = [Rows(*(np.empty(0, kind) for kind in ("i4", "i4", "f4")))] * 2
        self._loaded: _Loaded | None = None
        self.effort = Effort()

    def cache_for(
        self, source: Source, folder: Path | None = None, blocks: range | None = None
    ) -> RowMemory:
        """A memory for the passes over one source; folder: of its scratch file."""
        return RowMemory(source.n_rows, source.block_rows, folder)

    def load(self, centroids: np.ndarray, memory: RowMemory | None = None) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32 or float64.

        memory: of a source whose blocks are stepped through next, each once.
        """
        effort, self.effort = self.effort, Effort()
        if self._dtype == np.float64:
            centroids = centroids.astype(np.float64)  # differences are taken in this type
        before = self._loaded
        if before is None or not np.array_equal(before.table.centroids, centroids):
            share = max(effort.walked, 1) / max(effort.rows, 1)
            self._loaded = before = self._take(centroids, before, min(share, 1.0))
        scale = before.table.scale
        moved = memory.start(centroids, float(self._unit / scale)) if memory is not None else None
        twins = np.empty(0, np.int64)
        if moved is None:
            moved = np.zeros(len(centroids)), np.zeros(len(centroids))
        elif memory is not None:
            twins = memory.before_labels(repeated(memory.before)[1])
        own, others = ((1.000001 * went * scale).astype(np.float32) for went in moved)
        self._pass = _Pass(own, others, twins, memory)

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """Index of the nearest centroid of each row. rows: (n, d). Returns: (n,) int64."""
        return self._find(rows).label.astype(np.int64)

    def run_pass(
        self,
        source: Source,
        blocks: range,
        centroids: np.ndarray,
        cache: RowMemory | None,
        progress: Progress,
    ) -> ClusterSums:
        """Sums over the rows of some blocks, assigned to `centroids`; see `AssignmentEngine`."""
        return sum_blocks(self, source, blocks, centroids, cache, progress)

    def step(self, rows: np.ndarray, into: ClusterSums, index: int | None = None) -> None:
        """Assign the rows and add them to `into`, in place. rows: (n, d).

        index: of the block, where the engine was loaded with a memory of its source.
        """
        memory, before = self._pass.memory, None
        if memory is None or index is None:
            known = self._find(rows)
        else:
            known, labelled = memory.recall(index)
            if memory.counted(index):
                before = known.label.copy() if labelled else self._labels_before(rows, memory)
            self._label(rows, known, labelled=labelled)
            memory.keep(index, known)
        if self._dtype.itemsize > 1:
            self._add_pieces(rows, known, into)
        elif before is None:
            self._add(rows, known, into)
        else:
            sums = (into.sums, into.counts, into.squares)
            self.effort.changed += move_rows(rows, before, known.label, *sums)

    @cached_property
    def _again(self) -> "PrunedEngine":
        return PrunedEngine(self._dim, self._dtype)

    def _labels_before(self, rows: np.ndarray, memory: RowMemory) -> np.ndarray:
        """Labels of the pass before, found once more: what was kept of them is damaged."""
        self._again.load(memory.before)
        return memory.before_labels(self._again._find(rows).label)

    def _add(self, rows: np.ndarray, known: Known, into: ClusterSums) -> None:
        def work(first: int, stop: int) -> ClusterSums:
            part = ClusterSums.zeros(len(into.counts), self._dim, self._dtype)
            add_rows(rows, known.label, first, stop, part.sums, part.counts, part.squares)
            return part

        for part in self.crew.run(work, self.crew.stretches(len(rows), each=1)):
            into += part

    def _add_pieces(self, rows: np.ndarray, known: Known, into: ClusterSums) -> None:
        size = piece_rows(self._dim)
        starts = range(0, len(rows), size)

        def work(first: int, stop: int) -> ClusterSums:
            part = slice(first, stop)
            return sum_piece(rows[part], known.label[part], len(into.counts), into.origin)

        for part in self.crew.each([(first, first + size) for first in starts], work):
            into += part  # in the order of the rows

    def _take(self, centroids: np.ndarray, before: _Loaded | None, share: float) -> _Loaded:
        k = len(centroids)
        table = make_table(centroids, self._integers, before.table if before else None)
        expected = np.zeros(k, np.float32)
        if before is not None and before.k == k and before.table.scale == table.scale:
            # Not all rows may have been seen since; what was far is not forgotten at once.
            expected = np.maximum(before.reach, KEEP_REACH * before.expected)
        return _Loaded(table, expected, np.zeros(k, np.float32), share)

    def _find(self, rows: np.ndarray) -> Known:
        """Labels and bounds of rows of which nothing is known."""
        assert self._loaded is not None  # load() comes first
        known = nothing_known(room_for(len(rows), self._loaded.k))
        self._label(rows, known, labelled=False)
        return known

    def _label(self, rows: np.ndarray, known: Known, *, labelled: bool) -> None:
        """Nearest centroids and bounds of the rows, into `known`.

        labelled: whether that holds what the last pass found.
        """
        loaded = self._loaded
        assert loaded is not None  # load() comes first
        self.effort.rows += len(rows)
        if not labelled:
            if loaded.k <= SMALL or (not loaded.listed and len(rows) < FEW_ROWS * loaded.k):
                self._count(walk_all(rows, loaded.table, known, self._unit, self.crew))
                self.effort.walked += len(rows)
                return
            if loaded.coarse is None:
                loaded.coarse = Coarse(loaded.table, self.crew)
            self._count(loaded.coarse.guess(rows, known))
        self._prepare(loaded)
        # Stretches that have enough rows of every cluster go their own ways, in a core's cache;
        # otherwise threads screen stretches, and then walk the clusters of all of them together.
        length = max(STRETCH_ROWS, int(ROWS_OF_CLUSTER * loaded.k / loaded.share))
        if len(rows) >= length * self.crew.threads:
            self._label_apart(rows, known, loaded, length)
        else:
            self._label_together(rows, known, loaded)

    def _label_apart(self, rows: np.ndarray, known: Known, loaded: _Loaded, length: int) -> None:
        pending, grouped = self._room(0, len(rows)), self._room(1, len(rows))

        def work(first: int, stop: int) -> tuple[int, _Walked]:
            counts = np.zeros(loaded.k, np.int64)
            listed = self._screen(rows, known, loaded, pending, first, stop, counts)
            group(pending, first, first + listed, first + counts.cumsum() - counts, grouped)
            walked = self._walk(rows, known, loaded, grouped, first, first + listed)
            return listed, walked

        starts = range(0, len(rows), length)
        stretches = [(first, min(first + length, len(rows))) for first in starts]
        listed, walked = zip(*self.crew.run(work, stretches), strict=True)
        self._finish(rows, known, loaded, sum(listed), walked)

    def _label_together(self, rows: np.ndarray, known: Known, loaded: _Loaded) -> None:
        stretches = self.crew.stretches(len(rows), each=1)
        counts = {first: np.zeros(loaded.k, np.int64) for first, _ in stretches}
        pending = self._room(0, len(rows))

        def look(first: int, stop: int) -> int:
            return self._screen(rows, known, loaded, pending, first, stop, counts[first])

        listed = self.crew.run(look, stretches)
        # A counting sort in pieces: each writes after what the ones before have of a cluster.
        each = np.stack(list(counts.values()))
        places = np.ascontiguousarray((each.T.cumsum().reshape(loaded.k, -1) - each.T).T)
        grouped = self._room(1, sum(listed))
        kept = {first: stretch for stretch, (first, _) in enumerate(stretches)}

        def place(first: int, _: int) -> None:
            stretch = kept[first]
            group(pending, first, first + listed[stretch], places[stretch], grouped)

        self.crew.run(place, stretches)
        work = partial(self._walk, rows, known, loaded, grouped)
        walked = self.crew.run(work, self.crew.stretches(sum(listed)))
        self._finish(rows, known, loaded, sum(listed), walked)

    def _screen(
        self,
        rows: np.ndarray,
        known: Known,
        loaded: _Loaded,
        pending: Rows,
        first: int,
        stop: int,
        counts: np.ndarray,
    ) -> int:
        """Rows of a stretch that neither bounds nor a look at the movers settle; how many."""
        moves, movers, table = self._pass.moves, self._pass.movers, loaded.table
        assert moves is not None  # prepared
        assert movers is not None
        listed = screen(rows, known, moves, table, self._unit, first, stop, pending, counts)
        around = (rows, known, moves, movers, table, self._unit)
        return int(recheck(*around, first, listed, pending, counts))

    def _walk(
        self,
        rows: np.ndarray,
        known: Known,
        loaded: _Loaded,
        grouped: Rows,
        first: int,
        stop: int,
    ) -> _Walked:
        reach, left = np.zeros(loaded.k, np.float32), np.empty(stop - first, np.int32)
        place = (rows, grouped, first, stop, loaded.table, self._neighbours.lists)
        products, decided, unwalked = walk(
            *place, self._pass.margin, True, self._unit, known, reach, left
        )
        return _Walked((products, decided), reach, left[:unwalked])

    def _finish(
        self,
        rows: np.ndarray,
        known: Known,
        loaded: _Loaded,
        listed: int,
        walked: Sequence[_Walked],
    ) -> None:
        """Rows beyond the lists meet all centroids, those of all clusters together."""
        self.effort.walked += listed
        for part in walked:
            self._count(part.cost)
            np.maximum(loaded.reach, part.reach, out=loaded.reach)
        left = np.concatenate([part.left for part in walked] or [np.empty(0, np.int32)])
        if len(left):
            self._count(walk_some(left, rows, loaded.table, known, self._unit, self.crew))

    def _prepare(self, loaded: _Loaded) -> None:
        """Lists of neighbours, and what the moves of the centroids mean for the bounds."""
        if not loaded.listed:
            reach = loaded.expected if loaded.expected.any() else None
            self._neighbours.update(loaded.table, reach)
            loaded.listed = True
        now = self._pass
        if now.moves is None:
            now.moves = self._neighbours.moves(now.own, now.others, self._unit, now.twins)
            now.movers = rank_moves(now.moves.others)
            nearby = now.moves.ring[:, 1] + now.moves.own
            now.margin = (MARGIN * float(self._unit) * nearby).astype(np.float32)

    def _count(self, cost: tuple[int, int]) -> None:
        """Note products and rows decided in float64."""
        self.effort.products += cost[0]
        self.effort.decided += cost[1]

    def _room(self, which: int, n: int) -> Rows:
        """Room for n rows, used again for every block: fresh memory costs more than the work."""
        if len(self._rooms[which].row) < n:
            self._rooms[which] = Rows(*(np.empty(n, kind) for kind in ("i4", "i4", "f4")))
        return Rows(*(array[:n] for array in self._rooms[which]))
