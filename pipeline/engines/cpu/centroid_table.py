"""Centroids in the forms that the kernels of the pruned engine read, and distances of them."""

import math
from typing import NamedTuple

import numpy as np

from pipeline.engines.cpu.assignment_cache import MAX_LEVEL
from pipeline.engines.cpu.scan.quantized import QuantizedCentroids, nothing_quantized, quantize
from pipeline.engines.cpu.simd import WIDTH, broadcast, fma, inner, load, store, sub
from pipeline.rows.units import scale_of

FAR = np.float32(1e38)  # half the squared length of the centroid that fills up a list
AWAY = np.float32(1e17)  # where centroids lie that equal one before them
KEEP = 0.1  # share of the spread of the centroids by which their mean may leave the shift


class CentroidTable(NamedTuple):
    """Centroids in the forms that the kernels read. Unit of length: 1 / scale of the rows' own.

    centroids: (k, d) float32 or float64, as given. shift: (d,) of that type. scale: a power of
    two that brings the spread of the centroids below 1, of that type too.
    shifted: (k + 1, d) float32, (c − shift) · scale; the last is a filling. half: (k + 1,)
    float32, ½|shifted|². points: (k, m) float32, between which distances are at most those of the
    centroids: these, or their heads with the lengths of the rests. columns: (m · width,) float32,
    points.T with rows of `width`, a multiple of twice the lanes. slack: relative bound on the
    rounding of a score. rounding: bound on that of `points`, as a distance. level: length of a
    level of stored distances, see `level_of`. quantized: for rows of bytes.
    """

    centroids: np.ndarray
    shift: np.ndarray
    scale: np.floating
    shifted: np.ndarray
    half: np.ndarray
    points: np.ndarray
    columns: np.ndarray
    width: int
    slack: np.float32
    rounding: np.float32
    level: np.float32
    quantized: QuantizedCentroids


def make_table(
    centroids: np.ndarray,
    integers: bool,
    before: CentroidTable | None = None,
    basis: np.ndarray | None = None,
    *,
    of_bytes: bool = False,
) -> CentroidTable:
    """Centroids, (k, d) float32 or float64, as the kernels read them.

    Those that equal one before them are out of the way: they cannot be nearest.
    before: of the last pass, whose shift and scale are kept where they still serve, so that
    distances stay comparable. basis: (h, d) float64, orthonormal, of heads; None: there are none.
    of_bytes: whether rows are, and meet these centroids by their bytes where that pays.
    """
    k, dim = centroids.shape
    wide = centroids.astype(np.float64)
    shift, scale = _frame(centroids.dtype, wide, integers, before)
    exact = (wide - shift) * scale
    shifted = np.zeros((k + 1, dim), np.float32)
    shifted[:k] = exact
    half = np.full(k + 1, FAR, np.float32)
    squares = (exact * exact).sum(axis=1)
    half[:k] = 0.5 * squares
    again, _ = duplicates(centroids)
    half[:k][again] = FAR
    width = -(-k // (2 * WIDTH)) * (2 * WIDTH)
    points = shifted[:k] if basis is None else head_points(exact, basis).astype(np.float32)
    columns = np.zeros((points.shape[1], width), np.float32)
    columns[:, :k] = points.T
    columns[:, :k][:, again] = AWAY
    longest = math.sqrt(float(squares.max()))
    return CentroidTable(
        centroids,
        shift,
        centroids.dtype.type(scale),
        shifted,
        half,
        points,
        columns.reshape(-1),
        width,
        # Of a score, relative to (|x| + |x − c|)²: one rounding for each term of the product, one
        # each for the centroid, its norm, the row and the difference.
        slack=np.float32((dim + 4) * 2.0**-24),
        # Each end by at most 2^-24 of its length, the rest of a head by 2^-21.
        rounding=np.float32((2.0**-22 if basis is None else 2.0**-20) * longest),
        level=level_of(dim),
        quantized=(
            quantize(exact, squares, shift, scale, again) if of_bytes else nothing_quantized()
        ),
    )


def head_points(exact: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Coordinates and lengths of the rests, (k, h + 1) float64; nearer to one another than rows.

    exact: (k, d) float64. basis: (h, d) float64, orthonormal.
    """
    coordinates = exact @ basis.T
    rest = np.maximum(squared_lengths(exact) - squared_lengths(coordinates), 0)
    return np.column_stack([coordinates, np.sqrt(rest)])


def squared_lengths(points: np.ndarray) -> np.ndarray:
    """Of points, (n, d): (n,)."""
    return np.einsum("ij,ij->i", points, points)


def _frame(
    dtype: np.dtype, wide: np.ndarray, integers: bool, before: CentroidTable | None
) -> tuple[np.ndarray, float]:
    """Shift and scale for centroids, (k, d) float64 of what is `dtype`."""
    mean = wide.mean(axis=0)
    spread = float(np.abs(wide - mean).max())
    if (
        before is not None
        and before.centroids.dtype == dtype
        and np.abs(before.shift - mean).max() <= KEEP * spread
        and KEEP <= spread * before.scale <= 1
    ):
        return before.shift, float(before.scale)
    return (np.rint(mean) if integers else mean).astype(dtype), scale_of(spread, dtype)


def duplicates(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of centroids that equal one before them, and of the first of each: (m,) int64."""
    k = len(centroids)
    words = np.ascontiguousarray(centroids + 0.0).view(np.uint32).astype(np.uint64)
    odd = np.random.default_rng(0).integers(1, 1 << 63, words.shape[1], dtype=np.uint64)
    if len(np.unique((words * odd).sum(axis=1))) == k:  # nearly always, and much faster
        return np.empty(0, np.int64), np.empty(0, np.int64)
    _, first, which = np.unique(centroids, axis=0, return_index=True, return_inverse=True)
    again = np.setdiff1d(np.arange(k), first)
    return again, first[which.reshape(-1)[again]]


def level_of(dim: int) -> np.float32:
    """Length of a level, scaled as a table is: centroids lie within a box of side 2.

    What is farther than its diagonal counts as unknown.
    """
    return np.float32(2 * dim**0.5 / (MAX_LEVEL - 1))


@inner
def certain(distance: np.float32, table: CentroidTable) -> np.float32:
    """What is left of a distance between centroids when the worst rounding is taken off."""
    return max(distance * (np.float32(1) - table.slack) - table.rounding, np.float32(0))


@inner
def square_distances(anchor: np.ndarray, table: CentroidTable, out: np.ndarray) -> None:
    """Squared distances of a point from those of all centroids, as float32 has them.

    anchor: (m,) float32, see `CentroidTable`. out: (width,) float32.
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
