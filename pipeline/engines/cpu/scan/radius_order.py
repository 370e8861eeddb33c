"""Rows of one anchor by their distance to it, so that those of a tile end their lists together."""

from typing import NamedTuple

import numpy as np

from pipeline.engines.cpu.simd import WIDTH, inner

BUCKETS = 64
# Squared length, in spreads of the centroids, beyond which float32 may overflow: float64 is used.
FARTHEST = np.float32(1e30)


class Order(NamedTuple):
    """Room to sort the rows of an anchor. place: (n,) int32. ends: (BUCKETS + 1,) int32."""

    place: np.ndarray
    ends: np.ndarray


@inner(inline="always")
def new_order(n: int) -> Order:
    """Room for n rows."""
    return Order(np.empty(n, np.int32), np.empty(BUCKETS + 1, np.int32))


@inner
def by_radius(radius: np.ndarray, first: int, stop: int, wanted: bool, order: Order) -> np.float32:
    """Positions [first, stop) by growing radius, roughly, into order.place; returns the largest.

    wanted: otherwise as they come.
    """
    place, ends = order.place, order.ends
    low = high = radius[first]
    for i in range(first + 1, stop):
        low, high = min(low, radius[i]), max(high, radius[i])
    if not wanted or stop - first <= WIDTH or not high * high < FARTHEST:
        for i in range(first, stop):
            place[i - first] = i
        return high
    scale = np.float32(BUCKETS - 1) / max(high - low, np.float32(1e-30))
    ends[:] = 0
    for i in range(first, stop):
        ends[np.int32((radius[i] - low) * scale) + 1] += 1
    for b in range(BUCKETS):
        ends[b + 1] += ends[b]
    for i in range(first, stop):
        bucket = np.int32((radius[i] - low) * scale)
        place[ends[bucket]] = i
        ends[bucket] += 1
    return high
