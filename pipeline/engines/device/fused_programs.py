"""Triton kernels: nearest centroids without distances in memory, and exact sums of byte rows.

Distances exist for a tile of rows and centroids, in registers. Of the scores x·c − ½|c|² a thread
takes the largest of each group of its own columns at the cost of one instruction a score, and only
group maxima compete with the best so far; which centroid of the group it was is settled at the
end, in float32, by the distances themselves.

Numbers of rows and clusters change from launch to launch; no kernel is compiled anew for them.
"""

import triton
from triton import language as tl

NEVER = tl.constexpr(1 << 30)  # more than any index
KEPT = tl.constexpr(64)  # columns of a row that registers hold until the end
PART = tl.constexpr(32)  # columns that are read again at a time
SIDE = tl.constexpr(8)  # columns of a tile side by side that are never of one group


@triton.jit(do_not_specialize=["n"])
def nearest_short(
    rows,
    leading,
    trailing,
    centroids,
    half_norms,
    shift,
    labels,
    n,
    k_padded,
    DIM: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CENTROIDS: tl.constexpr,
    GROUP: tl.constexpr,
    HALF: tl.constexpr,
    BIAS: tl.constexpr,
    FOLDED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Labels of rows that a tile holds whole.

    rows: (n, DIM). leading, trailing: (k_padded, FIRST + SECOND), in the order of `arranged`;
    float16 that add up to the shifted centroids where HALF, else float32 and nothing.
    centroids: (k_padded, FIRST + SECOND) float32, shifted, in their own order. half_norms:
    (k_padded,) float32, as arranged; not read where FOLDED: the columns beyond DIM hold them.
    shift: (FIRST + SECOND,), what rows are less of; see `_tile`. labels: (n,) int32.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    there = row < n
    width: tl.constexpr = FIRST + SECOND
    column = tl.arange(0, FIRST)
    x = _tile(rows, shift, row, column, there, DIM, HALF, BIAS)
    member = tl.arange(0, BLOCK_CENTROIDS)
    place = member[None, :] * width + column[:, None]
    if SECOND > 0:
        column_2 = FIRST + tl.arange(0, SECOND)
        x_2 = _tile(rows, shift, row, column_2, there, DIM, HALF, BIAS)
        place_2 = member[None, :] * width + column_2[:, None]
    LANES: tl.constexpr = BLOCK_CENTROIDS // GROUP
    best = tl.full((BLOCK_ROWS, LANES), float("-inf"), tl.float32)
    at = tl.zeros((BLOCK_ROWS, LANES), tl.int32)
    for start in range(0, k_padded, BLOCK_CENTROIDS):
        score = tl.dot(x, tl.load(leading + place), input_precision=PRECISION)
        if HALF:
            score = tl.dot(x, tl.load(trailing + place), score)
        if SECOND > 0:
            score = tl.dot(x_2, tl.load(leading + place_2), score, input_precision=PRECISION)
            if HALF:
                score = tl.dot(x_2, tl.load(trailing + place_2), score)
        if not FOLDED:
            score -= tl.load(half_norms + start + member)[None, :]
        best, at = _better(score, best, at, start, BLOCK_ROWS, LANES, GROUP)
        leading += BLOCK_CENTROIDS * width
        trailing += BLOCK_CENTROIDS * width
    label = _settled(best, at, LANES, GROUP)
    if GROUP > 1:
        first = label
        smallest = tl.full((BLOCK_ROWS,), float("inf"), tl.float32)
        for j in range(GROUP):
            own = centroids + (first + j).to(tl.int64)[:, None] * width
            if width <= KEPT:
                square = _square(x, own, column)
                if SECOND > 0:
                    square += _square(x_2, own, column_2)
            else:  # too many to stay in registers: read again, some columns at a time
                square = tl.zeros((BLOCK_ROWS,), tl.float32)
                for left in range(0, FIRST, PART):
                    some = left + tl.arange(0, PART)
                    again = _tile(rows, shift, row, some, there, DIM, HALF, BIAS)
                    square += _square(again, own, some)
                if SECOND > 0:
                    again = _tile(rows, shift, row, column_2, there, DIM, HALF, BIAS)
                    square += _square(again, own, column_2)
            closer = square < smallest
            smallest = tl.where(closer, square, smallest)
            label = tl.where(closer, first + j, label)
    tl.store(labels + row, label, mask=there)


@triton.jit(do_not_specialize=["n"])
def nearest_long(
    rows,
    leading,
    trailing,
    half_norms,
    shift,
    labels,
    n,
    k_padded,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CENTROIDS: tl.constexpr,
    HALF: tl.constexpr,
    BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Labels of rows of any length, STEP columns at a time; see `nearest_short`.

    leading, trailing: (k_padded, WIDTH); nothing is folded or grouped.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    there = row < n
    member = tl.arange(0, BLOCK_CENTROIDS)
    part = tl.arange(0, STEP)
    best = tl.full((BLOCK_ROWS, BLOCK_CENTROIDS), float("-inf"), tl.float32)
    at = tl.zeros((BLOCK_ROWS, BLOCK_CENTROIDS), tl.int32)
    for start in range(0, k_padded, BLOCK_CENTROIDS):
        score = tl.zeros((BLOCK_ROWS, BLOCK_CENTROIDS), tl.float32)
        own = (start + member).to(tl.int64)[None, :] * WIDTH
        for left in range(0, WIDTH, STEP):
            x = _tile(rows, shift, row, left + part, there, DIM, HALF, BIAS)
            place = own + (left + part)[:, None]
            score = tl.dot(x, tl.load(leading + place), score, input_precision=PRECISION)
            if HALF:
                score = tl.dot(x, tl.load(trailing + place), score)
        score -= tl.load(half_norms + start + member)[None, :]
        best, at = _better(score, best, at, start, BLOCK_ROWS, BLOCK_CENTROIDS, 1)
    tl.store(labels + row, _settled(best, at, BLOCK_CENTROIDS, 1), mask=there)


@triton.jit
def _tile(
    rows, shift, row, column, there, DIM: tl.constexpr, HALF: tl.constexpr, BIAS: tl.constexpr
):
    """Rows less the shift, float16 where HALF, else float32; zeros beyond DIM, less the shift.

    HALF is for bytes, of which BIAS makes numbers from 0 to 255. As the last bits of a float16
    they are 1024 more, which the shift takes off again; converting them would take longer.
    """
    inside = there[:, None] & (column < DIM)[None, :]
    x = tl.load(rows + row[:, None] * DIM + column[None, :], mask=inside, other=0)
    if HALF:
        x = ((x.to(tl.int16) + BIAS) | 0x6400).to(tl.float16, bitcast=True)
    else:
        x = x.to(tl.float32)
    return x - tl.load(shift + column)[None, :]


@triton.jit
def _better(
    score, best, at, start, BLOCK_ROWS: tl.constexpr, LANES: tl.constexpr, GROUP: tl.constexpr
):
    """The best score of each lane so far, and the tile that it is of; ties stay with the first."""
    if GROUP > 1:
        # The members of a group lie SIDE columns apart: all in the registers of one thread.
        apart = tl.reshape(score, (BLOCK_ROWS, LANES // SIDE, GROUP, SIDE))
        score = tl.reshape(tl.max(apart, axis=2), (BLOCK_ROWS, LANES))
    nearer = score > best
    return tl.where(nearer, score, best), tl.where(nearer, start, at)


@triton.jit
def _settled(best, at, LANES: tl.constexpr, GROUP: tl.constexpr):
    """Lowest first index of a group among those with the best score."""
    first = at + (tl.arange(0, LANES) * GROUP)[None, :]
    top = tl.max(best, axis=1)
    return tl.min(tl.where(best == top[:, None], first, NEVER), axis=1)


@triton.jit
def _square(x, own, column):
    """Squared distance of each row to the centroid that begins at its pointer of `own`."""
    apart = x.to(tl.float32) - tl.load(own + column[None, :])
    return tl.sum(apart * apart, axis=1)


@triton.jit(do_not_specialize=["n", "k"])
def add_few(
    rows,
    labels,
    totals,
    n,
    k,
    ROWS: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CLUSTERS: tl.constexpr,
):
    """Add byte rows to the sums of few clusters: memberships times rows, on tensor cores.

    totals: (k, DIM + 2) int64: sums, count, sum of squared lengths. Each program adds up ROWS
    rows and WIDTH - 4 columns by itself; the other four are a one, for the count, and the squared
    length of these columns in digits of eight bits. So float32 holds all sums: ROWS · 255 < 2^24.
    """
    cluster = tl.program_id(1) * BLOCK_CLUSTERS + tl.arange(0, BLOCK_CLUSTERS)
    place = tl.arange(0, WIDTH)
    DATA: tl.constexpr = WIDTH - 4
    column = tl.program_id(2) * DATA + place
    own_columns = (place < DATA) & (column < DIM)
    sums = tl.zeros((BLOCK_CLUSTERS, WIDTH), tl.float32)
    first = tl.program_id(0).to(tl.int64) * ROWS
    for start in range(first, min(first + ROWS, n), BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        inside = (row < n)[:, None] & own_columns[None, :]
        x = tl.load(rows + row[:, None] * DIM + column[None, :], mask=inside, other=0).to(tl.int32)
        digits = tl.sum(x * x, axis=1)[:, None] >> (8 * tl.maximum(place - DATA - 1, 0))[None, :]
        x = tl.where((place > DATA)[None, :], digits & 255, x)
        x = tl.where((place == DATA)[None, :], 1, x)
        label = tl.load(labels + row, mask=row < n, other=-1)
        member = label[None, :] == cluster[:, None]
        sums = tl.dot(member.to(tl.float16), x.to(tl.float16), sums)
    own = totals + cluster.to(tl.int64) * (DIM + 2)
    asked = cluster < k
    whole = sums.to(tl.int64)
    inside = asked[:, None] & own_columns[None, :]
    tl.atomic_add(own[:, None] + column[None, :], whole, mask=inside, sem="relaxed")
    counts = tl.sum(tl.where((place == DATA)[None, :], whole, 0), axis=1)
    once = cluster < tl.where(tl.program_id(2) == 0, k, 0)
    tl.atomic_add(own + DIM, counts, mask=once, sem="relaxed")
    worth = whole << (8 * tl.maximum(place - DATA - 1, 0))[None, :]
    squares = tl.sum(tl.where((place > DATA)[None, :], worth, 0), axis=1)
    tl.atomic_add(own + DIM + 1, squares, mask=asked, sem="relaxed")


@triton.jit(do_not_specialize=["n"])
def move_rows(
    rows,
    before,
    labels,
    totals,
    n,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    ANEW: tl.constexpr,
):
    """Take byte rows whose label changed from one sum and add them to another; see `add_few`.

    before, labels: (n,) int32; below 0: of no sum. ANEW: no row is of any sum yet, and `before` is
    not read.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    new = tl.load(labels + row, mask=row < n, other=-1)
    old = tl.full((BLOCK_ROWS,), -1, tl.int32)
    if not ANEW:
        old = tl.load(before + row, mask=row < n, other=-1)
    changed = new != old
    if tl.max(changed.to(tl.int32), axis=0) > 0:
        to = totals + new.to(tl.int64) * (DIM + 2)
        off = totals + old.to(tl.int64) * (DIM + 2)
        counted = changed & (old >= 0)
        length = tl.zeros((BLOCK_ROWS,), tl.int64)
        for left in range(0, DIM, WIDTH):
            column = left + tl.arange(0, WIDTH)
            inside = column < DIM
            place = row[:, None] * DIM + column[None, :]
            x = tl.load(rows + place, mask=changed[:, None] & inside[None, :], other=0)
            x = x.to(tl.int64)
            length += tl.sum(x * x, axis=1)
            arriving, leaving = (
                changed[:, None] & inside[None, :],
                counted[:, None] & inside[None, :],
            )
            tl.atomic_add(to[:, None] + column[None, :], x, mask=arriving, sem="relaxed")
            if not ANEW:
                tl.atomic_add(off[:, None] + column[None, :], -x, mask=leaving, sem="relaxed")
        one = tl.full((BLOCK_ROWS,), 1, tl.int64)
        tl.atomic_add(to + DIM, one, mask=changed, sem="relaxed")
        tl.atomic_add(to + DIM + 1, length, mask=changed, sem="relaxed")
        if not ANEW:
            tl.atomic_add(off + DIM, -one, mask=counted, sem="relaxed")
            tl.atomic_add(off + DIM + 1, -length, mask=counted, sem="relaxed")
