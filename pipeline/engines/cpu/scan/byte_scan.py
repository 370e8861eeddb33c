"""Rows of bytes against a list of candidates by their bytes: few are compared in full."""

import numpy as np

from pipeline.engines.cpu.centroid_table import FAR, CentroidTable
from pipeline.engines.cpu.scan.row_words import add_byte_products, to_floats, to_ints
from pipeline.engines.cpu.scan.tile_scores import Tile, find_lowest
from pipeline.engines.cpu.simd import (
    WIDTH,
    all_lanes,
    broadcast,
    fma,
    inner,
    less,
    load,
    root,
    select,
    store,
    sub,
)

FIRST = 4  # candidates that are compared in full in any case
MARGIN_SHARE = np.float32(0.05)  # of the distance to the best, by which others may be farther
_NOTHING = np.int32(2**31 - 1)
_MOST = np.float32(1 << 29)  # more than any bound that matters
_ROUNDING = np.float32(2.0**-20)  # of bounds as float32, and a few steps with them


@inner
def find_lowest_by_bytes(
    tile: Tile,
    dim: int,
    table: CentroidTable,
    index: np.ndarray,
    begin: int,
    depth: int,
    margin: np.float32,
    listed: bool,
    label: np.ndarray,
) -> int:
    """Best and second best among the centroids index[begin : begin + depth], of each lane.

    margin: see `Candidates`. listed: the first of them is a good guess; otherwise the rows' labels
    are, (n,), and the margin is as large as pays. The second best may be less, down to the bound of
    one that was not compared in full. Those that were come to tile.few.
    Returns: how many, filled up to fours.
    """
    few, k, first = tile.few, len(table.half) - 1, min(FIRST, depth) if listed else 0
    for p in range(first):
        few[p] = index[begin + p]
    if listed:
        find_lowest(tile, dim, table, few, 0, first)
    else:
        _score_labels(tile, dim, table, label)
        margin = FAR
    limit, pruned, count = _limit(tile, table, margin), broadcast(_NOTHING), first
    if not listed:
        store(tile.best, 0, broadcast(FAR))
    for p in range(begin + first, begin + depth, 4):
        j0, j1, j2, j3 = index[p], index[p + 1], index[p + 2], index[p + 3]
        s0, s1, s2, s3 = _four_bounds(tile.words, table.quantized, j0, j1, j2, j3)
        lowest = _lower(_lower(s0, s1), _lower(s2, s3))
        if all_lanes(less(limit, lowest)):  # as is usual
            pruned = _lower(pruned, lowest)
            continue
        pruned, count = _sort_out(pruned, limit, s0, j0, few, count)
        pruned, count = _sort_out(pruned, limit, s1, j1, few, count)
        pruned, count = _sort_out(pruned, limit, s2, j2, few, count)
        pruned, count = _sort_out(pruned, limit, s3, j3, few, count)
    stop = (count + 3) // 4 * 4
    for p in range(count, stop):
        few[p] = k
    find_lowest(tile, dim, table, few, first, stop)
    _raise_second(tile, table, pruned)
    return stop


@inner(inline="always")
def _four_bounds(cells, quantized, j0, j1, j2, j3):  # type: ignore[no-untyped-def]
    """Bounds of the scores of four candidates, but for the error, in each lane; whole numbers."""
    words, half = quantized.words, quantized.half
    s0, s1 = broadcast(half[j0]), broadcast(half[j1])
    s2, s3 = broadcast(half[j2]), broadcast(half[j3])
    for w in range(words.shape[1]):
        x = load(cells, w * WIDTH)
        s0 = add_byte_products(s0, x, broadcast(words[j0, w]))
        s1 = add_byte_products(s1, x, broadcast(words[j1, w]))
        s2 = add_byte_products(s2, x, broadcast(words[j2, w]))
        s3 = add_byte_products(s3, x, broadcast(words[j3, w]))
    return s0, s1, s2, s3


@inner(inline="always")
def _sort_out(pruned, limit, bound, j, few, count):  # type: ignore[no-untyped-def]
    """Add a candidate to `few` where some lane needs it; the lowest bound of lanes that do not."""
    out = less(limit, bound)
    pruned = select(out, _lower(pruned, bound), pruned)
    few[count] = j
    count += 0 if all_lanes(out) else 1
    return pruned, count


@inner(inline="always")
def _limit(tile, table, margin):  # type: ignore[no-untyped-def]
    """Bound up to which candidates may be nearest, or near enough to count for the lower bound."""
    one, zero = broadcast(np.float32(1)), broadcast(np.float32(0))
    square, best = load(tile.squares, 0), load(tile.best, 0)
    near = fma(best, broadcast(np.float32(2)), square)
    near, length = root(select(less(near, zero), zero, near)), root(square)
    within = _lower(broadcast(np.float32(margin)), fma(near, broadcast(MARGIN_SHARE), zero))
    further = fma(within, fma(within, broadcast(np.float32(0.5)), near), best)
    reach = fma(length, one, near)
    error = fma(fma(reach, reach, zero), broadcast(np.float32(2) * table.slack), further)
    unit, off = table.quantized.unit, broadcast(table.quantized.error)
    limit = fma(error, broadcast(np.float32(1) / unit), fma(length, off, broadcast(np.float32(2))))
    limit = fma(_size(limit), broadcast(_ROUNDING), limit)
    return to_ints(_lower(limit, broadcast(_MOST)))


@inner(inline="always")
def _raise_second(tile, table, pruned):  # type: ignore[no-untyped-def]
    """The second best are no more than what the bounds of those left out allow."""
    unit, off = table.quantized.unit, broadcast(-table.quantized.error)
    bound = fma(root(load(tile.squares, 0)), off, to_floats(pruned))
    bound = fma(_size(bound), broadcast(-_ROUNDING), sub(bound, broadcast(np.float32(1))))
    bound = fma(bound, broadcast(unit), broadcast(np.float32(0)))
    store(tile.second, 0, _lower(load(tile.second, 0), bound))


@inner(inline="always")
def _lower(one, other):  # type: ignore[no-untyped-def]
    """The lower of both in each lane."""
    return select(less(one, other), one, other)


@inner(inline="always")
def _size(value):  # type: ignore[no-untyped-def]
    """Without its sign."""
    negative = sub(broadcast(np.float32(0)), value)
    return select(less(value, negative), negative, value)


@inner
def guess_by_bytes(
    tile: Tile, table: CentroidTable, index: np.ndarray, begin: int, depth: int
) -> None:
    """A centroid near each lane among index[begin : begin + depth]: that of the lowest bound."""
    best, nearest = broadcast(_NOTHING), broadcast(np.int32(index[begin]))
    for p in range(begin, begin + depth, 4):
        j0, j1, j2, j3 = index[p], index[p + 1], index[p + 2], index[p + 3]
        s0, s1, s2, s3 = _four_bounds(tile.words, table.quantized, j0, j1, j2, j3)
        best, nearest = _nearer(best, nearest, s0, j0)
        best, nearest = _nearer(best, nearest, s1, j1)
        best, nearest = _nearer(best, nearest, s2, j2)
        best, nearest = _nearer(best, nearest, s3, j3)
    store(tile.nearest, 0, nearest)


@inner(inline="always")
def _nearer(best, nearest, bound, j):  # type: ignore[no-untyped-def]
    """Lowest bound and its candidate, with one more."""
    lower = less(bound, best)
    return select(lower, bound, best), select(lower, broadcast(np.int32(j)), nearest)


@inner
def _score_labels(tile: Tile, dim: int, table: CentroidTable, label: np.ndarray) -> None:
    """Scores of the centroids that are the labels of the lanes' rows, into tile.best."""
    for lane in range(WIDTH):
        j, score = label[tile.member[lane]], np.float32(0)
        for d in range(dim):
            score += tile.cells[d * WIDTH + lane] * table.shifted[j, d]
        tile.best[lane] = table.half[j] - score
