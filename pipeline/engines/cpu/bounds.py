"""Before rows meet candidates: which of them may have a new nearest centroid, grouped by guess.

That follows from how far centroids went since the labels were found.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from pipeline.engines.cpu.assignment_cache import MAX_LEVEL, CachedAssignments
from pipeline.engines.cpu.centroid_table import CentroidTable
from pipeline.engines.cpu.neighbour_lists import NeighbourLists
from pipeline.engines.cpu.simd import inner, kernel
from pipeline.engines.cpu.threads import ThreadPool

RINGS = (8, 32, 128, 512)  # neighbours within each ring about a centroid
FAR_LEVEL = 1 << 20  # more than any stored distance


class CentroidShifts(NamedTuple):
    """How far centroids went since the labels were found; in levels of the stored distances.

    own: (k,) int32, as their own rows see it, rounded up. ring: (k, rings + 1) int32, the largest
    shift, as all other rows see it, among the neighbours in the ring. outside: (k, rings + 1)
    int32, distance to any centroid outside it, rounded down.
    """

    own: np.ndarray
    ring: np.ndarray
    outside: np.ndarray


class PendingRows(NamedTuple):
    """Rows whose nearest centroid is to be found, in the end grouped by anchor.

    row: (n,) int32, number in the block. anchor: (n,) int32, whose list of candidates they meet.
    radius: (n,) float32, upper bound on the distance to it.
    """

    row: np.ndarray
    anchor: np.ndarray
    radius: np.ndarray


def room_for_pending(n: int) -> PendingRows:
    """Room for n rows."""
    return PendingRows(np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.float32))


def measure_shifts(
    table: CentroidTable,
    lists: NeighbourLists,
    own: np.ndarray,
    others: np.ndarray,
    duplicates: np.ndarray,
    threads: ThreadPool,
) -> CentroidShifts:
    """What the shifts of the centroids mean for bounds.

    own, others: (k,) float32, how far each went since labels were found, as its own rows and as
    all others see it. duplicates: centroids that had an equal then, which was left out of the
    bounds of their rows.
    """
    k = len(own)
    near, far = (
        np.minimum(np.ceil(went / table.level), FAR_LEVEL).astype(np.int32)
        for went in (own, others)
    )
    # The last ring holds everything, for rows that lie far from all centroids.
    ring = np.full((k, len(RINGS) + 1), far.max(), np.int32)
    outside = np.full((k, len(RINGS) + 1), FAR_LEVEL, np.int32)
    fill = partial(_fill_rings, table, lists, far, ring, outside)
    threads.run(fill, threads.stretches(k))
    ring[duplicates] = FAR_LEVEL + 1  # more than any shift
    return CentroidShifts(near, ring, outside)


@kernel
def _fill_rings(
    table: CentroidTable,
    lists: NeighbourLists,
    levels: np.ndarray,
    ring: np.ndarray,
    outside: np.ndarray,
    first: int,
    stop: int,
) -> None:
    """Of the centroids [first, stop). levels: (k,) int32, how far each went."""
    k = len(levels)
    for anchor in range(first, stop):
        start, length = lists.start[anchor], lists.length[anchor]
        largest, place = 0, 0
        for r in range(len(RINGS)):
            end = min(RINGS[r], length)
            while place < end:
                j = lists.member[start + place]
                if j < k and j != anchor:
                    largest = max(largest, levels[j])
                place += 1
            bound = lists.bound[start + end] if end < length else lists.unlisted_bound[anchor]
            ring[anchor, r] = largest
            outside[anchor, r] = min(np.floor(bound / table.level), np.float32(FAR_LEVEL))


@inner(fastmath={"reassoc", "contract", "nsz"})
def _distance(row: np.ndarray, centroid: np.ndarray, table: CentroidTable) -> np.float32:
    """From a row to a centroid; upper bound."""
    square = np.float32(0)
    for d in range(len(row)):
        x = np.float32((table.shift.dtype.type(row[d]) - centroid[d]) * table.scale)
        square += x * x
    return np.sqrt(square) * (np.float32(1) + np.float32(2) * table.slack)


@inner(inline="always")
def _others(lower: np.int32, upper: np.int32, own: np.uint64, shifts: CentroidShifts) -> np.int32:
    """Lower bound on the distance to any other centroid, now.

    Those in a ring came nearer by no more than the largest shift among them; those outside are as
    far from the row as they are from its centroid, less the row's own distance.
    """
    bound = np.int32(0)
    for ring in range(len(RINGS) + 1):
        inside = lower - shifts.ring[own, ring]
        outside = shifts.outside[own, ring] - upper
        bound = max(bound, min(inside, outside))
    return min(bound, np.int32(MAX_LEVEL))  # which nothing unknown is below


@kernel
def apply_bounds(
    rows: np.ndarray,
    table: CentroidTable,
    shifts: CentroidShifts,
    known: CachedAssignments,
    stretch: tuple[int, int],
    pending: PendingRows,
    counts: np.ndarray,
) -> int:
    """Bring the bounds of the rows of a stretch, [first, stop), up to date; list the others.

    Those may have another nearest centroid. The list is written from pending[first] on. counts:
    (k,) int64, pending rows of each centroid, added to. Returns: the length of the list.
    """
    first, stop = stretch
    # Views from 0 on: numba would ask of every index of [first, stop) whether it is negative.
    rows = rows[first:stop]
    label, upper, lower = known.label[first:stop], known.upper[first:stop], known.lower[first:stop]
    number, anchor = pending.row[first:stop], pending.anchor[first:stop]
    radii = pending.radius[first:stop]
    unsettled = 0
    # Without branches on what bounds say: they would be guessed wrong half of the time.
    for row in range(len(rows)):
        own = np.uint64(label[row])
        near = np.int32(upper[row]) + shifts.own[own]
        far = _others(np.int32(lower[row]), near, own, shifts)
        settled = near < far
        upper[row] = np.uint16(near) if settled else upper[row]
        lower[row] = np.uint16(far) if settled else lower[row]
        number[unsettled] = row
        unsettled += 0 if settled else 1
    listed, levels = 0, np.float32(1) / table.level
    for i in range(unsettled):
        row = number[i]
        own = np.uint64(label[row])
        radius = _distance(rows[row], table.centroids[own], table)
        near = np.int32(min(np.ceil(radius * levels), np.float32(MAX_LEVEL)))
        far = _others(np.int32(lower[row]), near, own, shifts)
        settled = near < far
        upper[row] = np.uint16(near) if settled else upper[row]
        lower[row] = np.uint16(far) if settled else lower[row]
        number[listed] = first + np.int64(row)
        anchor[listed] = own
        radii[listed] = radius
        more = 0 if settled else 1
        counts[own] += more
        listed += more
    return listed


@kernel
def group_by_anchor(
    pending: PendingRows, first: int, stop: int, places: np.ndarray, grouped: PendingRows
) -> None:
    """Counting sort of pending[first : stop] by anchor. places: (k,) int64, where the next goes."""
    number, anchor = pending.row[first:stop], pending.anchor[first:stop]
    radius = pending.radius[first:stop]
    for i in range(len(number)):
        own = np.uint64(anchor[i])
        place = np.uint64(places[own])
        places[own] += 1
        grouped.row[place] = number[i]
        grouped.anchor[place] = anchor[i]
        grouped.radius[place] = radius[i]


BOUND_KERNELS = (_fill_rings, apply_bounds, group_by_anchor)
