"""Which centroids lie near each centroid: sorted lists with lower bounds on the distances.

The lists are as long as the rows of the last pass needed them, and grow old with grace: while
centroids barely move, the bounds are loosened by the moves instead of being computed anew.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from pipeline.engines.cpu.layouts import FAR, FAR_LEVEL, RINGS, Lists, Moves, Table
from pipeline.engines.cpu.listing import certain, list_near, square_distances
from pipeline.engines.cpu.threads import Crew

LIST_ENTRIES = 8 << 20  # of 8 bytes, in all lists together
MOVERS = 64  # centroids that moved most, which are looked at one by one
WORN = 0.1  # share of its reach that a list may lose
NEAREST = 16  # neighbours whose moves make a list old
OLD = 0.03  # share of the spacing of centroids by which lists may be loosened, not made anew


def nearest_lists(anchors: np.ndarray, table: Table, length: int, crew: Crew) -> Lists:
    """The `length` centroids nearest to each anchor, to be walked to their end.

    anchors: (m, d) float32, shifted and scaled as the table is.
    """
    length = -(-min(length, len(table.half) - 1) // 4) * 4
    index = np.empty((len(anchors), length), np.int32)
    crew.run(partial(_nearest, anchors, table, index), crew.stretches(len(anchors)))
    start = np.arange(len(anchors)) * length
    bound, zeros = np.zeros(index.size, np.float32), np.zeros(len(anchors), np.float32)
    return Lists(start, np.full_like(start, length), index.reshape(-1), bound, zeros)


class Neighbours:
    """The lists of one dictionary, kept from one pass to the next."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._table: Table | None = None
        self._make_room(0, 0)

    def update(self, table: Table, reach: np.ndarray | None) -> None:
        """Make or loosen the lists for these centroids.

        reach: (k,) float32, the largest radius of the rows of each cluster where it is known.
        """
        before, self._table = self._table, table
        k = len(table.centroids)
        longest = -(-max(16, min(k, LIST_ENTRIES // k)) // 4) * 4
        moved = np.full(k, np.inf, np.float32)  # which makes every list anew
        if before is not None and self._may_age(before, table):
            wide = table.centroids.astype(np.float64) - before.centroids
            length = np.sqrt(np.square(wide).sum(axis=1))
            moved = (1.000001 * float(table.scale) * length).astype(np.float32)
        elif (len(self.lists.start), self.lists.member.size) != (k, k * longest):
            self._make_room(k, longest)
        # Nothing is gained beyond what rows need, nor beyond what the lists have room for.
        limits = np.float32(1.1) * self._whole
        if reach is not None:
            limits = np.minimum(limits, np.float32(2.1) * reach)
        movers = np.argsort(-moved, kind="stable")[: MOVERS + 1].astype(np.int32)
        rest = moved[movers[-1]] if k > MOVERS else np.float32(0)
        state = (self._age, self._spacing, self._whole)
        self._for_each(_renew, table, self.lists, longest, limits, moved, movers, rest, *state)

    def moves(
        self, own: np.ndarray, others: np.ndarray, unit: np.float32, twins: np.ndarray
    ) -> Moves:
        """What the screening needs of the lists.

        own, others: (k,) float32, how far each went since labels were found, as its own rows and
        as all others see it. twins: centroids that had an equal then, which was left out of the
        bounds of their rows.
        """
        k = len(own)
        near, far = (
            np.minimum(np.ceil(moved / unit), FAR_LEVEL).astype(np.int32) for moved in (own, others)
        )
        # The last ring holds everything, for rows that lie far from all centroids.
        ring = np.full((k, len(RINGS) + 1), far.max(), np.int32)
        outside = np.full((k, len(RINGS) + 1), FAR_LEVEL, np.int32)
        self._for_each(_rings, self.lists, far, unit, k, ring, outside)
        ring[twins] = FAR_LEVEL + 1  # more than any move
        return Moves(near, far, ring, outside)

    def _for_each(self, kernel: Callable[..., None], *arguments: Any) -> None:
        """Run a kernel over all centroids, stretch by stretch."""
        k = len(self._table.centroids) if self._table else 0
        self._crew.run(partial(kernel, *arguments), self._crew.stretches(k))

    def _may_age(self, before: Table, table: Table) -> bool:
        return (
            before.shifted.shape == table.shifted.shape
            and before.scale == table.scale
            and bool(np.array_equal(before.shift, table.shift))
            # lists leave out centroids that equal one before them
            and bool(np.array_equal(before.half == FAR, table.half == FAR))
        )

    def _make_room(self, k: int, longest: int) -> None:
        """Lists of up to so many; in place from one pass to the next, as fresh memory is slow."""
        member, bound = np.empty(k * longest, np.int32), np.empty(k * longest, np.float32)
        beyond = np.full(k, np.inf, np.float32)
        # by how much each list was loosened since it was made; its eighth bound and `beyond` then
        self._age, self._spacing = np.zeros(k, np.float32), np.zeros(k, np.float32)
        self._whole = beyond.copy()
        self.lists = Lists(np.arange(k) * longest, np.zeros(k, np.int64), member, bound, beyond)


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
def _renew(
    table: Table,
    lists: Lists,
    longest: int,
    limits: np.ndarray,
    moved: np.ndarray,
    movers: np.ndarray,
    rest: np.float32,
    age: np.ndarray,
    spacing: np.ndarray,
    whole: np.ndarray,
    first: int,
    stop: int,
) -> None:
    """Loosen each list by the moves, or make it anew where that would cost rows too much.

    movers: (m,) int32, the centroids that moved most; rest: how far the others went at most.
    age, spacing, whole: (k,) float32, of each list since it was made, see `Neighbours`.
    """
    k = len(moved)
    squared = np.empty(table.width, np.float32)
    index, bound = np.empty(k + 3, np.int32), np.empty(k + 3, np.float32)
    listed = np.full(k, -1, np.int32)
    for anchor in range(first, stop):
        if np.isfinite(moved[anchor]):
            age[anchor] += _loosen(anchor, table, lists, moved, movers, rest, listed)
            worn = lists.beyond[anchor] < np.float32(1 - WORN) * min(whole[anchor], limits[anchor])
            if age[anchor] <= OLD * spacing[anchor] and not worn:
                continue
        square_distances(table.shifted[anchor], table, squared)
        limit = limits[anchor]
        count = list_near(squared, limit, table, index, bound)
        if count < min(16, k):  # the least that a list has
            limit = np.float32(np.inf)
            count = list_near(squared, limit, table, index, bound)
        beyond = certain(limit, table)
        length = (count + 3) // 4 * 4
        if length > longest:
            length, beyond = longest, bound[longest]
        start = lists.start[anchor]
        for p in range(length):
            lists.member[start + p], lists.bound[start + p] = index[p], bound[p]
        lists.length[anchor], lists.beyond[anchor] = length, beyond
        age[anchor], spacing[anchor], whole[anchor] = 0, bound[min(8, count) - 1], beyond


@njit(nogil=True, cache=True, error_model="numpy")
def _loosen(
    anchor: int,
    table: Table,
    lists: Lists,
    moved: np.ndarray,
    movers: np.ndarray,
    rest: np.float32,
    listed: np.ndarray,
) -> np.float32:
    """Bounds that hold after the moves: each less the moves of both ends, kept sorted.

    listed: (k,) int32, room. Returns: by how much the nearest were loosened, on average.
    """
    k, zero = len(moved), np.float32(0)
    less = np.float32(1 - 2.0**-22)  # more than rounding adds, so that no move is lost
    own, start, length = moved[anchor], lists.start[anchor], lists.length[anchor]
    for p in range(start, start + length):
        j = lists.member[p]
        if j < k:
            listed[j] = anchor
    # What is not listed came nearer by `rest` at most, but for a few that are looked at.
    least = max((lists.beyond[anchor] - own - rest) * less, zero)
    for i in range(len(movers)):
        j = movers[i]
        if listed[j] != anchor and moved[j] > rest and table.half[j] < FAR:
            square = zero
            for d in range(table.shifted.shape[1]):
                difference = table.shifted[j, d] - table.shifted[anchor, d]
                square += difference * difference
            least = min(least, certain(np.sqrt(square), table))
    lists.beyond[anchor] = least
    loosened, near = zero, 0
    for p in range(start + length - 1, start - 1, -1):
        j = lists.member[p]
        if j < k:
            least = min(least, (lists.bound[p] - own - moved[j]) * less)
            least = zero if j == anchor else max(least, zero)
            lists.bound[p] = least
            if p < start + NEAREST:
                loosened += own + moved[j]
                near += 1
    return loosened / max(near, 1)


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
        start, length = lists.start[anchor], lists.length[anchor]
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
            outside[anchor, r] = min(np.floor(bound / unit), np.float32(FAR_LEVEL))


LIST_KERNELS = (_nearest, _renew, _rings)
