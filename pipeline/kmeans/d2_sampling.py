"""Greedy D² sampling: each new centroid is a row, drawn by its squared distance to the nearest one.

The best of a few draws is taken (Arthur & Vassilvitskii 2007, section 6). Rows are held by cluster,
and a draw meets only the clusters that reach as far as half its distance: the other rows cannot be
nearer to it, by the triangle inequality (Raff 2021, arXiv 2105.02936, compares such bounds).
The rows of a cluster are sorted, the farthest first, so that they end where the bound does.
"""

from typing import NamedTuple

import numpy as np

from pipeline.engines.cpu.products import square_below
from pipeline.engines.cpu.simd import (
    WIDTH,
    broadcast,
    fma,
    inner,
    kernel,
    load,
    prefetch,
    store,
    sub,
)
from pipeline.rows.units import scale_of

NOBODY = -1
_AHEAD = 4  # points whose numbers are fetched while others are at work
FARTHEST = np.float32(np.inf)
ROOM = 4  # places for each point, before gaps are closed up


def state_bytes(m: int, dim: int, k: int) -> int:
    """What a state of m points and k centroids takes, in bytes, at most."""
    padded = padded_dim(dim)
    return m * (4 * padded + 2 * 8 * ROOM) + k * (8 * padded + 64)


class D2State(NamedTuple):
    """Points among growing centroids.

    points: (m, padded) float32, filled up with zeros to whole vectors. start, length: (K,) int64,
    where the points of each cluster stand in member, (4m,) int32, the farthest first, and square,
    (4m,) float32, squared distance to the centroid. end: (1,) int64, of what is used there.
    potential: (K,) float64, sum of the squares of each cluster. centroids: (K, padded) float32.
    columns: (padded · width,) float32, the same by columns, `width` apart.
    """

    points: np.ndarray
    start: np.ndarray
    length: np.ndarray
    member: np.ndarray
    square: np.ndarray
    end: np.ndarray
    potential: np.ndarray
    centroids: np.ndarray
    columns: np.ndarray


class Field(NamedTuple):
    """A sample as points, (rows - shift) · scale.

    points: (m, padded) float32, filled up with zeros to whole vectors. shift: (d,) float64, the
    mean, whole numbers for integers. scale: keeps squares in the range of float32.
    """

    points: np.ndarray
    shift: np.ndarray
    scale: float

    @classmethod
    def of(cls, rows: np.ndarray) -> "Field":
        """That of rows, (m, d): float32 about their mean, exact for bytes up to d = 258."""
        shift = rows.mean(axis=0, dtype=np.float64)
        shift = np.rint(shift) if rows.dtype.kind in "ui" else shift
        spread = max(float(np.abs(part - shift).max()) for part in (rows.max(0), rows.min(0)))
        scale = scale_of(spread, rows.dtype)
        points = np.zeros((len(rows), padded_dim(rows.shape[1])), np.float32)
        fill_points(rows, shift, scale, points)
        return cls(points, shift, scale)

    def points_of(self, rows: np.ndarray) -> np.ndarray:
        """Other rows as points, (k, d) float32."""
        return ((rows - self.shift) * self.scale).astype(np.float32)


def padded_dim(dim: int) -> int:
    """Values of a point: those of a row, in whole vectors."""
    return -(-dim // WIDTH) * WIDTH


@kernel
def fill_points(rows: np.ndarray, shift: np.ndarray, scale: float, points: np.ndarray) -> None:
    """Points of rows, (m, d), into the first d columns."""
    for i in range(len(rows)):
        for d in range(rows.shape[1]):
            points[i, d] = np.float32((rows[i, d] - shift[d]) * scale)


def make_state(points: np.ndarray, capacity: int) -> D2State:
    """Points, (m, padded) float32, without a centroid yet; capacity: centroids at most."""
    m, padded = points.shape
    width = -(-capacity // WIDTH) * WIDTH
    return D2State(
        points,
        np.zeros(width, np.int64),
        np.zeros(width, np.int64),
        np.empty(ROOM * m, np.int32),
        np.empty(ROOM * m, np.float32),
        np.zeros(1, np.int64),
        np.zeros(width),
        np.zeros((width, padded), np.float32),
        np.zeros(padded * width, np.float32),
    )


@kernel
def add_centroid(state: D2State, k: int, centroid: np.ndarray) -> None:
    """Make `centroid`, (d,) float32, number k; no point goes to it yet."""
    width = len(state.start)
    for d in range(len(centroid)):
        state.centroids[k, d] = centroid[d]
        state.columns[d * width + k] = centroid[d]


@kernel
def assign_points(state: D2State, label: np.ndarray) -> None:
    """Sort the points into the clusters of given centroids; label: (m,) nearest of each."""
    m, padded = len(label), state.points.shape[1]
    squares = np.empty(m, np.float32)
    cells, centroids = state.points.reshape(-1), state.centroids.reshape(-1)
    for i in range(m):
        at, there = i * padded, label[i] * padded
        squares[i] = square_below(cells, at, centroids, there, padded, FARTHEST)
        state.length[label[i]] += 1
    state.start[1:] = state.length.cumsum()[:-1]
    taken = np.zeros(len(state.start), np.int64)
    for i in np.argsort(-squares, kind="mergesort"):
        j = label[i]
        at = state.start[j] + taken[j]
        state.member[at], state.square[at] = i, squares[i]
        state.potential[j] += squares[i]
        taken[j] += 1
    state.end[0] = m


@kernel
def draw_centroids(state: D2State, k: int, dim: int, draws: np.ndarray, chosen: np.ndarray) -> int:
    """Draw one centroid after the other, from number k on, which must not be the first.

    draws: (steps, trials) float64 in [0, 1). chosen: (steps,) int64, numbers of the points.
    Returns: how many were drawn; fewer than asked for where every point is a centroid already.
    """
    near, squares = np.empty(len(state.start), np.int32), np.empty(len(state.start), np.float32)
    for step in range(len(draws)):
        everything = state.potential[:k].sum()
        if not everything > 0:
            return step
        best, gain = NOBODY, -1.0
        for trial in range(draws.shape[1]):
            point = draw_point(state, k, draws[step, trial] * everything)
            if point == NOBODY:
                continue
            count = near_clusters(state, k, dim, point, near, squares)
            won = gain_of(state, point, count, near, squares)
            if won > gain:
                best, gain = point, won
        if best == NOBODY:
            return step
        add_centroid(state, k, state.points[best, :dim])
        count = near_clusters(state, k, dim, best, near, squares)
        take_over(state, k, best, count, near, squares)
        chosen[step] = best
        k += 1
    return len(draws)


@inner
def draw_point(state: D2State, k: int, target: float) -> int:
    """The point at which the running sum of squares passes the target."""
    last, final = NOBODY, 0
    for j in range(k):
        final = j if state.potential[j] > 0 else final
    for j in range(final + 1):
        if target >= state.potential[j] and j < final:
            target -= state.potential[j]
            continue
        for at in range(state.start[j], state.start[j] + state.length[j]):
            square = state.square[at]
            if square > 0:
                last = state.member[at]
                if target < square:
                    return last
                target -= square
        if last != NOBODY:  # rounding led past the end of the cluster
            return last
    return last


@inner
def near_clusters(
    state: D2State, k: int, dim: int, point: int, near: np.ndarray, squares: np.ndarray
) -> int:
    """Clusters with points that may be nearer to `point`, into `near`; how many."""
    width, columns, x = len(state.start), state.columns, state.points[point]
    for j in range(0, k, WIDTH):
        sums = broadcast(np.float32(0))
        for d in range(dim):
            difference = sub(load(columns, d * width + j), broadcast(x[d]))
            sums = fma(difference, difference, sums)
        store(squares, j, sums)
    count = 0
    for j in range(k):
        near[count] = j
        reach = state.square[state.start[j]] if state.length[j] else np.float32(0)
        count += 1 if squares[j] < np.float32(4) * reach else 0
    return count


@inner
def gain_of(state: D2State, x: int, count: int, near: np.ndarray, squares: np.ndarray) -> float:
    """By how much the potential falls if the point x becomes a centroid."""
    gain, padded, member = 0.0, state.points.shape[1], state.member
    cells, here = state.points.reshape(-1), x * state.points.shape[1]
    for p in range(count):
        j = near[p]
        quarter = np.float32(0.25) * squares[j]
        stop = state.start[j] + state.length[j]
        for at in range(state.start[j], stop):
            square = state.square[at]
            if square <= quarter:
                break
            prefetch(cells, np.int64(member[min(at + _AHEAD, stop - 1)]) * padded)
            point = np.int64(member[at]) * padded
            closer = square_below(cells, point, cells, here, padded, square)
            if closer < square:
                gain += square - closer
    return gain


@inner(allocates=True)
def take_over(
    state: D2State, k: int, x: int, count: int, near: np.ndarray, squares: np.ndarray
) -> None:
    """Give the new centroid k, which is point x, the points that are nearest to it."""
    if state.end[0] + len(state.points) > len(state.member):
        _close_up(state, k)
    padded, won = state.points.shape[1], state.end[0]
    cells, here = state.points.reshape(-1), x * padded
    for p in range(count):
        j = near[p]
        quarter = np.float32(0.25) * squares[j]
        first, stop = state.start[j], state.start[j] + state.length[j]
        kept = first
        for at in range(first, stop):
            point, square = state.member[at], state.square[at]
            closer = square
            if square > quarter:
                closer = square_below(cells, np.int64(point) * padded, cells, here, padded, square)
            elif kept == at:
                kept = stop  # nothing went, and nothing more will
                break
            to = won if closer < square else kept
            state.member[to], state.square[to] = point, min(closer, square)
            won, kept = won + int(closer < square), kept + int(closer >= square)
        if kept < stop:
            state.length[j] = kept - first
            state.potential[j] = _sum(state, first, kept)
    first = state.end[0]
    order = first + np.argsort(-state.square[first:won], kind="mergesort")
    members, sorted_squares = state.member[order], state.square[order]
    state.member[first:won], state.square[first:won] = members, sorted_squares
    state.start[k], state.length[k] = first, won - first
    state.potential[k] = _sum(state, first, won)
    state.end[0] = won


@inner
def _sum(state: D2State, first: int, stop: int) -> float:
    potential = 0.0
    for at in range(first, stop):
        potential += state.square[at]
    return potential


@inner(allocates=True)
def _close_up(state: D2State, k: int) -> None:
    """Close the gaps between the clusters' members."""
    member, square = state.member.copy(), state.square.copy()
    end = 0
    for j in range(k):
        first, length = state.start[j], state.length[j]
        state.member[end : end + length] = member[first : first + length]
        state.square[end : end + length] = square[first : first + length]
        state.start[j] = end
        end += length
    state.end[0] = end


D2_KERNELS = (fill_points, add_centroid, assign_points, draw_centroids)
