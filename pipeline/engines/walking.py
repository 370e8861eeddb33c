"""The inner kernel of the pruned engine: rows in the lanes of a vector walk a list of candidates.

Scores are ½|c|² − x·c in float32, about a shift near the mean of the centroids. Their rounding is
bounded; where the two best lie closer than the bound, float64 decides. So a label is always that of
float64, ties to the lowest index, whatever list it was found in.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from pipeline.engines.lanes import WIDTH, fma, less, load, prefetch, select, splat, store, sub

FAR = np.float32(1e38)  # half the squared length of the centroid that fills up a list
MAX_LEVEL = 65535  # of a stored distance; as an upper bound it says: unknown
BUCKETS = 64
# Beyond this many times the spread of the centroids, float32 may overflow: float64 alone is used.
FARTHEST = np.float32(1e15)


class Table(NamedTuple):
    """Centroids in the forms that the kernels read. Unit of length: 1 / scale of the rows' own.

    centroids: (k, d) float32 or float64, as given. shift: (d,) of that type. scale: a power of
    two that brings the spread of the centroids below 1, of that type too.
    shifted: (k + 1, d) float32, (c − shift) · scale; the last is a filling. half: (k + 1,)
    float32, ½|shifted|². columns: (d · width,) float32, shifted.T with rows of `width`, a
    multiple of twice the lanes. slack: relative bound on the rounding of a score. rounding: bound
    on that of `shifted`, as a distance.
    """

    centroids: np.ndarray
    shift: np.ndarray
    scale: np.floating
    shifted: np.ndarray
    half: np.ndarray
    columns: np.ndarray
    width: int
    slack: np.float32
    rounding: np.float32


class Lists(NamedTuple):
    """For each anchor its nearest centroids, by growing distance.

    start: (anchors + 1,) int64, where each list begins; a multiple of four. member: (m,) int32,
    filled up with k. bound: (m,) float32, lower bound on the distance from the anchor of this
    centroid and all after it. beyond: (anchors,) float32, the same of all that are not listed.
    """

    start: np.ndarray
    member: np.ndarray
    bound: np.ndarray
    beyond: np.ndarray


class Rows(NamedTuple):
    """Rows on their way, grouped by anchor.

    row: (n,) int32, number in the block. anchor: (n,) int32. radius: (n,) float32, upper bound
    on the distance to the anchor.
    """

    row: np.ndarray
    anchor: np.ndarray
    radius: np.ndarray


class Known(NamedTuple):
    """What is known of the rows of a block; distances in levels of `unit`.

    label: (n,) uint16 or uint32. upper: (n,) uint16, of the distance to the own centroid;
    MAX_LEVEL: unknown. lower: (n,) uint16, of the distance to any other.
    """

    label: np.ndarray
    upper: np.ndarray
    lower: np.ndarray


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
) -> tuple[int, int]:
    """Find the nearest centroid of pending[first : stop] and write it to `known`.

    margin: (anchors,) float32, how much farther than needed to look, for the sake of the lower
    bounds. exact: anchors are the centroids themselves, and a list that ends too early is
    replaced by one that does not; otherwise the best of the list is taken. reach: (anchors,)
    float32, raised to the largest radius met.
    Returns: products of a row and a candidate, rows decided in float64.
    """
    dim = rows.shape[1]
    cells = rows.reshape(-1)
    tile = np.empty(dim * WIDTH, np.float32)
    squares = np.empty(WIDTH, np.float32)
    radii = np.empty(WIDTH, np.float32)
    members = np.empty(WIDTH, np.int32)
    best, second = np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32)
    nearest, levels = np.empty(WIDTH, np.int32), np.empty(2 * WIDTH, np.int32)
    close = np.empty(WIDTH, np.bool_)
    sequence = np.empty(stop - first, np.int32)
    ends = np.empty(BUCKETS + 1, np.int32)
    k = len(table.half) - 1
    long_list, long_bound = np.empty(0, np.int32), np.empty(0, np.float32)
    products, decided = 0, 0
    at = first
    while at < stop:
        anchor = pending.anchor[at]
        end = at + 1
        while end < stop and pending.anchor[end] == anchor:
            end += 1
        farthest = _by_radius(pending.radius, at, end, exact, sequence, ends)
        reach[anchor] = max(reach[anchor], farthest)
        if end < stop:  # the next list, while the rows of this one walk
            begin = lists.start[pending.anchor[end]]
            for p in range(begin, begin + min(256, len(lists.member) - begin), 16):
                prefetch(lists.member, p)
                prefetch(lists.bound, p)
        start = lists.start[anchor]
        listed = lists.start[anchor + 1] - start
        longer, long_beyond = 0, np.float32(0)
        group_stop = at + (end - at) % WIDTH  # the small group first: it holds the nearest rows
        if group_stop == at:
            group_stop += WIDTH
        group_start = at
        while group_start < end:
            size = group_stop - group_start
            largest = np.float32(0)
            for lane in range(WIDTH):
                place = sequence[group_start - at + min(lane, size - 1)]
                members[lane] = pending.row[place]
                radii[lane] = pending.radius[place]
                largest = max(largest, radii[lane])
            _load_tile(rows, members, table, tile, squares)
            for place in range(group_stop, min(group_stop + WIDTH, stop)):
                ahead = sequence[place - at] if place < end else place
                cell = np.int64(pending.row[ahead]) * dim
                prefetch(cells, cell)
                prefetch(cells, cell + dim - 1)
            if exact and not largest < FARTHEST:
                for lane in range(size):
                    _decide_alone(rows, members[lane], table.centroids, known)
                decided += size
            else:
                limit = np.float32(2.00002) * largest + margin[anchor]
                if longer == 0 and exact and lists.beyond[anchor] <= limit:
                    long_list = np.empty(k + 3, np.int32)
                    long_bound = np.empty(k + 3, np.float32)
                    squared = np.empty(table.width, np.float32)
                    square_distances(table.shifted[anchor], table, squared)
                    # enough for the last group of this anchor, and so for all
                    all_of_it = np.float32(2.0001) * farthest + np.float32(2) * margin[anchor]
                    all_of_it = max(all_of_it, np.float32(1e-30))
                    longer = list_near(squared, all_of_it, table, long_list, long_bound)
                    long_beyond = np.float32(np.inf)
                    if longer < k:
                        long_beyond = certain(all_of_it, table)
                if longer > 0:
                    depth, after = _depth(long_bound, 0, longer, limit, long_beyond)
                    index, begin = long_list, 0
                else:
                    index, begin = lists.member, start
                    depth, after = listed, lists.beyond[anchor]
                    if exact:
                        depth, after = _depth(lists.bound, start, listed, limit, after)
                _scan(tile, dim, table, index, begin, depth, best, second, nearest)
                products += size * depth
                _bounds(squares, best, second, radii, after, table.slack, 1 / unit, levels, close)
                for lane in range(size):
                    row, label = members[lane], nearest[lane]
                    if close[lane]:
                        label = _decide(rows, row, table.centroids, index, begin, depth)
                        decided += 1
                    known.label[row] = label
                    known.upper[row] = levels[lane]
                    known.lower[row] = levels[WIDTH + lane]
            group_start = group_stop
            group_stop += WIDTH
        at = end
    return products, decided


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
    if not wanted or stop - first <= WIDTH or not high < FARTHEST:
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
        # −½|c|² + x·c, to be negated: an fma has no minus of its own here
        s0, s1 = splat(-half[j0]), splat(-half[j1])
        s2, s3 = splat(-half[j2]), splat(-half[j3])
        for d in range(dim):
            x = load(tile, d * WIDTH)
            s0 = fma(x, splat(shifted[j0, d]), s0)
            s1 = fma(x, splat(shifted[j1, d]), s1)
            s2 = fma(x, splat(shifted[j2, d]), s2)
            s3 = fma(x, splat(shifted[j3, d]), s3)
        zero = splat(np.float32(0))
        b, t, n = _lower(b, t, n, sub(zero, s0), j0)
        b, t, n = _lower(b, t, n, sub(zero, s1), j1)
        b, t, n = _lower(b, t, n, sub(zero, s2), j2)
        b, t, n = _lower(b, t, n, sub(zero, s3), j3)
    store(best, 0, b)
    store(second, 0, t)
    store(nearest, 0, n)


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
    close: np.ndarray,
) -> None:
    """Levels of the upper bounds, then of the lower ones; whether float64 must decide.

    after: lower bound on the distance from the anchor of the centroids after the list.
    """
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
        close[lane] = unclear


@njit(nogil=True, cache=True, error_model="numpy")
def _load_tile(
    rows: np.ndarray, members: np.ndarray, table: Table, tile: np.ndarray, squares: np.ndarray
) -> None:
    """Rows into lanes, shifted and scaled, and their squared lengths."""
    dim = rows.shape[1]
    shift, scale = table.shift, table.scale
    for lane in range(WIDTH):
        row = rows[members[lane]]
        for d in range(dim):
            tile[d * WIDTH + lane] = np.float32((shift.dtype.type(row[d]) - shift[d]) * scale)
    total = splat(np.float32(0))
    for d in range(dim):
        x = load(tile, d * WIDTH)
        total = fma(x, x, total)
    store(squares, 0, total)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _exact(rows: np.ndarray, row: int, centroids: np.ndarray, j: int) -> float:
    """Squared distance in float64."""
    total = 0.0
    for d in range(rows.shape[1]):
        difference = np.float64(rows[row, d]) - np.float64(centroids[j, d])
        total += difference * difference
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def _decide(
    rows: np.ndarray, row: int, centroids: np.ndarray, index: np.ndarray, begin: int, depth: int
) -> int:
    """Nearest of the listed centroids in float64, ties to the lowest index."""
    k = len(centroids)
    smallest, nearest = np.inf, k
    for p in range(begin, begin + depth):
        j = index[p]
        if j < k:
            distance = _exact(rows, row, centroids, j)
            if distance < smallest or (distance == smallest and j < nearest):
                smallest, nearest = distance, j
    return nearest


@njit(nogil=True, cache=True, error_model="numpy")
def _decide_alone(rows: np.ndarray, row: int, centroids: np.ndarray, known: Known) -> None:
    """Label of one row in float64 among all centroids; nothing is learned about distances."""
    index = np.arange(len(centroids)).astype(np.int32)
    known.label[row] = _decide(rows, row, centroids, index, 0, len(index))
    known.upper[row] = MAX_LEVEL
    known.lower[row] = 0


@njit(nogil=True, cache=True, error_model="numpy")
def certain(distance: np.float32, table: Table) -> np.float32:
    """What is left of a distance between centroids when the worst rounding is taken off."""
    return max(distance * (np.float32(1) - table.slack) - table.rounding, np.float32(0))


@njit(nogil=True, cache=True, error_model="numpy")
def square_distances(anchor: np.ndarray, table: Table, out: np.ndarray) -> None:
    """Squared distances of a point from all centroids, as float32 has them.

    anchor: (d,) float32, shifted and scaled. out: (width,) float32.
    """
    dim, width, columns = len(anchor), table.width, table.columns
    for j in range(0, width, 2 * WIDTH):
        one, two = splat(np.float32(0)), splat(np.float32(0))
        for d in range(dim):
            here = splat(anchor[d])
            difference = sub(load(columns, d * width + j), here)
            one = fma(difference, difference, one)
            difference = sub(load(columns, d * width + j + WIDTH), here)
            two = fma(difference, difference, two)
        store(out, j, one)
        store(out, j + WIDTH, two)


@njit(nogil=True, cache=True, error_model="numpy")
def list_near(
    square: np.ndarray, limit: np.float32, table: Table, index: np.ndarray, bound: np.ndarray
) -> int:
    """Centroids nearer than the limit, by growing distance, filled up to a multiple of four.

    square: (width,) float32, see `square_distances`. index, bound: room for k + 3 entries; the
    bounds are at most the distances. Returns: how many there are, without the filling.
    """
    k = len(table.half) - 1
    count = 0
    largest = np.float32(0)
    most = limit * limit
    for j in range(k):  # no branch, which would often be guessed wrong
        index[count], bound[count] = j, square[j]
        count += 1 if square[j] < most else 0
    for p in range(count):
        bound[p] = np.sqrt(bound[p])
        largest = max(largest, bound[p])
    buckets = max(count, 1)
    scale = np.float32(buckets - 1) / max(largest, np.float32(1e-30))
    ends = np.zeros(buckets + 1, np.int32)
    for p in range(count):
        ends[np.int32(bound[p] * scale) + 1] += 1
    for b in range(buckets):
        ends[b + 1] += ends[b]
    index_before, bound_before = index[:count].copy(), bound[:count].copy()
    for p in range(count):
        bucket = np.int32(bound_before[p] * scale)
        place = ends[bucket]
        ends[bucket] = place + 1
        index[place], bound[place] = index_before[p], bound_before[p]
    for i in range(1, count):  # few are out of order
        j, value, place = index[i], bound[i], i
        while place > 0 and bound[place - 1] > value:
            index[place], bound[place] = index[place - 1], bound[place - 1]
            place -= 1
        index[place], bound[place] = j, value
    for p in range(count):
        bound[p] = certain(bound[p], table)
    for p in range(count, (count + 3) // 4 * 4):
        index[p], bound[p] = k, np.inf
    return count
