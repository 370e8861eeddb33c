"""Centroids near a point, sorted, with lower bounds on their distances."""

import numpy as np
from numba import njit

from pipeline.engines.cpu.layouts import Table
from pipeline.engines.cpu.simd import WIDTH, fma, load, splat, store, sub

ELSEWHERE = np.float32(1e30)  # squared; where centroids lie that equal one before them


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
    most = min(limit * limit, ELSEWHERE)
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
