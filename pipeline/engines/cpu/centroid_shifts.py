"""How far centroids went between two passes, as the bounds of rows need to know it."""

from functools import partial
from typing import NamedTuple

import numpy as np

from pipeline.engines.cpu.centroid_table import CentroidTable
from pipeline.engines.cpu.jit import kernel
from pipeline.engines.cpu.neighbour_lists import NeighbourLists
from pipeline.engines.cpu.threads import ThreadPool

RINGS = (8, 32, 128, 512)  # neighbours within each ring about a centroid
FAR_LEVEL = 1 << 20  # more than any stored distance


class CentroidShifts(NamedTuple):
    """How far centroids went since the labels were found; in levels of the stored distances.

    own: (k,) int32, as their own rows see it, rounded up. ring: (k, rings + 1) int32, the largest
    shift, as all other rows see it, among the neighbours in the ring. outside: (k, rings + 1)
    int32, distance to any centroid outside it, rounded down.
    """

    own: np.ndarray
    ring: np.ndarray
    outside: np.ndarray


def measure_shifts(
    table: CentroidTable,
    lists: NeighbourLists,
    own: np.ndarray,
    others: np.ndarray,
    duplicates: np.ndarray,
    threads: ThreadPool,
) -> CentroidShifts:
    """What the shifts of the centroids mean for bounds.

    own, others: (k,) float32, how far each went since labels were found, as its own rows and as
    all others see it. duplicates: centroids that had an equal then, which was left out of the
    bounds of their rows.
    """
    k = len(own)
    near, far = (
        np.minimum(np.ceil(went / table.level), FAR_LEVEL).astype(np.int32)
        for went in (own, others)
    )
    # The last ring holds everything, for rows that lie far from all centroids.
    ring = np.full((k, len(RINGS) + 1), far.max(), np.int32)
    outside = np.full((k, len(RINGS) + 1), FAR_LEVEL, np.int32)
    fill = partial(_fill_rings, table, lists, far, ring, outside)
    threads.run(fill, threads.stretches(k))
    ring[duplicates] = FAR_LEVEL + 1  # more than any shift
    return CentroidShifts(near, ring, outside)


@kernel
def _fill_rings(
    table: CentroidTable,
    lists: NeighbourLists,
    levels: np.ndarray,
    ring: np.ndarray,
    outside: np.ndarray,
    first: int,
    stop: int,
) -> None:
    """Of the centroids [first, stop). levels: (k,) int32, how far each went."""
    k = len(levels)
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
            bound = lists.bound[start + end] if end < length else lists.unlisted_bound[anchor]
            ring[anchor, r] = largest
            outside[anchor, r] = min(np.floor(bound / table.level), np.float32(FAR_LEVEL))


SHIFT_KERNELS = (_fill_rings,)
