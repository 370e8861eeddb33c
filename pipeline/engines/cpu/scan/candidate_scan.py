"""The inner kernel of the pruned engine: rows of one anchor scan the list of its candidates.

A label is always that of float64, ties to the lowest index, whatever list it was found in.
"""

from typing import Any, NamedTuple

import numpy as np

from pipeline.engines.cpu.assignment_cache import CachedAssignments
from pipeline.engines.cpu.bounds import PendingRows
from pipeline.engines.cpu.centroid_table import FAR, CentroidTable
from pipeline.engines.cpu.neighbour_lists import NeighbourLists, depth_within, whole_list
from pipeline.engines.cpu.scan.byte_scan import find_lowest_by_bytes, guess_by_bytes
from pipeline.engines.cpu.scan.float64_ties import decide, decide_among_all
from pipeline.engines.cpu.scan.head_scan import (
    bound_by_heads,
    find_by_heads,
    load_heads,
    new_head_tile,
    shortlist_by_heads,
)
from pipeline.engines.cpu.scan.heads import Heads
from pipeline.engines.cpu.scan.radius_order import FARTHEST, by_radius, new_order
from pipeline.engines.cpu.scan.tile_scores import (
    Tile,
    bound_distances,
    fill_tile,
    find_lowest,
    load_tile,
    new_tile,
    shortlist,
)
from pipeline.engines.cpu.simd import WIDTH, inner, kernel, prefetch
from pipeline.engines.cpu.threads import ThreadPool

MARGIN_SHARE = np.float32(0.1)  # of the radius, by which a scan is prolonged at most


class Candidates(NamedTuple):
    """Which centroids rows are compared with.

    exact: anchors are the centroids themselves, and rows for which a list ends too early are left
    alone; otherwise lists are scanned to their end, and the best of them is taken. labelled: a
    label near each row is known, as it always is where anchors are. guess: one that is nearly the
    best serves, and nothing else is wanted. margin: (anchors,) float32, how much farther than
    needed to look, for the sake of the lower bounds. reach: (anchors,) float32, raised to the
    largest radius met.
    """

    table: CentroidTable
    lists: NeighbourLists
    exact: bool
    labelled: bool
    guess: bool
    margin: np.ndarray
    reach: np.ndarray


@kernel
def scan_candidates(
    rows: np.ndarray,
    pending: PendingRows,
    first: int,
    stop: int,
    candidates: Candidates,
    heads: Heads | None,
    known: CachedAssignments,
    left: np.ndarray,
) -> tuple[int, int, int]:
    """Find the nearest centroid of pending[first : stop] and write it to `known`.

    heads: of the centroids; whether there are any is known when this is compiled. left: (n,) int32,
    rows left alone.
    Returns: products of a row and a candidate, rows decided in float64, rows left.
    """
    table, lists, reach = candidates.table, candidates.lists, candidates.reach
    k, dim = table.centroids.shape
    cells, tile = rows.reshape(-1), new_tile(dim, k, table.quantized.words.shape[1])
    of: Any = new_head_tile(heads)
    order = new_order(stop - first)
    products, decided, unscanned = 0, 0, 0
    at = first
    while at < stop:
        anchor = pending.anchor[at]
        end = at + 1
        while end < stop and pending.anchor[end] == anchor:
            end += 1
        farthest = by_radius(pending.radius, at, end, candidates.exact, order)
        reach[anchor] = max(reach[anchor], farthest)
        count = end - at
        if candidates.exact and not _within(farthest, anchor, candidates):
            count, more = _leave_out(
                pending, anchor, candidates, order.place[:count], left[unscanned:]
            )
            unscanned += more
        if end < stop:  # the next list, while the rows of this one are at work
            begin = lists.start[pending.anchor[end]]
            for p in range(begin, begin + min(256, len(lists.member) - begin), 16):
                prefetch(lists.member, p)
                prefetch(lists.bound, p)
        group_start, group_stop = 0, count % WIDTH  # the small group first: it holds the nearest
        if group_stop == 0:
            group_stop = WIDTH
        while group_start < count:
            fill_tile(tile, pending, order.place, group_start, group_stop)
            size = group_stop - group_start
            for i in range(group_stop, group_stop + WIDTH):  # the next rows, meanwhile
                ahead = order.place[i] if i < count else min(end + i - count, stop - 1)
                row = np.int64(pending.row[ahead])
                prefetch(cells, row * dim)
                prefetch(cells, row * dim + dim - 1)
                prefetch(known.label, row)
                prefetch(known.upper, row)
                prefetch(known.lower, row)
            done, unclear = _scan_tile(rows, tile, of, size, anchor, candidates, heads, known)
            products, decided = products + done, decided + unclear
            group_start, group_stop = group_stop, group_stop + WIDTH
        at = end
    return products, decided, unscanned


@inner(forceinline=True)
def _scan_tile(
    rows: np.ndarray,
    tile: Tile,
    of: Any,
    size: int,
    anchor: int,
    candidates: Candidates,
    heads: Heads | None,
    known: CachedAssignments,
) -> tuple[int, int]:
    """The first `size` lanes of a tile; how many candidates it met, and lanes that were unclear.

    of: `HeadTile`, where there are heads.
    """
    table, lists, dim = candidates.table, candidates.lists, rows.shape[1]
    if heads is None:
        load_tile(rows, table, tile)
    else:
        load_heads(rows, table, heads, tile, of)
    start, depth, after = lists.start[anchor], lists.length[anchor], lists.unlisted_bound[anchor]
    if candidates.exact:
        largest = np.float32(0)
        for lane in range(WIDTH):
            largest = max(largest, tile.radius[lane])
        limit = _limit(largest, candidates.margin[anchor])
        depth, after = depth_within(lists.bound, start, depth, limit, after)
    member, short, by_bytes = lists.member, 0, len(tile.words) > 0
    margin, exact = candidates.margin[anchor], candidates.exact
    if heads is not None:
        products = find_by_heads(tile, of, size, table, heads, member, start, depth, margin, exact)
    elif by_bytes and candidates.labelled:
        products = size * depth
        depth = find_lowest_by_bytes(
            tile, dim, table, member, start, depth, margin, exact, known.label
        )
        member, start = tile.few, 0
    elif by_bytes and candidates.guess:
        guess_by_bytes(tile, table, member, start, depth)
        for lane in range(size):
            known.label[tile.member[lane]] = tile.nearest[lane]
        return size * depth, 0
    else:
        find_lowest(tile, dim, table, member, start, start + depth)
        products = size * depth
    unclear = bound_distances(tile, table, after)
    if heads is not None:
        bound_by_heads(tile, of, table, heads)
    for lane in range(size, WIDTH):  # no rows of their own
        unclear -= 1 if tile.reached[lane] > -FAR else 0
        tile.reached[lane] = -FAR
    if unclear > 0:
        if heads is None:
            short = shortlist(tile, dim, table, member, start, depth)
        else:
            short = shortlist_by_heads(tile, of, table, heads, member, start, depth)
    _write(rows, tile, size, table, known, short)
    return products, unclear


@inner
def _write(
    rows: np.ndarray,
    tile: Tile,
    size: int,
    table: CentroidTable,
    known: CachedAssignments,
    short: int,
) -> None:
    """What was found of the first `size` lanes; few[:short] are the candidates of unclear ones."""
    for lane in range(size):
        row, label = tile.member[lane], tile.nearest[lane]
        if not tile.squares[lane] < FARTHEST:
            decide_among_all(rows, row, table, tile.few, known)
            continue
        if tile.reached[lane] > -FAR:
            label = decide(rows, row, table, tile.few, short)
        known.label[row] = label
        known.upper[row] = tile.upper[lane]
        known.lower[row] = tile.lower[lane]


@inner
def _leave_out(
    pending: PendingRows,
    anchor: int,
    candidates: Candidates,
    place: np.ndarray,
    left: np.ndarray,
) -> tuple[int, int]:
    """Rows for which the list of their anchor ends too early go to `left`.

    place: of all rows of the anchor; those of the others come first in it then.
    Returns: how many others there are, and how many left.
    """
    count = more = 0
    for i in range(len(place)):
        at = place[i]
        if _within(pending.radius[at], anchor, candidates):
            place[count] = at
            count += 1
        else:
            left[more] = pending.row[at]
            more += 1
    return count, more


@inner(inline="always")
def _within(radius: np.float32, anchor: int, candidates: Candidates) -> bool:
    """Whether the list of the anchor holds all that may be nearest to a row; not for NaN."""
    limit = _limit(radius, candidates.margin[anchor])
    return limit < candidates.lists.unlisted_bound[anchor]


@inner(inline="always")
def _limit(radius: np.float32, margin: np.float32) -> np.float32:
    """How far from the anchor the nearest centroid of a row may lie; more than rounding adds."""
    return np.float32(2.00002) * radius + min(margin, MARGIN_SHARE * radius)


def scan_whole_lists(
    rows: np.ndarray,
    pending: PendingRows,
    table: CentroidTable,
    lists: NeighbourLists,
    known: CachedAssignments,
    threads: ThreadPool,
    heads: Heads | None = None,
    *,
    labelled: bool = False,
    guess: bool = False,
) -> tuple[int, int]:
    """The best of the whole list of its anchor for each of the rows, grouped by anchor.

    Anchors are no centroids. heads: of the centroids, if they have any. labelled, guess: see
    `Candidates`.
    Returns: products, rows decided in float64.
    """
    zeros, nothing = np.zeros(len(lists.start), np.float32), np.empty(0, np.int32)

    def work(first: int, stop: int) -> tuple[int, int, int]:
        candidates = Candidates(table, lists, False, labelled, guess, zeros, zeros.copy())
        return scan_candidates(rows, pending, first, stop, candidates, heads, known, nothing)

    costs = threads.run(work, threads.stretches(len(pending.row)))
    return sum(cost[0] for cost in costs), sum(cost[1] for cost in costs)


def scan_all(
    rows: np.ndarray,
    numbers: np.ndarray,
    table: CentroidTable,
    known: CachedAssignments,
    threads: ThreadPool,
    heads: Heads | None = None,
    *,
    labelled: bool = False,
    guess: bool = False,
) -> tuple[int, int]:
    """Rows of these numbers, (m,) int32, against every centroid; the rest as above."""
    zeros = np.zeros(len(numbers), np.int32)
    pending = PendingRows(numbers, zeros, zeros.astype(np.float32))
    lists = whole_list(len(table.centroids))
    how = {"labelled": labelled, "guess": guess}
    return scan_whole_lists(rows, pending, table, lists, known, threads, heads, **how)
