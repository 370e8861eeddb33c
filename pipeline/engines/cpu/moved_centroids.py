"""Late passes: rows that only the few centroids that moved most can have come nearer to.

A centroid that was at least `lower` away and moved by less than lower − r is still farther than r.
"""

import numpy as np
from numba import njit

from pipeline.engines.cpu.candidate_scan import load_tile
from pipeline.engines.cpu.layouts import (
    FAR,
    FAR_LEVEL,
    MANY,
    MAX_LEVEL,
    Known,
    Movers,
    Moves,
    Rows,
    Table,
)
from pipeline.engines.cpu.simd import WIDTH, fma, less, load, same, select, splat, store, sub

MOST = 96  # centroids that are looked at one by one, at most
SHARE = 16  # of so many centroids one; more would cost as much as a walk
GAPS = 4096  # levels


def rank_moves(levels: np.ndarray) -> Movers:
    """levels: (k,) int32, how far each centroid went."""
    k = len(levels)
    order = np.argsort(-levels, kind="stable")
    listed = min(MOST, max(k // SHARE, 4), k)
    padded = -(-listed // 4) * 4
    index = np.full(padded, k, np.int32)
    index[:listed] = order[:listed]
    moved = np.zeros(padded + 1, np.int32)
    rest = levels[order[listed]] if listed < k else 0
    moved[:listed], moved[listed:] = levels[order[:listed]], rest
    within = np.searchsorted(-levels[order], -np.arange(GAPS), side="right")
    within[within > listed] = MANY
    return Movers(index, moved, within.astype(np.int32))


@njit(nogil=True, cache=True, error_model="numpy")
def recheck(
    rows: np.ndarray,
    known: Known,
    moves: Moves,
    movers: Movers,
    table: Table,
    unit: np.float32,
    first: int,
    listed: int,
    pending: Rows,
    counts: np.ndarray,
) -> int:
    """Settle rows of pending[first : first + listed] by the movers alone, where those are few.

    counts: (k,) int64, pending rows of each centroid, taken from. Returns: how many stay.
    """
    number, anchor = pending.row[first : first + listed], pending.anchor[first : first + listed]
    radius = pending.radius[first : first + listed]
    needed, order = np.empty(listed, np.int32), np.empty(listed, np.int32)
    ends = np.zeros(MOST + 2, np.int32)
    last = moves.ring.shape[1] - 1
    levels_per_unit = 1 / unit
    for i in range(listed):
        gap = np.int32(known.lower[number[i]]) - _level(radius[i], levels_per_unit)
        many = movers.within[np.int64(min(gap, np.int32(GAPS - 1)))] if gap > 0 else np.int32(MANY)
        if moves.ring[anchor[i], last] > FAR_LEVEL:  # some equal of its centroid is not in `lower`
            many = np.int32(MANY)
        needed[i] = many
        if many <= MOST:
            ends[many + 1] += 1
    for m in range(MOST + 1):
        ends[m + 1] += ends[m]
    few = ends[MOST + 1]
    for i in range(listed):
        if needed[i] <= MOST:
            order[ends[needed[i]]] = i
            ends[needed[i]] += 1
    tile, squares = np.empty(rows.shape[1] * WIDTH, np.float32), np.empty(WIDTH, np.float32)
    members, owners = np.empty(WIDTH, np.int32), np.empty(WIDTH, np.int32)
    best = np.empty(WIDTH, np.float32)
    for start in range(0, few, WIDTH):
        size = min(WIDTH, few - start)
        for lane in range(WIDTH):
            i = order[start + min(lane, size - 1)]
            members[lane], owners[lane] = number[i], anchor[i]
        depth = (needed[order[start + size - 1]] + 3) // 4 * 4
        load_tile(rows, members, table, tile, squares)
        _nearest_other(tile, rows.shape[1], table, movers.member, depth, owners, best)
        for lane in range(size):
            i, row = order[start + lane], members[lane]
            near = _level(radius[i], levels_per_unit)
            far = np.sqrt(max(squares[lane] + np.float32(2) * best[lane], np.float32(0)))
            off = np.sqrt(squares[lane]) + far
            far = np.sqrt(max(far * far - np.float32(2) * table.slack * off * off, np.float32(0)))
            level = np.int32(min(np.floor(far * levels_per_unit), np.float32(MAX_LEVEL)))
            level = min(level, np.int32(known.lower[row]) - movers.moved[depth])
            if near < level:
                known.upper[row], known.lower[row] = near, level
                needed[i] = -1
    stay = 0
    for i in range(listed):
        own = anchor[i]
        number[stay], anchor[stay], radius[stay] = number[i], own, radius[i]
        settled = 1 if needed[i] < 0 else 0
        counts[own] -= settled
        stay += 1 - settled
    return stay


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _level(radius: np.float32, levels_per_unit: np.float32) -> np.int32:
    """Of an upper bound; twice rounded up, as the factor is rounded too."""
    return np.int32(min(np.ceil(radius * levels_per_unit) + np.float32(1), np.float32(MAX_LEVEL)))


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest_other(
    tile: np.ndarray,
    dim: int,
    table: Table,
    index: np.ndarray,
    depth: int,
    owners: np.ndarray,
    best: np.ndarray,
) -> None:
    """Lowest score of each lane among index[:depth] without its own centroid."""
    far, own = splat(FAR), load(owners, 0)
    lowest = far
    shifted, half = table.shifted, table.half
    for p in range(0, depth, 4):
        j0, j1, j2, j3 = index[p], index[p + 1], index[p + 2], index[p + 3]
        s0 = s1 = s2 = s3 = splat(np.float32(0))
        for d in range(dim):
            x = load(tile, d * WIDTH)
            s0 = fma(x, splat(shifted[j0, d]), s0)
            s1 = fma(x, splat(shifted[j1, d]), s1)
            s2 = fma(x, splat(shifted[j2, d]), s2)
            s3 = fma(x, splat(shifted[j3, d]), s3)
        s0 = select(same(own, splat(j0)), far, sub(splat(half[j0]), s0))
        s1 = select(same(own, splat(j1)), far, sub(splat(half[j1]), s1))
        s2 = select(same(own, splat(j2)), far, sub(splat(half[j2]), s2))
        s3 = select(same(own, splat(j3)), far, sub(splat(half[j3]), s3))
        lowest = select(less(s0, lowest), s0, lowest)
        lowest = select(less(s1, lowest), s1, lowest)
        lowest = select(less(s2, lowest), s2, lowest)
        lowest = select(less(s3, lowest), s3, lowest)
    store(best, 0, lowest)
