"""Triton kernels: nearest centroids without distances in memory.

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
    scale,
    slack,
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
    shift: (FIRST + SECOND,), what rows are less of; scale: see `_tile`. labels: (n,) int32, below
    0, bit by bit the opposite, where float32 cannot tell; not told where HALF. slack: of that.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    there = row < n
    width: tl.constexpr = FIRST + SECOND
    column = tl.arange(0, FIRST)
    x = _tile(rows, shift, row, column, there, scale, DIM, HALF, BIAS)
    member = tl.arange(0, BLOCK_CENTROIDS)
    place = member[None, :] * width + column[:, None]
    if SECOND > 0:
        column_2 = FIRST + tl.arange(0, SECOND)
        x_2 = _tile(rows, shift, row, column_2, there, scale, DIM, HALF, BIAS)
        place_2 = member[None, :] * width + column_2[:, None]
    LANES: tl.constexpr = BLOCK_CENTROIDS // GROUP
    best = tl.full((BLOCK_ROWS, LANES), float("-inf"), tl.float32)
    at = tl.zeros((BLOCK_ROWS, LANES), tl.int32)
    second = tl.full((BLOCK_ROWS, 1 if HALF else LANES), float("-inf"), tl.float32)
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
        best, at, second = _better(
            score, best, at, second, start, BLOCK_ROWS, LANES, GROUP, not HALF
        )
        leading += BLOCK_CENTROIDS * width
        trailing += BLOCK_CENTROIDS * width
    label = _settled(best, at, k_padded, LANES, GROUP)
    if not HALF:
        length = tl.sum(x * x, axis=1)
        if SECOND > 0:
            length += tl.sum(x_2 * x_2, axis=1)
        error, clear = _told(best, second, at, label, length, slack, LANES, GROUP)
    if GROUP > 1:
        first = label
        smallest = tl.full((BLOCK_ROWS,), float("inf"), tl.float32)
        next_one = smallest
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
                    again = _tile(rows, shift, row, some, there, scale, DIM, HALF, BIAS)
                    square += _square(again, own, some)
                if SECOND > 0:
                    again = _tile(rows, shift, row, column_2, there, scale, DIM, HALF, BIAS)
                    square += _square(again, own, column_2)
            closer = square < smallest
            next_one = tl.minimum(next_one, tl.maximum(square, smallest))
            smallest = tl.where(closer, square, smallest)
            label = tl.where(closer, first + j, label)
        if not HALF:
            clear = clear & (next_one - smallest > 2 * error)
    if not HALF:
        label = tl.where(clear, label, ~label)
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
    scale,
    slack,
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
    second = tl.full((BLOCK_ROWS, 1 if HALF else BLOCK_CENTROIDS), float("-inf"), tl.float32)
    for start in range(0, k_padded, BLOCK_CENTROIDS):
        score = tl.zeros((BLOCK_ROWS, BLOCK_CENTROIDS), tl.float32)
        own = (start + member).to(tl.int64)[None, :] * WIDTH
        for left in range(0, WIDTH, STEP):
            x = _tile(rows, shift, row, left + part, there, scale, DIM, HALF, BIAS)
            place = own + (left + part)[:, None]
            score = tl.dot(x, tl.load(leading + place), score, input_precision=PRECISION)
            if HALF:
                score = tl.dot(x, tl.load(trailing + place), score)
        score -= tl.load(half_norms + start + member)[None, :]
        best, at, second = _better(
            score, best, at, second, start, BLOCK_ROWS, BLOCK_CENTROIDS, 1, not HALF
        )
    label = _settled(best, at, k_padded, BLOCK_CENTROIDS, 1)
    if not HALF:
        length = tl.zeros((BLOCK_ROWS,), tl.float32)
        for left in range(0, WIDTH, STEP):
            x = _tile(rows, shift, row, left + part, there, scale, DIM, HALF, BIAS)
            length += tl.sum(x * x, axis=1)
        _, clear = _told(best, second, at, label, length, slack, BLOCK_CENTROIDS, 1)
        label = tl.where(clear, label, ~label)
    tl.store(labels + row, label, mask=there)


@triton.jit
def _tile(
    rows,
    shift,
    row,
    column,
    there,
    scale,
    DIM: tl.constexpr,
    HALF: tl.constexpr,
    BIAS: tl.constexpr,
):
    """Rows less the shift, float16 where HALF, else float32; zeros beyond DIM, less the shift.

    Those of float32 are multiplied by the scale.

    HALF is for bytes, of which BIAS makes numbers from 0 to 255. As the last bits of a float16
    they are 1024 more, which the shift takes off again; converting them would take longer.
    """
    inside = there[:, None] & (column < DIM)[None, :]
    x = tl.load(rows + row[:, None] * DIM + column[None, :], mask=inside, other=0)
    if HALF:
        x = ((x.to(tl.int16) + BIAS) | 0x6400).to(tl.float16, bitcast=True)
        x = x - tl.load(shift + column)[None, :]
    else:
        x = (x.to(tl.float32) - tl.load(shift + column)[None, :]) * scale
    return x


@triton.jit
def _better(
    score,
    best,
    at,
    second,
    start,
    BLOCK_ROWS: tl.constexpr,
    LANES: tl.constexpr,
    GROUP: tl.constexpr,
    CHECKED: tl.constexpr,
):
    """The best score of each lane so far, the tile that it is of, and the best of other tiles.

    Ties stay with the first. The other is kept where CHECKED alone.
    """
    if GROUP > 1:
        # The members of a group lie SIDE columns apart: all in the registers of one thread.
        apart = tl.reshape(score, (BLOCK_ROWS, LANES // SIDE, GROUP, SIDE))
        score = tl.reshape(tl.max(apart, axis=2), (BLOCK_ROWS, LANES))
    nearer = score > best
    if CHECKED:
        second = tl.maximum(second, tl.minimum(score, best))
    return tl.where(nearer, score, best), tl.where(nearer, start, at), second


@triton.jit
def _settled(best, at, k_padded, LANES: tl.constexpr, GROUP: tl.constexpr):
    """Lowest first index of a group among those with the best score."""
    first = at + (tl.arange(0, LANES) * GROUP)[None, :]
    top = tl.max(best, axis=1)
    lowest = tl.min(tl.where(best == top[:, None], first, NEVER), axis=1)
    return tl.minimum(lowest, k_padded - GROUP)  # where no score is a number


@triton.jit
def _told(best, second, at, label, length, slack, LANES: tl.constexpr, GROUP: tl.constexpr):
    """How much rounding may be in a score, and whether the best group is so far from the others.

    label: of its first member. length: of the row, squared. See `float64_ties.score_error`.
    """
    own = at + (tl.arange(0, LANES) * GROUP)[None, :] == label[:, None]
    top = tl.max(best, axis=1)
    others = tl.max(tl.where(own, second, best), axis=1)
    both = tl.sqrt(length) + tl.sqrt(tl.maximum(length - 2 * top, 0.0))
    error = 2 * slack * both * both
    return error, top - others > error


@triton.jit
def _square(x, own, column):
    """Squared distance of each row to the centroid that begins at its pointer of `own`."""
    apart = x.to(tl.float32) - tl.load(own + column[None, :])
    return tl.sum(apart * apart, axis=1)
