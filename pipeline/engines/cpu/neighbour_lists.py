"""Which centroids lie near each centroid: sorted lists with lower bounds on the distances.

The lists are as long as the rows of the last pass needed them. While centroids barely move, the
bounds are loosened by how far they went instead of being computed anew.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from pipeline.engines.cpu.centroid_table import (
    FAR,
    CentroidTable,
    certain,
    square_distances,
)
from pipeline.engines.cpu.scan.near_centroids import limit_of, list_near, new_list_room
from pipeline.engines.cpu.simd import inner, kernel
from pipeline.engines.cpu.threads import ThreadPool

LIST_ENTRIES = 8 << 20  # of 8 bytes, in all lists together, unless memory is short
FIRST_ENTRIES = 512  # in a list of which no row has said yet how far it has to reach
SHORTEST = 16  # entries that a list has at least, where there are so many centroids
LARGEST_SHIFTS = 64  # centroids that went farthest, which are looked at one by one
WORN = 0.1  # share of its reach that a list may lose
NEAREST = 16  # neighbours whose shifts make a list old
OLD = 0.03  # share of the spacing of centroids by which lists may be loosened, not made anew


class NeighbourLists(NamedTuple):
    """For each anchor its nearest centroids, by growing distance.

    start: (anchors,) int64, where each list begins. length: (anchors,) int64, multiples of four.
    member: (m,) int32, filled up with k. bound: (m,) float32, lower bound on the distance from
    the anchor of this centroid and all after it. unlisted_bound: (anchors,) float32, the same of
    all that are not listed.
    """

    start: np.ndarray
    length: np.ndarray
    member: np.ndarray
    bound: np.ndarray
    unlisted_bound: np.ndarray


class _Wear(NamedTuple):
    """What lists were when they were made, and what became of it; all (k,) float32.

    age: by how much each was loosened since, on average. spacing: its eighth bound then. whole:
    its `unlisted_bound` then. limits: up to which distance it has to reach.
    """

    age: np.ndarray
    spacing: np.ndarray
    whole: np.ndarray
    limits: np.ndarray


class _Shifts(NamedTuple):
    """How far centroids went since the lists were brought up to date.

    went: (k,) float32. largest: (m,) int32, those that went farthest. rest: how far the others
    went at most.
    """

    went: np.ndarray
    largest: np.ndarray
    rest: np.float32


def whole_list(k: int) -> NeighbourLists:
    """One anchor whose list is all centroids in their own order."""
    padded = -(-k // 4) * 4
    member = np.full(padded, k, np.int32)
    member[:k] = np.arange(k)
    bound = np.zeros(padded, np.float32)
    everything = np.full(1, np.inf, np.float32)
    return NeighbourLists(np.zeros(1, np.int64), np.full(1, padded), member, bound, everything)


def nearest_lists(
    anchors: np.ndarray, table: CentroidTable, length: int, threads: ThreadPool
) -> NeighbourLists:
    """The `length` centroids nearest to each anchor.

    anchors: (m, d) float32, shifted and scaled as the table is; or their heads, where it has such.
    """
    length = -(-min(length, len(table.half) - 1) // 4) * 4
    index = np.empty((len(anchors), length), np.int32)
    threads.run(partial(_nearest, anchors, table, index), threads.stretches(len(anchors)))
    start = np.arange(len(anchors)) * length
    bound, zeros = np.zeros(index.size, np.float32), np.zeros(len(anchors), np.float32)
    return NeighbourLists(start, np.full_like(start, length), index.reshape(-1), bound, zeros)


class KeptLists:
    """The lists of one dictionary, kept from one pass to the next; so many entries in all."""

    def __init__(self, threads: ThreadPool, entries: int = LIST_ENTRIES) -> None:
        self._threads, self._entries = threads, entries
        self._table: CentroidTable | None = None
        self._make_room(0, 0)

    def update(self, table: CentroidTable, reach: np.ndarray | None) -> None:
        """Make or loosen the lists for these centroids.

        reach: (k,) float32, the largest radius of the rows of each cluster where it is known.
        """
        before, self._table = self._table, table
        k = len(table.centroids)
        longest = -(-max(SHORTEST, min(k, self._entries // k)) // 4) * 4
        went = np.full(k, np.inf, np.float32)  # which makes every list anew
        if before is not None and _comparable(before, table):
            wide = table.centroids.astype(np.float64) - before.centroids
            length = np.sqrt(np.square(wide).sum(axis=1))
            went = (1.000001 * float(table.scale) * length).astype(np.float32)
        elif (len(self.lists.start), self.lists.member.size) != (k, k * longest):
            self._make_room(0, 0)  # the old go first, or there would be room for both
            self._make_room(k, longest)
        # Nothing is gained beyond what rows need, nor beyond what the lists have room for.
        limits = np.float32(1.1) * self._wear.whole
        if reach is not None:
            limits = np.minimum(limits, np.float32(2.1) * reach)
        largest = np.argsort(-went, kind="stable")[: LARGEST_SHIFTS + 1].astype(np.int32)
        rest = went[largest[-1]] if k > LARGEST_SHIFTS else np.float32(0)
        wear, shifts = self._wear._replace(limits=limits), _Shifts(went, largest, rest)
        renew = partial(_renew, table, self.lists, wear, shifts)
        self._threads.run(renew, self._threads.stretches(k))

    def _make_room(self, k: int, longest: int) -> None:
        """Lists of up to so many; in place from one pass to the next, as fresh memory is slow."""
        member, bound = np.empty(k * longest, np.int32), np.empty(k * longest, np.float32)
        unlisted = np.full(k, np.inf, np.float32)
        zeros = np.zeros(k, np.float32)
        self._wear = _Wear(zeros, zeros.copy(), unlisted.copy(), zeros)
        start = np.arange(k) * longest
        self.lists = NeighbourLists(start, np.zeros(k, np.int64), member, bound, unlisted)


def _comparable(before: CentroidTable, table: CentroidTable) -> bool:
    """Whether lists of one dictionary can be loosened to those of another."""
    return (
        before.shifted.shape == table.shifted.shape
        and before.scale == table.scale
        and bool(np.array_equal(before.shift, table.shift))
        # lists leave out centroids that equal one before them
        and bool(np.array_equal(before.half == FAR, table.half == FAR))
    )


@kernel
def _nearest(
    anchors: np.ndarray, table: CentroidTable, index: np.ndarray, first: int, stop: int
) -> None:
    k, length = len(table.half) - 1, index.shape[1]
    squared = np.empty(table.width, np.float32)
    best = np.empty(length, np.float32)
    for anchor in range(first, stop):
        square_distances(anchors[anchor], table, squared)
        best[:], index[anchor] = np.inf, k
        farthest = np.float32(np.inf)
        for j in range(k):
            if squared[j] < farthest:  # of the nearest so far, kept in order
                p = length - 1
                while p > 0 and squared[j] < best[p - 1]:
                    best[p], index[anchor, p] = best[p - 1], index[anchor, p - 1]
                    p -= 1
                best[p], index[anchor, p] = squared[j], j
                farthest = best[length - 1]


@kernel
def _renew(
    table: CentroidTable,
    lists: NeighbourLists,
    wear: _Wear,
    shifts: _Shifts,
    first: int,
    stop: int,
) -> None:
    """Loosen each list by the shifts, or make it anew where that would cost rows too much."""
    k = len(shifts.went)
    longest = len(lists.member) // k
    most = min(longest, FIRST_ENTRIES)
    squared = np.empty(table.width, np.float32)
    index, bound = np.empty(k, np.int32), np.empty(k, np.float32)
    listed, room = np.full(k, -1, np.int32), new_list_room(k)
    for anchor in range(first, stop):
        limit = wear.limits[anchor]
        if np.isfinite(shifts.went[anchor]):
            wear.age[anchor] += _loosen(anchor, table, lists, shifts, listed)
            reached = np.float32(1 - WORN) * min(wear.whole[anchor], limit)
            worn = lists.unlisted_bound[anchor] < reached
            if wear.age[anchor] <= OLD * wear.spacing[anchor] and not worn:
                continue
        square_distances(table.points[anchor], table, squared)
        if not np.isfinite(limit) and k > most:
            limit = limit_of(squared[:k], most, room.counts)
        count = list_near(squared, limit, table, index, bound, room)
        if count < min(SHORTEST, k):
            limit = np.float32(np.inf)
            count = list_near(squared, limit, table, index, bound, room)
        unlisted = certain(limit, table)
        if count > longest:
            count, unlisted = longest, bound[longest]
        start, length = lists.start[anchor], (count + 3) // 4 * 4
        for p in range(length):
            lists.member[start + p] = index[p] if p < count else k
            lists.bound[start + p] = bound[p] if p < count else np.inf
        lists.length[anchor], lists.unlisted_bound[anchor] = length, unlisted
        wear.age[anchor], wear.spacing[anchor] = 0, bound[min(8, count) - 1]
        wear.whole[anchor] = unlisted


@inner
def _loosen(
    anchor: int,
    table: CentroidTable,
    lists: NeighbourLists,
    shifts: _Shifts,
    listed: np.ndarray,
) -> np.float32:
    """Bounds that hold after the shifts: each less those of both ends, kept sorted.

    listed: (k,) int32, room. Returns: by how much the nearest were loosened, on average.
    """
    went, largest, rest = shifts.went, shifts.largest, shifts.rest
    k, zero = len(went), np.float32(0)
    less = np.float32(1 - 2.0**-22)  # more than rounding adds, so that no shift is lost
    own, start, length = went[anchor], lists.start[anchor], lists.length[anchor]
    for p in range(start, start + length):
        j = lists.member[p]
        if j < k:
            listed[j] = anchor
    # What is not listed came nearer by `rest` at most, but for a few that are looked at.
    least = max((lists.unlisted_bound[anchor] - own - rest) * less, zero)
    for i in range(len(largest)):
        j = largest[i]
        if listed[j] != anchor and went[j] > rest and table.half[j] < FAR:
            square = zero
            for d in range(table.points.shape[1]):
                difference = table.points[j, d] - table.points[anchor, d]
                square += difference * difference
            least = min(least, certain(np.sqrt(square), table))
    lists.unlisted_bound[anchor] = least
    loosened, near = zero, 0
    for p in range(start + length - 1, start - 1, -1):
        j = lists.member[p]
        if j < k:
            least = min(least, (lists.bound[p] - own - went[j]) * less)
            least = zero if j == anchor else max(least, zero)
            lists.bound[p] = least
            if p < start + NEAREST:
                loosened += own + went[j]
                near += 1
    return loosened / max(near, 1)


@inner
def depth_within(
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


LIST_KERNELS = (_nearest, _renew)
