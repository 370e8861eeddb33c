"""Before rows meet candidates: which of them may have a new nearest centroid, grouped by guess."""

from typing import NamedTuple

import numpy as np

from pipeline.engines.cpu.assignment_cache import MAX_LEVEL, CachedAssignments
from pipeline.engines.cpu.centroid_shifts import RINGS, CentroidShifts
from pipeline.engines.cpu.centroid_table import CentroidTable
from pipeline.engines.cpu.jit import inner, kernel


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


@inner(fastmath={"reassoc", "contract", "nsz"})
def _distance(row: np.ndarray, centroid: np.ndarray, table: CentroidTable) -> np.float32:
    """From a row to a centroid; upper bound."""
    square = np.float32(0)
    for d in range(len(row)):
        x = np.float32((table.shift.dtype.type(row[d]) - centroid[d]) * table.scale)
        square += x * x
    return np.sqrt(square) * (1 + table.slack)


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
    listed = 0
    for i in range(unsettled):
        row = number[i]
        own = np.uint64(label[row])
        radius = _distance(rows[row], table.centroids[own], table)
        near = np.int32(min(np.ceil(radius / table.level), np.float32(MAX_LEVEL)))
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
