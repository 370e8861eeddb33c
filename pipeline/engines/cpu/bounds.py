"""Before the walk: which rows may have a new nearest centroid, grouped by their guess."""

import numpy as np
from numba import njit

from pipeline.engines.cpu.layouts import MAX_LEVEL, RINGS, Known, Moves, Rows, Table


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _distance(row: np.ndarray, centroid: np.ndarray, table: Table) -> np.float32:
    """From a row to a centroid; upper bound."""
    square = np.float32(0)
    for d in range(len(row)):
        x = np.float32((table.shift.dtype.type(row[d]) - centroid[d]) * table.scale)
        square += x * x
    return np.sqrt(square) * (1 + table.slack)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _others(lower: np.int32, upper: np.int32, own: np.uint64, moves: Moves) -> np.int32:
    """Lower bound on the distance to any other centroid, now.

    Those in a ring came nearer by no more than the largest move among them; those outside are as
    far from the row as they are from its centroid, less the row's own distance.
    """
    bound = np.int32(0)
    for ring in range(len(RINGS) + 1):
        inside = lower - moves.ring[own, ring]
        outside = moves.outside[own, ring] - upper
        bound = max(bound, min(inside, outside))
    return min(bound, np.int32(MAX_LEVEL))  # which nothing unknown is below


@njit(nogil=True, cache=True, error_model="numpy")
def screen(
    rows: np.ndarray,
    known: Known,
    moves: Moves,
    table: Table,
    unit: np.float32,
    first: int,
    stop: int,
    pending: Rows,
    counts: np.ndarray,
) -> int:
    """Bring the bounds of rows [first, stop) up to date; list those that are not settled by them.

    The list is written from pending[first] on. counts: (k,) int64, pending rows of each centroid,
    added to. Returns: the length of the list.
    """
    # Views from 0 on: numba would ask of every index of [first, stop) whether it is negative.
    rows = rows[first:stop]
    label, upper, lower = known.label[first:stop], known.upper[first:stop], known.lower[first:stop]
    number, anchor = pending.row[first:stop], pending.anchor[first:stop]
    radii = pending.radius[first:stop]
    unsettled = 0
    # Without branches on what bounds say: they would be guessed wrong half of the time.
    for row in range(len(rows)):
        own = np.uint64(label[row])
        near = np.int32(upper[row]) + moves.own[own]
        far = _others(np.int32(lower[row]), near, own, moves)
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
        near = np.int32(min(np.ceil(radius / unit), np.float32(MAX_LEVEL)))
        far = _others(np.int32(lower[row]), near, own, moves)
        settled = near < far
        upper[row] = np.uint16(near) if settled else upper[row]
        lower[row] = np.uint16(far) if settled else lower[row]
        number[listed] = first + np.int64(row)
        anchor[listed] = own
        radii[listed] = radius
        walks = 0 if settled else 1
        counts[own] += walks
        listed += walks
    return listed


@njit(nogil=True, cache=True, error_model="numpy")
def group(pending: Rows, first: int, stop: int, places: np.ndarray, grouped: Rows) -> None:
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
