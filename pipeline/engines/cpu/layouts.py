"""How rows, centroids and lists lie in memory when the kernels of the pruned engine meet them."""

from typing import NamedTuple

import numpy as np

FAR = np.float32(1e38)  # half the squared length of the centroid that fills up a list
RINGS = (8, 32, 128, 512)  # neighbours within each ring about a centroid
FAR_LEVEL = 1 << 20  # more than any stored distance
MANY = 1 << 30
MAX_LEVEL = 65535  # of a stored distance; as an upper bound it says: unknown


class Table(NamedTuple):
    """Centroids in the forms that the kernels read. Unit of length: 1 / scale of the rows' own.

    centroids: (k, d) float32 or float64, as given. shift: (d,) of that type. scale: a power of
    two that brings the spread of the centroids below 1, of that type too.
    shifted: (k + 1, d) float32, (c − shift) · scale; the last is a filling. half: (k + 1,)
    float32, ½|shifted|². columns: (d · width,) float32, shifted.T with rows of `width`, a
    multiple of twice the lanes. slack: relative bound on the rounding of a score. rounding: bound
    on that of `shifted`, as a distance.
    """

    centroids: np.ndarray
    shift: np.ndarray
    scale: np.floating
    shifted: np.ndarray
    half: np.ndarray
    columns: np.ndarray
    width: int
    slack: np.float32
    rounding: np.float32


class Lists(NamedTuple):
    """For each anchor its nearest centroids, by growing distance.

    start: (anchors,) int64, where each list begins. length: (anchors,) int64, multiples of four.
    member: (m,) int32, filled up with k. bound: (m,) float32, lower bound on the distance from
    the anchor of this centroid and all after it. beyond: (anchors,) float32, the same of all that
    are not listed.
    """

    start: np.ndarray
    length: np.ndarray
    member: np.ndarray
    bound: np.ndarray
    beyond: np.ndarray


class Rows(NamedTuple):
    """Rows on their way, grouped by anchor.

    row: (n,) int32, number in the block. anchor: (n,) int32. radius: (n,) float32, upper bound
    on the distance to the anchor.
    """

    row: np.ndarray
    anchor: np.ndarray
    radius: np.ndarray


class Known(NamedTuple):
    """What is known of the rows of a block; distances in levels of `unit`.

    label: (n,) uint16 or uint32. upper: (n,) uint16, of the distance to the own centroid;
    MAX_LEVEL: unknown. lower: (n,) uint16, of the distance to any other.
    """

    label: np.ndarray
    upper: np.ndarray
    lower: np.ndarray


class Moves(NamedTuple):
    """How far centroids went since the labels were found; in levels of the stored distances.

    own: (k,) int32, as their own rows see it, rounded up. others: (k,) int32, as all other rows do.
    ring: (k, rings + 1) int32, the largest of the latter among the neighbours in the ring.
    outside: (k, rings + 1) int32, distance to any centroid outside it, rounded down.
    """

    own: np.ndarray
    others: np.ndarray
    ring: np.ndarray
    outside: np.ndarray


class Movers(NamedTuple):
    """Centroids by how far they went, the farthest first.

    member: (m,) int32, filled up with k to a multiple of four. moved: (m + 1,) int32, levels; the
    last is that of the first centroid that is not listed. within: (g,) int32, for a move of so
    many levels how many centroids went as far; MANY where they are not all listed.
    """

    member: np.ndarray
    moved: np.ndarray
    within: np.ndarray
