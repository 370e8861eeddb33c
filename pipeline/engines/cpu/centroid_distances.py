"""Distances of a point from centroids, and those within a limit, sorted, with lower bounds."""

import numpy as np

from pipeline.engines.cpu.centroid_table import CentroidTable
from pipeline.engines.cpu.jit import inner
from pipeline.engines.cpu.simd import WIDTH, broadcast, fma, load, store, sub

ELSEWHERE = np.float32(1e30)  # squared; where centroids lie that equal one before them


@inner
def certain(distance: np.float32, table: CentroidTable) -> np.float32:
    """What is left of a distance between centroids when the worst rounding is taken off."""
    return max(distance * (np.float32(1) - table.slack) - table.rounding, np.float32(0))


@inner
def square_distances(anchor: np.ndarray, table: CentroidTable, out: np.ndarray) -> None:
    """Squared distances of a point from all centroids, as float32 has them.

    anchor: (d,) float32, shifted and scaled. out: (width,) float32.
    """
    dim, width, columns = len(anchor), table.width, table.columns
    for j in range(0, width, 2 * WIDTH):
        one, two = broadcast(np.float32(0)), broadcast(np.float32(0))
        for d in range(dim):
            here = broadcast(anchor[d])
            difference = sub(load(columns, d * width + j), here)
            one = fma(difference, difference, one)
            difference = sub(load(columns, d * width + j + WIDTH), here)
            two = fma(difference, difference, two)
        store(out, j, one)
        store(out, j + WIDTH, two)


@inner
def list_near(
    square: np.ndarray,
    limit: np.float32,
    table: CentroidTable,
    index: np.ndarray,
    bound: np.ndarray,
) -> int:
    """Centroids nearer than the limit, by growing distance, filled up to a multiple of four.

    square: (width,) float32, see `square_distances`. index, bound: room for k + 3 entries; the
    bounds are at most the distances. Returns: how many there are, without the filling.
    """
    k = len(table.half) - 1
    count = 0
    most = min(limit * limit, ELSEWHERE)
    for j in range(k):  # no branch, which would often be guessed wrong
        index[count], bound[count] = j, square[j]
        count += 1 if square[j] < most else 0
    for p in range(count):
        bound[p] = np.sqrt(bound[p])
    _sort(index[:count], bound[:count])
    for p in range(count):
        bound[p] = certain(bound[p], table)
    for p in range(count, (count + 3) // 4 * 4):
        index[p], bound[p] = k, np.inf
    return count


@inner
def _sort(index: np.ndarray, distance: np.ndarray) -> None:
    """Both by growing distance: into as many buckets as there are entries, then by insertion."""
    count, largest = len(index), np.float32(0)
    for p in range(count):
        largest = max(largest, distance[p])
    buckets = max(count, 1)
    scale = np.float32(buckets - 1) / max(largest, np.float32(1e-30))
    ends = np.zeros(buckets + 1, np.int32)
    for p in range(count):
        ends[np.int32(distance[p] * scale) + 1] += 1
    for b in range(buckets):
        ends[b + 1] += ends[b]
    index_before, distance_before = index.copy(), distance.copy()
    for p in range(count):
        bucket = np.int32(distance_before[p] * scale)
        place = ends[bucket]
        ends[bucket] = place + 1
        index[place], distance[place] = index_before[p], distance_before[p]
    for i in range(1, count):  # few are out of order
        j, value, place = index[i], distance[i], i
        while place > 0 and distance[place - 1] > value:
            index[place], distance[place] = index[place - 1], distance[place - 1]
            place -= 1
        index[place], distance[place] = j, value
