"""The centroids near a point, sorted: what lists of neighbours are made of."""

from typing import NamedTuple

import numpy as np

from pipeline.engines.cpu.centroid_table import CentroidTable, certain
from pipeline.engines.cpu.simd import WIDTH, broadcast, first_bit, inner, less, load, mask_bits

ELSEWHERE = np.float32(1e30)  # squared; less than the distance of centroids that equal another
BIN_BITS = 18  # of a float32 that a bin of distances leaves open: 3 % of a square
BINS, COUNTED = 1 << 10, 1 << 10  # down to 2^-32 of the largest; so many centroids tell
_WIDEST = np.int32((127 + 16) << 23)  # 2^16 as float32, more than squares in a table's unit


class ListRoom(NamedTuple):
    """Room for a list of neighbours in the making, of k centroids at most.

    found, squares: (k,) int32, float32. ends: (k + 1,) int32. counts: (BINS,) int32.
    """

    found: np.ndarray
    squares: np.ndarray
    ends: np.ndarray
    counts: np.ndarray


@inner(allocates=True)
def new_list_room(k: int) -> ListRoom:
    """Room for k centroids."""
    return ListRoom(
        np.empty(k, np.int32),
        np.empty(k, np.float32),
        np.empty(k + 1, np.int32),
        np.empty(BINS, np.int32),
    )


@inner
def list_near(
    square: np.ndarray,
    limit: np.float32,
    table: CentroidTable,
    index: np.ndarray,
    bound: np.ndarray,
    room: ListRoom,
) -> int:
    """Centroids nearer than the limit, by growing distance.

    square: (width,) float32, see `square_distances`. index, bound: room for k entries; the bounds
    are at most the distances. Returns: how many there are.
    """
    k, found, squares = len(table.half) - 1, room.found, room.squares
    count, most = 0, broadcast(min(limit * limit, ELSEWHERE))
    for j in range(0, k, WIDTH):
        bits = mask_bits(less(load(square, j), most))
        if k - j < WIDTH:
            bits &= np.int32((1 << (k - j)) - 1)
        while bits != 0:
            lane = first_bit(bits)
            bits &= bits - np.int32(1)
            found[count], squares[count] = j + lane, square[j + lane]
            count += 1
    _sort(found, squares, count, index, bound, room.ends)
    for p in range(count):
        bound[p] = certain(np.sqrt(bound[p]), table)
    return count


@inner
def limit_of(squared: np.ndarray, most: int, counts: np.ndarray) -> np.float32:
    """A distance within which about `most` centroids lie, or fewer.

    To sort all of them would take far longer. squared: (k,) float32, >= 0. counts: (BINS,), room.
    """
    bits = squared.view(np.int32)  # in the order of the numbers
    largest = np.int32(0)
    for j in range(len(bits)):
        largest = max(largest, bits[j])
    base = max((int(min(largest, _WIDEST)) >> BIN_BITS) - (BINS - 1), 0)
    step = max(len(bits) // COUNTED, 1)
    counts[:] = 0
    for j in range(0, len(bits), step):
        place = (int(bits[j]) >> BIN_BITS) - base
        counts[min(max(place, 0), BINS - 1)] += 1
    place, count = 0, counts[0] * step
    while count <= most and place < BINS - 1:
        place += 1
        count += counts[place] * step
    counts[0] = (base + place) << BIN_BITS
    return np.sqrt(counts[:1].view(np.float32)[0])


@inner
def _sort(
    found: np.ndarray,
    squares: np.ndarray,
    count: int,
    index: np.ndarray,
    square: np.ndarray,
    ends: np.ndarray,
) -> None:
    """The first `count` by growing square into `index` and `square`: into as many buckets as there
    are entries, by the square, of which they lie about evenly, then by insertion.
    """
    largest = np.float32(0)
    for p in range(count):
        largest = max(largest, squares[p])
    buckets = max(count, 1)
    scale, last = np.float32(1) / max(largest, np.float32(1e-30)), np.float32(buckets - 1)
    ends[: buckets + 1] = 0
    for p in range(count):
        ends[_bucket(squares[p] * scale, last) + 1] += 1
    for b in range(buckets):
        ends[b + 1] += ends[b]
    for p in range(count):
        bucket = _bucket(squares[p] * scale, last)
        place = ends[bucket]
        ends[bucket] = place + 1
        index[place], square[place] = found[p], squares[p]
    for i in range(1, count):  # few are out of order
        j, value, place = index[i], square[i], i
        while place > 0 and square[place - 1] > value:
            index[place], square[place] = index[place - 1], square[place - 1]
            place -= 1
        index[place], square[place] = j, value


@inner(inline="always")
def _bucket(share: np.float32, last: np.float32) -> np.int32:
    return np.int32(min(share * share, np.float32(1)) * last)
