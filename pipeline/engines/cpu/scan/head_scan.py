"""Rows against a list of candidates by their heads: few are compared in full."""

from typing import NamedTuple

import numpy as np

from pipeline.engines.cpu.assignment_cache import MAX_LEVEL
from pipeline.engines.cpu.centroid_table import FAR, CentroidTable
from pipeline.engines.cpu.products import dot, four_dots
from pipeline.engines.cpu.scan.heads import Heads
from pipeline.engines.cpu.scan.tile_scores import Tile
from pipeline.engines.cpu.simd import (
    WIDTH,
    broadcast,
    first_bit,
    fma,
    inner,
    less,
    load,
    mask_bits,
    select,
    store,
    sub,
)

MARGIN_SHARE = np.float32(0.03)  # of the distance to the best, by which others may be farther
_ALL = np.int32((1 << WIDTH) - 1)


class HeadTile(NamedTuple):
    """What is known of the rows of a tile beside `Tile`.

    cells: (lanes · padded,) float32, row after row, shifted and scaled. heads: ((h + 1) · lanes,)
    float32, by coordinates. scores: ((k + 3) · lanes,) float32, lower bounds of the candidates.
    limit: (lanes,) float32, scores up to which candidates are looked at. pruned: (lanes,) float32,
    the lowest bound of those that were not. first: (lanes,) int32, which was the first.
    """

    cells: np.ndarray
    heads: np.ndarray
    scores: np.ndarray
    limit: np.ndarray
    pruned: np.ndarray
    first: np.ndarray


@inner(allocates=True)
def new_head_tile(heads: Heads | None) -> HeadTile | None:
    """Room for the rows of a vector."""
    if heads is None:
        return None
    size = len(heads.basis)
    return HeadTile(
        np.zeros(heads.basis.shape[1] * WIDTH, np.float32),
        np.empty((size + 1) * WIDTH, np.float32),
        np.empty((len(heads.half) + 3) * WIDTH, np.float32),
        np.empty(WIDTH, np.float32),
        np.empty(WIDTH, np.float32),
        np.empty(WIDTH, np.int32),
    )


@inner
def load_heads(
    rows: np.ndarray, table: CentroidTable, heads: Heads, tile: Tile, of: HeadTile
) -> None:
    """Cells, heads and squared lengths of the tile's members."""
    shift, scale = table.shift, table.scale
    dim, padded, size = rows.shape[1], heads.basis.shape[1], len(heads.basis)
    cells, basis, member = of.cells, heads.basis.reshape(-1), tile.member
    squares, coordinates, slack = tile.squares, of.heads, heads.slack
    for lane in range(WIDTH):
        row, own = rows[member[lane]], cells[lane * padded : lane * padded + dim]
        for d in range(dim):
            own[d] = np.float32((shift.dtype.type(row[d]) - shift[d]) * scale)
    for lane in range(WIDTH):
        at = lane * padded
        square = dot(cells, at, cells, at, padded)
        rest = square
        for h in range(0, size, 4):
            values = four_dots(cells, at, basis, h * padded, padded)
            for i in range(4):
                coordinates[(h + i) * WIDTH + lane] = values[i]
                rest -= values[i] * values[i]
        rest = max(rest, np.float32(0)) + slack * square
        coordinates[size * WIDTH + lane] = np.sqrt(rest)
        squares[lane] = square


@inner
def _bound_scores(of: HeadTile, heads: Heads, index: np.ndarray, begin: int, depth: int) -> None:
    """Lower bounds on the scores of the centroids index[begin : begin + depth], of each lane."""
    cells, corners, bounds, scores = of.heads, heads.cells, heads.half, of.scores
    at = 0
    for p in range(begin, begin + depth, 4):
        j0, j1, j2, j3 = index[p], index[p + 1], index[p + 2], index[p + 3]
        s0 = s1 = s2 = s3 = broadcast(np.float32(0))
        for h in range(corners.shape[1]):
            x = load(cells, h * WIDTH)
            s0 = fma(x, broadcast(corners[j0, h]), s0)
            s1 = fma(x, broadcast(corners[j1, h]), s1)
            s2 = fma(x, broadcast(corners[j2, h]), s2)
            s3 = fma(x, broadcast(corners[j3, h]), s3)
        store(scores, at, sub(broadcast(bounds[j0]), s0))
        store(scores, at + WIDTH, sub(broadcast(bounds[j1]), s1))
        store(scores, at + 2 * WIDTH, sub(broadcast(bounds[j2]), s2))
        store(scores, at + 3 * WIDTH, sub(broadcast(bounds[j3]), s3))
        at += 4 * WIDTH


@inner
def _choose(scores: np.ndarray, index: np.ndarray, begin: int, depth: int, to: np.ndarray) -> None:
    """The candidate of the lowest bound of each lane."""
    best, found = broadcast(FAR), broadcast(np.int32(index[begin]))
    for p in range(depth):
        score = load(scores, p * WIDTH)
        nearer = less(score, best)
        found = select(nearer, broadcast(np.int32(index[begin + p])), found)
        best = select(nearer, score, best)
    store(to, 0, found)


@inner(inline="always")
def _limit(best, square, slack, more, margin):  # type: ignore[no-untyped-def]
    """Score up to which candidates may be nearest, or near enough to count for the lower bound."""
    near = np.sqrt(max(square + np.float32(2) * best, np.float32(0)))
    length = np.sqrt(square) + near
    within = min(margin, MARGIN_SHARE * near)
    error = np.float32(2) * slack * length * length
    further = within * (near + np.float32(0.5) * within)
    return best + error + further + more * square


@inner
def find_by_heads(
    tile: Tile,
    of: HeadTile,
    size: int,
    table: CentroidTable,
    heads: Heads,
    index: np.ndarray,
    begin: int,
    depth: int,
    margin: np.float32,
    listed: bool,
) -> int:
    """Best and second best among the centroids index[begin : begin + depth], of `size` lanes.

    Second best are those that were looked at, see `of.pruned`. listed: the first is a good guess.
    Returns: products in full.
    """
    padded, whole, half = heads.basis.shape[1], heads.whole, table.half
    slack, more = table.slack, heads.slack
    squares, best, second, nearest = tile.squares, tile.best, tile.second, tile.nearest
    cells, scores, limits, first = of.cells, of.scores, of.limit, of.first
    _bound_scores(of, heads, index, begin, depth)
    if listed:
        store(first, 0, broadcast(np.int32(index[begin])))
    else:
        _choose(scores, index, begin, depth, first)
    for lane in range(size, WIDTH):
        best[lane], second[lane], limits[lane] = 0, FAR, -FAR  # no rows of their own
    for lane in range(size):
        j = first[lane]
        score = half[j] - dot(cells, lane * padded, whole, np.int64(j) * padded, padded)
        best[lane], second[lane], nearest[lane] = score, FAR, j
        limits[lane] = _limit(score, squares[lane], slack, more, margin)
    products = size
    limit, pruned = load(limits, 0), broadcast(FAR)
    for p in range(depth):
        bound = load(scores, p * WIDTH)
        out = less(limit, bound)
        pruned = select(out, select(less(bound, pruned), bound, pruned), pruned)
        bits = _ALL ^ mask_bits(out)
        if bits == 0:
            continue
        j = index[begin + p]
        while bits != 0:
            lane = first_bit(bits)
            bits &= bits - np.int32(1)
            score = half[j] - dot(cells, lane * padded, whole, np.int64(j) * padded, padded)
            products += 1
            before = best[lane]
            other = max(score, before) if first[lane] != j else FAR
            second[lane] = min(second[lane], other)  # without branches, which nobody could guess
            if score < before:
                best[lane], nearest[lane] = score, j
                limits[lane] = _limit(score, squares[lane], slack, more, margin)
                limit = load(limits, 0)
    store(of.pruned, 0, pruned)
    return products


@inner
def bound_by_heads(tile: Tile, of: HeadTile, table: CentroidTable, heads: Heads) -> None:
    """Lower the lower bounds to those of the candidates that were not looked at."""
    less_square = np.float32(1) - np.float32(2.0001) * heads.slack
    squares, lower, pruned, levels = tile.squares, tile.lower, of.pruned, 1 / table.level
    for lane in range(WIDTH):
        far = squares[lane] * less_square + np.float32(2) * pruned[lane]
        far = np.sqrt(max(far, np.float32(0))) * np.float32(0.999999) * levels
        lower[lane] = min(lower[lane], np.int32(min(np.floor(far), np.float32(MAX_LEVEL))))


@inner
def shortlist_by_heads(
    tile: Tile,
    of: HeadTile,
    table: CentroidTable,
    heads: Heads,
    index: np.ndarray,
    begin: int,
    depth: int,
) -> int:
    """Candidates whose score is as low as `reached` in some lane, into `few`; how many."""
    padded, whole, half = heads.basis.shape[1], heads.whole, table.half
    squares, reached, few, more = tile.squares, tile.reached, tile.few, heads.slack
    cells, scores, limits = of.cells, of.scores, of.limit
    for lane in range(WIDTH):
        limits[lane] = reached[lane] + more * squares[lane]
    limit, count = load(limits, 0), 0
    for p in range(depth):
        bits = _ALL ^ mask_bits(less(limit, load(scores, p * WIDTH)))
        j = index[begin + p]
        while bits != 0:
            lane = first_bit(bits)
            bits &= bits - np.int32(1)
            score = half[j] - dot(cells, lane * padded, whole, np.int64(j) * padded, padded)
            if score <= reached[lane]:
                few[count] = j
                count += 1
                break
    return count
