"""The inner kernel of the pruned engine: rows in the lanes of a vector walk a list of candidates.

Scores are ½|c|² − x·c in float32, about a shift near the mean of the centroids. Their rounding is
bounded; where the two best lie closer than the bound, float64 decides. So a label is always that of
float64, ties to the lowest index, whatever list it was found in.
"""

import numpy as np
from numba import njit

from pipeline.engines.cpu.float64_ties import decide, decide_alone
from pipeline.engines.cpu.layouts import FAR, MAX_LEVEL, Known, Lists, Rows, Table
from pipeline.engines.cpu.simd import (
    WIDTH,
    all_lanes,
    fma,
    less,
    load,
    prefetch,
    select,
    splat,
    store,
    sub,
)

BUCKETS = 64
SHARE = np.float32(0.1)  # of the radius, by which a walk is prolonged at most
WIDE = np.dtype(np.float64)
# Squared length, in spreads of the centroids, beyond which float32 may overflow: float64 is used.
FARTHEST = np.float32(1e30)


@njit(nogil=True, cache=True, error_model="numpy")
def walk(
    rows: np.ndarray,
    pending: Rows,
    first: int,
    stop: int,
    table: Table,
    lists: Lists,
    margin: np.ndarray,
    exact: bool,
    unit: np.float32,
    known: Known,
    reach: np.ndarray,
    left: np.ndarray,
) -> tuple[int, int, int]:
    """Find the nearest centroid of pending[first : stop] and write it to `known`.

    margin: (anchors,) float32, how much farther than needed to look, for the sake of the lower
    bounds. exact: anchors are the centroids themselves, and rows for which a list ends too early
    are left alone; otherwise lists are walked to their end, and the best of them is taken. reach:
    (anchors,) float32, raised to the largest radius met. left: (n,) int32, rows left alone.
    Returns: products of a row and a candidate, rows decided in float64, rows left.
    """
    k, dim = table.centroids.shape
    cells = rows.reshape(-1)
    tile = np.empty(dim * WIDTH, np.float32)
    squares, radii = np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32)
    members = np.empty(WIDTH, np.int32)
    best, second = np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32)
    nearest, levels = np.empty(WIDTH, np.int32), np.empty(2 * WIDTH, np.int32)
    reached, few, short = np.empty(WIDTH, np.float32), np.empty(k + 4, np.int32), 0
    sequence = np.empty(stop - first, np.int32)
    ends = np.empty(BUCKETS + 1, np.int32)
    products, decided, unwalked = 0, 0, 0
    at = first
    while at < stop:
        anchor = pending.anchor[at]
        end = at + 1
        while end < stop and pending.anchor[end] == anchor:
            end += 1
        start, listed, beyond = lists.start[anchor], lists.length[anchor], lists.beyond[anchor]
        farthest = _by_radius(pending.radius, at, end, exact, sequence, ends)
        reach[anchor] = max(reach[anchor], farthest)
        count = end - at
        if exact and not _limit(farthest, margin[anchor]) < beyond:
            count = 0
            for i in range(end - at):
                place = sequence[i]
                if _limit(pending.radius[place], margin[anchor]) < beyond:
                    sequence[count] = place
                    count += 1
                else:
                    left[unwalked] = pending.row[place]
                    unwalked += 1
        if end < stop:  # the next list, while the rows of this one walk
            begin = lists.start[pending.anchor[end]]
            for p in range(begin, begin + min(256, len(lists.member) - begin), 16):
                prefetch(lists.member, p)
                prefetch(lists.bound, p)
        group_start, group_stop = 0, count % WIDTH  # the small group first: it holds the nearest
        if group_stop == 0:
            group_stop = WIDTH
        while group_start < count:
            size = group_stop - group_start
            largest = np.float32(0)
            for lane in range(WIDTH):
                place = sequence[group_start + min(lane, size - 1)]
                members[lane], radii[lane] = pending.row[place], pending.radius[place]
                largest = max(largest, radii[lane])
            load_tile(rows, members, table, tile, squares)
            for i in range(group_stop, group_stop + WIDTH):  # the next rows, meanwhile
                ahead = sequence[i] if i < count else min(end + i - count, stop - 1)
                cell = np.int64(pending.row[ahead]) * dim
                prefetch(cells, cell)
                prefetch(cells, cell + dim - 1)
            depth, after = listed, beyond
            if exact:
                limit = _limit(largest, margin[anchor])
                depth, after = _depth(lists.bound, start, listed, limit, beyond)
            _scan(tile, dim, table, lists.member, start, depth, best, second, nearest)
            products += size * depth
            unclear = _bounds(
                *(squares, best, second, radii, after, table.slack, 1 / unit),
                *(levels, reached),
            )
            for lane in range(size, WIDTH):  # no rows of their own
                unclear -= 1 if reached[lane] > -FAR else 0
                reached[lane] = -FAR
            if unclear > 0:
                decided += unclear
                short = _shortlist(tile, dim, table, lists.member, start, depth, reached, few)
            for lane in range(size):
                row, label = members[lane], nearest[lane]
                if not squares[lane] < FARTHEST:
                    decide_alone(rows, row, table.centroids, known)
                    continue
                if reached[lane] > -FAR:
                    label = decide(rows, row, table.centroids, few, short)
                known.label[row] = label
                known.upper[row] = levels[lane]
                known.lower[row] = levels[WIDTH + lane]
            group_start, group_stop = group_stop, group_stop + WIDTH
        at = end
    return products, decided, unwalked


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _limit(radius: np.float32, margin: np.float32) -> np.float32:
    """How far from the anchor the nearest centroid of a row may lie; more than rounding adds."""
    return np.float32(2.00002) * radius + min(margin, SHARE * radius)


@njit(nogil=True, cache=True, error_model="numpy")
def _by_radius(
    radius: np.ndarray,
    first: int,
    stop: int,
    wanted: bool,
    sequence: np.ndarray,
    ends: np.ndarray,
) -> np.float32:
    """Positions [first, stop) by growing radius, roughly, into `sequence`; returns the largest.

    wanted: otherwise as they come.
    """
    low = high = radius[first]
    for i in range(first + 1, stop):
        low, high = min(low, radius[i]), max(high, radius[i])
    if not wanted or stop - first <= WIDTH or not high * high < FARTHEST:
        for i in range(first, stop):
            sequence[i - first] = i
        return high
    scale = np.float32(BUCKETS - 1) / max(high - low, np.float32(1e-30))
    ends[:] = 0
    for i in range(first, stop):
        ends[np.int32((radius[i] - low) * scale) + 1] += 1
    for b in range(BUCKETS):
        ends[b + 1] += ends[b]
    for i in range(first, stop):
        bucket = np.int32((radius[i] - low) * scale)
        sequence[ends[bucket]] = i
        ends[bucket] += 1
    return high


@njit(nogil=True, cache=True, error_model="numpy")
def _depth(
    bound: np.ndarray, start: int, listed: int, limit: np.float32, beyond: np.float32
) -> tuple[int, np.float32]:
    """How many candidates lie within the limit, in fours; how far the next one is."""
    low, high = 0, 8
    while high < listed and bound[start + high] <= limit:
        low, high = high, 2 * high
    high = min(high, listed)
    while low < high:
        middle = (low + high) // 2
        if bound[start + middle] <= limit:
            low = middle + 1
        else:
            high = middle
    depth = (low + 3) // 4 * 4
    return depth, bound[start + depth] if depth < listed else beyond


@njit(nogil=True, cache=True, error_model="numpy")
def load_tile(
    rows: np.ndarray, members: np.ndarray, table: Table, tile: np.ndarray, squares: np.ndarray
) -> None:
    """Rows into lanes, shifted and scaled, and their squared lengths."""
    dim = rows.shape[1]
    shift, scale = table.shift, table.scale
    total = splat(np.float32(0))
    if shift.dtype == WIDE:  # known when this is compiled
        for lane in range(WIDTH):
            row = rows[members[lane]]
            for d in range(dim):
                tile[d * WIDTH + lane] = np.float32((row[d] - shift[d]) * scale)
        for d in range(dim):
            x = load(tile, d * WIDTH)
            total = fma(x, x, total)
    else:
        for lane in range(WIDTH):
            row = rows[members[lane]]
            for d in range(dim):
                tile[d * WIDTH + lane] = np.float32(row[d])
        factor, zero = splat(np.float32(scale)), splat(np.float32(0))
        for d in range(dim):
            x = sub(load(tile, d * WIDTH), splat(np.float32(shift[d])))
            x = fma(x, factor, zero)
            store(tile, d * WIDTH, x)
            total = fma(x, x, total)
    store(squares, 0, total)


@njit(nogil=True, cache=True, error_model="numpy")
def _scan(
    tile: np.ndarray,
    dim: int,
    table: Table,
    index: np.ndarray,
    begin: int,
    depth: int,
    best: np.ndarray,
    second: np.ndarray,
    nearest: np.ndarray,
) -> None:
    """Lowest and second lowest score of each lane among index[begin : begin + depth]."""
    b, t = splat(FAR), splat(FAR)
    n = splat(np.int32(0))
    shifted, half = table.shifted, table.half
    stop = begin + depth
    for p in range(begin, stop, 4):
        for ahead in range(p + 4, min(p + 8, stop)):
            cell = np.int64(index[ahead]) * dim
            prefetch(shifted, cell)
            prefetch(shifted, cell + 16)
            prefetch(shifted, cell + dim - 1)
        j0, j1, j2, j3 = index[p], index[p + 1], index[p + 2], index[p + 3]
        s0 = s1 = s2 = s3 = splat(np.float32(0))
        for d in range(dim):
            x = load(tile, d * WIDTH)
            s0 = fma(x, splat(shifted[j0, d]), s0)
            s1 = fma(x, splat(shifted[j1, d]), s1)
            s2 = fma(x, splat(shifted[j2, d]), s2)
            s3 = fma(x, splat(shifted[j3, d]), s3)
        b, t, n = _lower(b, t, n, sub(splat(half[j0]), s0), j0)
        b, t, n = _lower(b, t, n, sub(splat(half[j1]), s1), j1)
        b, t, n = _lower(b, t, n, sub(splat(half[j2]), s2), j2)
        b, t, n = _lower(b, t, n, sub(splat(half[j3]), s3), j3)
    store(best, 0, b)
    store(second, 0, t)
    store(nearest, 0, n)


@njit(nogil=True, cache=True, error_model="numpy")
def _shortlist(
    tile: np.ndarray,
    dim: int,
    table: Table,
    index: np.ndarray,
    begin: int,
    depth: int,
    reached: np.ndarray,
    few: np.ndarray,
) -> int:
    """Candidates whose score is as low as `reached` in some lane, into `few`; how many."""
    limit = load(reached, 0)
    shifted, half = table.shifted, table.half
    count = 0
    for p in range(begin, begin + depth, 4):
        j0, j1, j2, j3 = index[p], index[p + 1], index[p + 2], index[p + 3]
        s0 = s1 = s2 = s3 = splat(np.float32(0))
        for d in range(dim):  # in the very steps of _scan
            x = load(tile, d * WIDTH)
            s0 = fma(x, splat(shifted[j0, d]), s0)
            s1 = fma(x, splat(shifted[j1, d]), s1)
            s2 = fma(x, splat(shifted[j2, d]), s2)
            s3 = fma(x, splat(shifted[j3, d]), s3)
        few[count] = j0
        count += 0 if all_lanes(less(limit, sub(splat(half[j0]), s0))) else 1
        few[count] = j1
        count += 0 if all_lanes(less(limit, sub(splat(half[j1]), s1))) else 1
        few[count] = j2
        count += 0 if all_lanes(less(limit, sub(splat(half[j2]), s2))) else 1
        few[count] = j3
        count += 0 if all_lanes(less(limit, sub(splat(half[j3]), s3))) else 1
    return count


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _lower(b, t, n, score, j):  # type: ignore[no-untyped-def]
    """Best, second best and index of the best, with one more score."""
    nearer = less(score, b)
    t = select(nearer, b, select(less(score, t), score, t))
    n = select(nearer, splat(np.int32(j)), n)
    b = select(nearer, score, b)
    return b, t, n


@njit(nogil=True, cache=True, error_model="numpy")
def _bounds(
    squares: np.ndarray,
    best: np.ndarray,
    second: np.ndarray,
    radii: np.ndarray,
    after: np.float32,
    slack: np.float32,
    levels_per_unit: np.float32,
    levels: np.ndarray,
    reached: np.ndarray,
) -> int:
    """Levels of the upper bounds, then of the lower ones; how many lanes are unclear.

    after: lower bound on the distance from the anchor of the centroids after the list. reached:
    where float64 must decide, the highest score that may be the lowest; else −FAR.
    """
    count = 0
    zero, two = np.float32(0), np.float32(2)
    top = np.float32(MAX_LEVEL)
    for lane in range(WIDTH):
        square = squares[lane]
        length = np.sqrt(square)
        near = max(square + two * best[lane], zero)
        error = length + np.sqrt(near)
        error = two * slack * error * error  # of a squared distance
        # Negated, so that NaN is close too.
        unclear = not (two * (second[lane] - best[lane]) > two * error)
        far = max(square + two * (best[lane] if unclear else second[lane]), zero)
        off = length + np.sqrt(far)
        far = np.sqrt(max(far - two * slack * off * off, zero))
        far = min(far, after - radii[lane])
        near = np.sqrt(near + error)
        levels[lane] = np.int32(min(np.ceil(near * levels_per_unit), top))
        levels[WIDTH + lane] = np.int32(min(max(np.floor(far * levels_per_unit), zero), top))
        reached[lane] = best[lane] + error if unclear else -FAR
        count += 1 if unclear else 0
    return count
