"""Rows in the lanes of a vector against a list of candidates.

Scores are ½|c|² − x·c in float32, about a shift near the mean of the centroids. Their rounding is
bounded; where the two best lie closer than the bound, float64 decides.
"""

from typing import NamedTuple

import numpy as np

from pipeline.engines.cpu.assignment_cache import MAX_LEVEL
from pipeline.engines.cpu.bounds import PendingRows
from pipeline.engines.cpu.centroid_table import FAR, CentroidTable
from pipeline.engines.cpu.scan.row_words import load_columns
from pipeline.engines.cpu.simd import (
    WIDTH,
    all_lanes,
    broadcast,
    fma,
    inner,
    less,
    load,
    prefetch,
    select,
    store,
    sub,
)

WIDE = np.dtype(np.float64)


class Tile(NamedTuple):
    """As many rows as a vector has lanes, and what is found of them; a value for each lane.

    cells: (d · lanes,) float32, the rows by columns, shifted and scaled. words: (w · lanes,) int32,
    rows of bytes as they are, where centroids are quantized; else empty. squares: float32, their
    squared lengths. member: int32, their numbers. start: int64, room. radius: float32, as in
    `PendingRows`. best, second: float32, the two lowest scores. nearest: int32, the centroid of
    the lowest. upper, lower: int32, levels as in `CachedAssignments`. reached: float32, where
    float64 must decide, the highest score that may be the lowest; else −FAR. few: (k + 4,) int32,
    candidates for that.
    """

    cells: np.ndarray
    words: np.ndarray
    squares: np.ndarray
    member: np.ndarray
    start: np.ndarray
    radius: np.ndarray
    best: np.ndarray
    second: np.ndarray
    nearest: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    reached: np.ndarray
    few: np.ndarray


@inner(inline="always")
def new_tile(dim: int, k: int, words: int) -> Tile:
    """Room for the rows of a vector."""
    return Tile(
        np.empty(dim * WIDTH, np.float32),
        np.empty(words * WIDTH, np.int32),
        np.empty(WIDTH, np.float32),
        np.empty(WIDTH, np.int32),
        np.empty(WIDTH, np.int64),
        np.empty(WIDTH, np.float32),
        np.empty(WIDTH, np.float32),
        np.empty(WIDTH, np.float32),
        np.empty(WIDTH, np.int32),
        np.empty(WIDTH, np.int32),
        np.empty(WIDTH, np.int32),
        np.empty(WIDTH, np.float32),
        np.empty(k + 4, np.int32),
    )


@inner(inline="always")
def fill_tile(tile: Tile, pending: PendingRows, place: np.ndarray, first: int, stop: int) -> None:
    """Members and radii of a tile: those at place[first : stop], the last in the lanes left."""
    for lane in range(WIDTH):
        at = place[first + min(lane, stop - first - 1)]
        tile.member[lane], tile.radius[lane] = pending.row[at], pending.radius[at]


@inner
def load_tile(rows: np.ndarray, table: CentroidTable, tile: Tile) -> None:
    """Cells and squared lengths of the tile's members."""
    dim = rows.shape[1]
    shift, scale, cells, member = table.shift, table.scale, tile.cells, tile.member
    total = broadcast(np.float32(0))
    if shift.dtype == WIDE:  # known when this is compiled
        for lane in range(WIDTH):
            row = rows[member[lane]]
            for d in range(dim):
                cells[d * WIDTH + lane] = np.float32((row[d] - shift[d]) * scale)
        for d in range(dim):
            x = load(cells, d * WIDTH)
            total = fma(x, x, total)
    else:
        load_columns(rows, member, tile.start, cells, tile.words)
        factor, zero = broadcast(np.float32(scale)), broadcast(np.float32(0))
        for d in range(dim):
            x = sub(load(cells, d * WIDTH), broadcast(np.float32(shift[d])))
            x = fma(x, factor, zero)
            store(cells, d * WIDTH, x)
            total = fma(x, x, total)
    store(tile.squares, 0, total)
    store(tile.best, 0, broadcast(FAR))
    store(tile.second, 0, broadcast(FAR))
    store(tile.nearest, 0, broadcast(np.int32(0)))


@inner
def find_lowest(
    tile: Tile, dim: int, table: CentroidTable, index: np.ndarray, begin: int, stop: int
) -> None:
    """Best and second best of each lane, with the centroids index[begin : stop] too."""
    b, t, n = load(tile.best, 0), load(tile.second, 0), load(tile.nearest, 0)
    shifted, half, cells = table.shifted, table.half, tile.cells
    for p in range(begin, stop, 4):
        for ahead in range(p + 4, min(p + 8, stop)):
            cell = np.int64(index[ahead]) * dim
            prefetch(shifted, cell)
            prefetch(shifted, cell + 16)
            prefetch(shifted, cell + dim - 1)
        j0, j1, j2, j3 = index[p], index[p + 1], index[p + 2], index[p + 3]
        s0 = s1 = s2 = s3 = broadcast(np.float32(0))
        for d in range(dim):
            x = load(cells, d * WIDTH)
            s0 = fma(x, broadcast(shifted[j0, d]), s0)
            s1 = fma(x, broadcast(shifted[j1, d]), s1)
            s2 = fma(x, broadcast(shifted[j2, d]), s2)
            s3 = fma(x, broadcast(shifted[j3, d]), s3)
        b, t, n = _lower(b, t, n, sub(broadcast(half[j0]), s0), j0)
        b, t, n = _lower(b, t, n, sub(broadcast(half[j1]), s1), j1)
        b, t, n = _lower(b, t, n, sub(broadcast(half[j2]), s2), j2)
        b, t, n = _lower(b, t, n, sub(broadcast(half[j3]), s3), j3)
    store(tile.best, 0, b)
    store(tile.second, 0, t)
    store(tile.nearest, 0, n)


@inner(inline="always")
def _lower(b, t, n, score, j):  # type: ignore[no-untyped-def]
    """Best, second best and index of the best, with one more score."""
    nearer = less(score, b)
    t = select(nearer, b, select(less(score, t), score, t))
    n = select(nearer, broadcast(np.int32(j)), n)
    b = select(nearer, score, b)
    return b, t, n


@inner
def shortlist(
    tile: Tile, dim: int, table: CentroidTable, index: np.ndarray, begin: int, depth: int
) -> int:
    """Candidates whose score is as low as `reached` in some lane, into `few`; how many."""
    limit = load(tile.reached, 0)
    shifted, half, cells, few = table.shifted, table.half, tile.cells, tile.few
    count = 0
    for p in range(begin, begin + depth):
        j = index[p]
        score = broadcast(np.float32(0))
        for d in range(dim):  # in the very steps of find_lowest
            score = fma(load(cells, d * WIDTH), broadcast(shifted[j, d]), score)
        few[count] = j
        count += 0 if all_lanes(less(limit, sub(broadcast(half[j]), score))) else 1
    return count


@inner
def bound_distances(tile: Tile, table: CentroidTable, after: np.float32) -> int:
    """Levels of upper and lower bounds, and `reached`; how many lanes are unclear.

    after: lower bound on the distance from the anchor of the centroids after the list.
    """
    count = 0
    zero, two, top = np.float32(0), np.float32(2), np.float32(MAX_LEVEL)
    slack, levels = table.slack, 1 / table.level
    for lane in range(WIDTH):
        square, best, second = tile.squares[lane], tile.best[lane], tile.second[lane]
        length = np.sqrt(square)
        near = max(square + two * best, zero)
        error = length + np.sqrt(near)
        error = two * slack * error * error  # of a squared distance
        # Negated, so that NaN is close too.
        unclear = not (two * (second - best) > two * error)
        far = max(square + two * (best if unclear else second), zero)
        off = length + np.sqrt(far)
        far = np.sqrt(max(far - two * slack * off * off, zero))
        far = min(far, after - tile.radius[lane])
        near = np.sqrt(near + error)
        tile.upper[lane] = np.int32(min(np.ceil(near * levels), top))
        tile.lower[lane] = np.int32(min(max(np.floor(far * levels), zero), top))
        tile.reached[lane] = best + error if unclear else -FAR
        count += 1 if unclear else 0
    return count
