"""Which centroids lie near each centroid: sorted lists with lower bounds on the distances.

The lists are as long as the rows of the last pass needed them, and grow old with grace: while
centroids barely move, the bounds are loosened by the moves instead of being computed anew.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from pipeline.engines.crew import Crew
from pipeline.engines.lanes import WIDTH
from pipeline.engines.screening import RINGS, Moves
from pipeline.engines.walking import FAR, Lists, Table, certain, list_near, square_distances

LIST_ENTRIES = 8 << 20  # of 8 bytes, in all lists together
OLD = 0.02  # share of their reach by which lists may be loosened before they are made anew
KEEP = 0.1  # share of the spread of the centroids by which their mean may leave the shift


def make_table(centroids: np.ndarray, integers: bool, before: Table | None = None) -> Table:
    """Centroids, (k, d) float32 or float64, as the kernels read them.

    before: of the last pass, whose shift and scale are kept where they still serve, so that
    distances stay comparable.
    """
    k, dim = centroids.shape
    wide = centroids.astype(np.float64)
    mean = wide.mean(axis=0)
    spread = float(np.abs(wide - mean).max())
    if (
        before is not None
        and before.centroids.dtype == centroids.dtype
        and np.abs(before.shift - mean).max() <= KEEP * spread
        and KEEP <= spread * before.scale <= 1
    ):
        shift, scale = before.shift, float(before.scale)
    else:
        shift = (np.rint(mean) if integers else mean).astype(centroids.dtype)
        scale = 1.0
        if spread > 0:
            # A power of two loses nothing. Rows beyond float32's range are left to float64.
            most = 1000 if centroids.dtype == np.float64 else 120
            scale = 2.0 ** -min(max(math.frexp(spread)[1], -most), most)
    exact = (wide - shift) * scale
    shifted = np.zeros((k + 1, dim), np.float32)
    shifted[:k] = exact
    half = np.full(k + 1, FAR, np.float32)
    half[:k] = 0.5 * (exact * exact).sum(axis=1)
    width = -(-k // (2 * WIDTH)) * (2 * WIDTH)
    columns = np.zeros((dim, width), np.float32)
    columns[:, :k] = shifted[:k].T
    slack = np.float32(2 * (dim + 8) * 2.0**-24)
    # Each end was rounded by at most 2^-24 of its length.
    rounding = np.float32(2.0**-22 * math.sqrt(2 * float(half[:k].max())))
    return Table(
        centroids,
        shift,
        centroids.dtype.type(scale),
        shifted,
        half,
        columns.reshape(-1),
        width,
        slack,
        rounding,
    )


def whole_list(k: int) -> Lists:
    """One anchor whose list is all centroids in their own order, to be walked to its end."""
    padded = -(-k // 4) * 4
    index = np.full(padded, k, np.int32)
    index[:k] = np.arange(k)
    bound = np.zeros(padded, np.float32)
    return Lists(np.array([0, padded]), index, bound, np.full(1, np.inf, np.float32))


def nearest_lists(anchors: np.ndarray, table: Table, length: int, crew: Crew) -> Lists:
    """The `length` centroids nearest to each anchor, to be walked to their end.

    anchors: (m, d) float32, shifted and scaled as the table is.
    """
    length = -(-min(length, len(table.half) - 1) // 4) * 4
    index = np.empty((len(anchors), length), np.int32)
    crew.run(partial(_nearest, anchors, table, index), crew.stretches(len(anchors)))
    start = np.arange(len(anchors) + 1) * length
    bound = np.zeros(index.size, np.float32)
    return Lists(start, index.reshape(-1), bound, np.zeros(len(anchors), np.float32))


class Neighbours:
    """The lists of one dictionary, kept from one pass to the next."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._table: Table | None = None
        self._age = np.empty(0, np.float32)
        self._mean_reach = 0.0
        nothing = np.empty(0, np.float32)
        self.lists = Lists(np.zeros(1, np.int64), nothing.astype(np.int32), nothing, nothing)

    def update(self, table: Table, reach: np.ndarray | None) -> None:
        """Make or loosen the lists for these centroids.

        reach: (k,) float32, the largest radius of the rows of each cluster where it is known.
        """
        k = len(table.centroids)
        before, self._table = self._table, table
        if before is not None and self._may_age(before, table):
            moved = np.sqrt(np.square(table.shifted[:k] - before.shifted[:k]).sum(axis=1))
            moved = np.float32(1.0001) * moved.astype(np.float32)
            self._age += moved + np.float32(moved.mean())
            if self._age.mean() <= OLD * self._mean_reach:
                self._for_each(_loosen, self.lists, moved, moved.max())
                return
        self._build(table, reach)

    def moves(self, moved: np.ndarray, unit: np.float32) -> Moves:
        """What the screening needs of the lists. moved: (k,) float32, since labels were found."""
        k = len(moved)
        levels = np.minimum(np.ceil(moved / unit), 1 << 20).astype(np.int32)
        ring = np.empty((k, len(RINGS)), np.int32)
        outside = np.empty((k, len(RINGS)), np.int32)
        self._for_each(_rings, self.lists, levels, unit, k, ring, outside)
        return Moves(levels, ring, outside)

    def _for_each(self, kernel: Callable[..., None], *arguments: Any) -> None:
        """Run a kernel over all centroids, stretch by stretch."""
        k = len(self._table.centroids) if self._table else 0
        self._crew.run(partial(kernel, *arguments), self._crew.stretches(k))

    def _may_age(self, before: Table, table: Table) -> bool:
        return (
            before.shifted.shape == table.shifted.shape
            and before.scale == table.scale
            and bool(np.array_equal(before.shift, table.shift))
        )

    def _build(self, table: Table, reach: np.ndarray | None) -> None:
        k = len(table.centroids)
        longest = max(16, min(k, LIST_ENTRIES // k))
        if reach is None:
            limits = np.full(k, np.inf, np.float32)
        else:
            limits = np.float32(2.1) * reach
            longest = min(k, 8 * longest)
        lengths = np.empty(k, np.int64)
        self._for_each(_count, table, limits, longest, lengths)
        total = int(lengths.sum())
        if total > LIST_ENTRIES + 4 * k:  # cut the longest
            ordered = np.sort(lengths)
            left = LIST_ENTRIES - np.concatenate([[0], np.cumsum(ordered)[:-1]])
            longest = int((left // np.arange(k, 0, -1)).clip(16).max())
            lengths = np.minimum(lengths, longest // 4 * 4)
        start = np.concatenate([[0], np.cumsum(lengths)])
        index = np.empty(start[-1], np.int32)
        bound = np.empty(start[-1], np.float32)
        lists = Lists(start, index, bound, np.empty(k, np.float32))
        extent = np.empty(k, np.float32)
        self._for_each(_fill, table, limits, lists, extent)
        self.lists = lists
        self._age = np.zeros(k, np.float32)
        self._mean_reach = float(extent.mean())


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest(anchors: np.ndarray, table: Table, index: np.ndarray, first: int, stop: int) -> None:
    k = len(table.half) - 1
    squared = np.empty(table.width, np.float32)
    for anchor in range(first, stop):
        square_distances(anchors[anchor], table, squared)
        order = np.argsort(squared[:k])
        for p in range(index.shape[1]):
            index[anchor, p] = order[p] if p < k else k


@njit(nogil=True, cache=True, error_model="numpy")
def _count(
    table: Table, limits: np.ndarray, longest: int, lengths: np.ndarray, first: int, stop: int
) -> None:
    """Lengths of lists, filled up to multiples of four."""
    k = len(table.half) - 1
    squared = np.empty(table.width, np.float32)
    for anchor in range(first, stop):
        count = k
        if np.isfinite(limits[anchor]):
            square_distances(table.shifted[anchor], table, squared)
            count = 0
            most = limits[anchor] * limits[anchor]
            for j in range(k):
                count += 1 if squared[j] < most else 0
        count = min(max(count, 16), longest, k)
        lengths[anchor] = (count + 3) // 4 * 4


@njit(nogil=True, cache=True, error_model="numpy")
def _fill(
    table: Table,
    limits: np.ndarray,
    lists: Lists,
    extent: np.ndarray,
    first: int,
    stop: int,
) -> None:
    """The lists; extent: (k,) float32, distance of the last in each."""
    k = len(table.half) - 1
    squared = np.empty(table.width, np.float32)
    index, bound = np.empty(k + 3, np.int32), np.empty(k + 3, np.float32)
    everything = np.float32(np.inf)
    for anchor in range(first, stop):
        square_distances(table.shifted[anchor], table, squared)
        start = lists.start[anchor]
        length = lists.start[anchor + 1] - start
        beyond = limits[anchor]
        count = list_near(squared, beyond, table, index, bound)
        if count < min(length - 3, k):  # the least that every list has
            beyond = everything
            count = list_near(squared, beyond, table, index, bound)
        for p in range(length):
            lists.member[start + p] = index[p] if p < count else k
            lists.bound[start + p] = bound[p] if p < count else everything
        extent[anchor] = bound[min(length, count) - 1]
        lists.beyond[anchor] = everything
        if length < count:
            lists.beyond[anchor] = bound[length]
        elif count < k:
            lists.beyond[anchor] = certain(beyond, table)


@njit(nogil=True, cache=True, error_model="numpy")
def _loosen(lists: Lists, moved: np.ndarray, farthest: np.float32, first: int, stop: int) -> None:
    """Bounds that hold after the centroids moved: each less its own two moves, kept sorted."""
    k = len(moved)
    for anchor in range(first, stop):
        least = max(lists.beyond[anchor] - moved[anchor] - farthest, np.float32(0))
        lists.beyond[anchor] = least
        for p in range(lists.start[anchor + 1] - 1, lists.start[anchor] - 1, -1):
            j = lists.member[p]
            if j < k:
                least = min(least, lists.bound[p] - moved[anchor] - moved[j])
                if j == anchor:
                    least = np.float32(0)
                lists.bound[p] = max(least, np.float32(0))


@njit(nogil=True, cache=True, error_model="numpy")
def _rings(
    lists: Lists,
    levels: np.ndarray,
    unit: np.float32,
    k: int,
    ring: np.ndarray,
    outside: np.ndarray,
    first: int,
    stop: int,
) -> None:
    for anchor in range(first, stop):
        start, length = lists.start[anchor], lists.start[anchor + 1] - lists.start[anchor]
        largest, place = 0, 0
        for r in range(len(RINGS)):
            end = min(RINGS[r], length)
            while place < end:
                j = lists.member[start + place]
                if j < k and j != anchor:
                    largest = max(largest, levels[j])
                place += 1
            bound = lists.bound[start + end] if end < length else lists.beyond[anchor]
            ring[anchor, r] = largest
            outside[anchor, r] = min(np.floor(bound / unit), np.float32(1 << 20))
