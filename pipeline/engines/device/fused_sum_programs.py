"""Triton kernels: exact sums of byte rows.

Numbers of rows and clusters change from launch to launch; no kernel is compiled anew for them.
"""

import triton
from triton import language as tl


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
