"""Greedy D² sampling: each new centroid is a row, drawn by its squared distance to the nearest one.

The best of a few draws is taken (Arthur & Vassilvitskii 2007, section 6). Rows are held by cluster,
and a draw meets only the clusters that reach as far as half its distance: the other rows cannot be
nearer to it, by the triangle inequality (Raff 2021, arXiv 2105.02936, compares such bounds).
The rows of a cluster are sorted, the farthest first, so that they end where the bound does.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from pipeline.engines.cpu.simd import WIDTH, fma, load, splat, store, sub, total

NOBODY = -1
_STEP = 1 << 12  # points shifted at once
ROOM = 4  # places for each point, before gaps are closed up


def field_bytes(m: int, dim: int, k: int) -> int:
    """What a field of m points and k centroids takes, in bytes, at most."""
    padded = -(-dim // WIDTH) * WIDTH
    return m * (4 * padded + 8 + 2 * 8 * ROOM) + k * (8 * padded + 64)


class Field(NamedTuple):
    """Weighted points among growing centroids.

    points: (m, padded) float32, filled up with zeros to whole vectors. weights: (m,) float64.
    start, length: (K,) int64, where the points of each cluster stand in member, (4m,) int32, the
    farthest first, and square, (4m,) float32, squared distance to the centroid. end: (1,) int64,
    of what is used there. potential: (K,) float64, weighted sum of the squares of each cluster.
    centroids: (K, padded) float32. columns: (padded · width,) float32, the same by columns,
    `width` apart.
    """

    points: np.ndarray
    weights: np.ndarray
    start: np.ndarray
    length: np.ndarray
    member: np.ndarray
    square: np.ndarray
    end: np.ndarray
    potential: np.ndarray
    centroids: np.ndarray
    columns: np.ndarray


def make_field(
    rows: np.ndarray,
    weights: np.ndarray,
    capacity: int,
    shift: np.ndarray | float = 0.0,
    scale: float = 1.0,
) -> Field:
    """Points (rows - shift) · scale, without a centroid yet.

    rows: (m, d). weights: (m,). capacity: centroids at most. shift: (d,) float64, or one for all.
    """
    m, dim = rows.shape
    padded, width = -(-dim // WIDTH) * WIDTH, -(-capacity // WIDTH) * WIDTH
    filled = np.zeros((m, padded), np.float32)
    for start in range(0, m, _STEP):  # or they would be in memory as float64 too
        part = slice(start, start + _STEP)
        filled[part, :dim] = (rows[part] - shift) * scale
    return Field(
        filled,
        weights.astype(np.float64),
        np.zeros(width, np.int64),
        np.zeros(width, np.int64),
        np.empty(ROOM * m, np.int32),
        np.empty(ROOM * m, np.float32),
        np.zeros(1, np.int64),
        np.zeros(width),
        np.zeros((width, padded), np.float32),
        np.zeros(padded * width, np.float32),
    )


@njit(nogil=True, cache=True, error_model="numpy")
def place(field: Field, k: int, centroid: np.ndarray) -> None:
    """Make `centroid`, (d,) float32, number k; no point goes to it yet."""
    width = len(field.start)
    for d in range(len(centroid)):
        field.centroids[k, d] = centroid[d]
        field.columns[d * width + k] = centroid[d]


@njit(nogil=True, cache=True, error_model="numpy")
def enter(field: Field, label: np.ndarray) -> None:
    """Sort the points into the clusters of given centroids; label: (m,) nearest of each."""
    m = len(label)
    squares = np.empty(m, np.float32)
    for i in range(m):
        squares[i] = _square(field.points[i], field.centroids[label[i]])
        field.length[label[i]] += 1
    field.start[1:] = field.length.cumsum()[:-1]
    taken = np.zeros(len(field.start), np.int64)
    for i in np.argsort(-squares, kind="mergesort"):
        j = label[i]
        at = field.start[j] + taken[j]
        field.member[at], field.square[at] = i, squares[i]
        field.potential[j] += field.weights[i] * squares[i]
        taken[j] += 1
    field.end[0] = m


@njit(nogil=True, cache=True, error_model="numpy")
def spread_out(
    field: Field, k: int, dim: int, draws: np.ndarray, chosen: np.ndarray, gains: np.ndarray
) -> int:
    """Draw one centroid after the other, from number k on, which must not be the first.

    draws: (steps, trials) float64 in [0, 1). chosen: (steps,) int64, numbers of the points.
    gains: (steps,) float64, by how much each made the potential fall.
    Returns: how many were drawn; fewer than asked for where every point is a centroid already.
    """
    near, squares = np.empty(len(field.start), np.int32), np.empty(len(field.start), np.float32)
    for step in range(len(draws)):
        everything = field.potential[:k].sum()
        if not everything > 0:
            return step
        best, gain = NOBODY, -1.0
        for trial in range(draws.shape[1]):
            point = _draw(field, k, draws[step, trial] * everything)
            if point == NOBODY:
                continue
            won = _gain(field, point, _near(field, k, dim, point, near, squares), near, squares)
            if won > gain:
                best, gain = point, won
        if best == NOBODY:
            return step
        place(field, k, field.points[best, :dim])
        count = _near(field, k, dim, best, near, squares)
        _take_over(field, k, best, count, near, squares)
        chosen[step], gains[step] = best, gain
        k += 1
    return len(draws)


@njit(nogil=True, cache=True, error_model="numpy")
def _draw(field: Field, k: int, target: float) -> int:
    """The point at which the running sum of weighted squares passes the target."""
    last, final = NOBODY, 0
    for j in range(k):
        final = j if field.potential[j] > 0 else final
    for j in range(final + 1):
        if target >= field.potential[j] and j < final:
            target -= field.potential[j]
            continue
        for at in range(field.start[j], field.start[j] + field.length[j]):
            point = field.member[at]
            weighted = field.weights[point] * field.square[at]
            if weighted > 0:
                last = point
                if target < weighted:
                    return point
                target -= weighted
        if last != NOBODY:  # rounding led past the end of the cluster
            return last
    return last


@njit(nogil=True, cache=True, error_model="numpy")
def _near(field: Field, k: int, dim: int, point: int, near: np.ndarray, squares: np.ndarray) -> int:
    """Clusters with points that may be nearer to `point`, into `near`; how many."""
    width, columns, x = len(field.start), field.columns, field.points[point]
    for j in range(0, k, WIDTH):
        sums = splat(np.float32(0))
        for d in range(dim):
            difference = sub(load(columns, d * width + j), splat(x[d]))
            sums = fma(difference, difference, sums)
        store(squares, j, sums)
    count = 0
    for j in range(k):
        near[count] = j
        reach = field.square[field.start[j]] if field.length[j] else np.float32(0)
        count += 1 if squares[j] < np.float32(4) * reach else 0
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _square(a: np.ndarray, b: np.ndarray) -> np.float32:
    sums = splat(np.float32(0))
    for d in range(0, len(a), WIDTH):
        difference = sub(load(a, d), load(b, d))
        sums = fma(difference, difference, sums)
    return total(sums)


@njit(nogil=True, cache=True, error_model="numpy")
def _gain(field: Field, x: int, count: int, near: np.ndarray, squares: np.ndarray) -> float:
    """By how much the potential falls if the point x becomes a centroid."""
    gain = 0.0
    here = field.points[x]
    for p in range(count):
        j = near[p]
        quarter = np.float32(0.25) * squares[j]
        for at in range(field.start[j], field.start[j] + field.length[j]):
            square = field.square[at]
            if square <= quarter:
                break
            point = field.member[at]
            closer = _square(field.points[point], here)
            if closer < square:
                gain += field.weights[point] * (square - closer)
    return gain


@njit(nogil=True, cache=True, error_model="numpy")
def _take_over(
    field: Field, k: int, x: int, count: int, near: np.ndarray, squares: np.ndarray
) -> None:
    """Give the new centroid k, which is point x, the points that are nearest to it."""
    if field.end[0] + len(field.points) > len(field.member):
        _close_up(field, k)
    here, won = field.points[x], field.end[0]
    for p in range(count):
        j = near[p]
        quarter = np.float32(0.25) * squares[j]
        first, stop = field.start[j], field.start[j] + field.length[j]
        kept = first
        for at in range(first, stop):
            point, square = field.member[at], field.square[at]
            closer = square
            if square > quarter:
                closer = _square(field.points[point], here)
            elif kept == at:
                kept = stop  # nothing went, and nothing more will
                break
            to = won if closer < square else kept
            field.member[to], field.square[to] = point, min(closer, square)
            won, kept = won + int(closer < square), kept + int(closer >= square)
        if kept < stop:
            field.length[j] = kept - first
            field.potential[j] = _sum(field, first, kept)
    first = field.end[0]
    order = first + np.argsort(-field.square[first:won], kind="mergesort")
    members, sorted_squares = field.member[order], field.square[order]
    field.member[first:won], field.square[first:won] = members, sorted_squares
    field.start[k], field.length[k] = first, won - first
    field.potential[k] = _sum(field, first, won)
    field.end[0] = won


@njit(nogil=True, cache=True, error_model="numpy")
def _sum(field: Field, first: int, stop: int) -> float:
    potential = 0.0
    for at in range(first, stop):
        potential += field.weights[field.member[at]] * field.square[at]
    return potential


@njit(nogil=True, cache=True, error_model="numpy")
def _close_up(field: Field, k: int) -> None:
    """Close the gaps between the clusters' members."""
    member, square = field.member.copy(), field.square.copy()
    end = 0
    for j in range(k):
        first, length = field.start[j], field.length[j]
        field.member[end : end + length] = member[first : first + length]
        field.square[end : end + length] = square[first : first + length]
        field.start[j] = end
        end += length
    field.end[0] = end


SPREADING_KERNELS = (place, enter, spread_out)
