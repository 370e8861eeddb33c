"""Heads of patches: a few coordinates of a row and of a centroid that tell how near they can be.

Patches put nearly all of their energy into a few directions. With the first h coordinates in an
orthonormal basis, x_h and c_h, and the lengths of the rests, t_x and t_c, Cauchy and Schwarz say

    x·c <= x_h·c_h + t_x t_c,  so that  ½|c|² − x·c >= ½|c|² − x_h·c_h − t_x t_c,

a product of h + 1 numbers in the place of d. Candidates whose bound exceeds the best score are
never looked at in full.
"""

from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.engines.cpu.centroid_table import CentroidTable, squared_lengths
from pipeline.engines.cpu.simd import WIDTH

CHOICE_ROWS = 128  # on which the size of heads is chosen
SIZES = (8, 16, 32)  # coordinates of a head
LEAST_DIM = 48  # values of a row, below which heads cannot pay
GUESS = 1.05  # distance to a guess, in distances to the nearest
# Nanoseconds, as measured at d = 192: a candidate in full in all lanes, for each vector of it; in
# part for each coordinate; in full in one lane, and for each vector; a coordinate of a row.
SCORE_COST, LOOK_COST, PRODUCT_COST, PRODUCT_PART, TURN_PART = 0.38, 0.03, 9.0, 1.0, 0.6
_MORE, _ITERATIONS = 8, 4  # directions beside those wanted, steps towards them
_UNIT = 2.0**-24  # rounding of float32


class Heads(NamedTuple):
    """Heads of centroids, shifted and scaled as in their table.

    basis: (h, padded) float32, orthonormal rows; padded: d filled up with zeros to whole vectors.
    cells: (k + 1, h + 1) float32, coordinates and length of the rest.
    half: (k + 1,) float32, ½|c|², less what rounding may hide. whole: ((k + 1) · padded,) float32,
    the centroids, each filled up with zeros to whole vectors. slack: that of a row, relative to
    its squared length.
    """

    basis: np.ndarray
    cells: np.ndarray
    half: np.ndarray
    whole: np.ndarray
    slack: np.float32


def make_heads(table: CentroidTable, basis: np.ndarray) -> Heads:
    """Heads of centroids in a basis, (h, d) float64, orthonormal."""
    exact = (table.centroids - table.shift.astype(np.float64)) * float(table.scale)
    k, dim = exact.shape
    size = len(basis)
    padded = np.zeros((size, -(-dim // WIDTH) * WIDTH), np.float32)
    padded[:, :dim] = basis
    used = padded[:, :dim].astype(np.float64)
    skew = float(np.abs(used @ used.T - np.eye(size)).sum(axis=1).max())
    # Of products, relative to both lengths: coordinates of a row are sums of d terms, by 16 lanes.
    slack = 2 * _UNIT * (size**0.5 * (dim / WIDTH + 8) + size + 16) + 2 * skew
    squares = squared_lengths(exact)
    cells = np.zeros((k + 1, size + 1), np.float32)
    cells[:k, :size] = coordinates = exact @ used.T
    rest = np.maximum(squares - squared_lengths(coordinates), 0)
    cells[:k, size] = np.sqrt(rest + slack * squares) * (1 + 4 * _UNIT)
    lower = table.half.copy()
    lower[:k] -= np.float32(slack) * squares  # nothing where a centroid is far away
    whole = np.zeros((k + 1, padded.shape[1]), np.float32)
    whole[:k, :dim] = exact
    return Heads(padded, cells, lower, whole.reshape(-1), np.float32(slack))


class HeadChoice:
    """By which heads centroids are compared: chosen anew as they settle, ever more seldom.

    basis: (h, d) float64, orthonormal; None: they are compared in full.
    """

    def __init__(self) -> None:
        self.basis: np.ndarray | None = None
        self._k = self._age = 0

    def begin(self, k: int) -> None:
        """There are k other centroids now."""
        if not self._k / 2 < k < 2 * self._k:
            self._k, self._age = k, 0
        self._age += 1
        self._due = self._age & (self._age - 1) == 0

    def choose(self, rows: np.ndarray, centroids: np.ndarray, *, guessed: bool) -> bool:
        """Whether there are others now, which cost least on some of the rows.

        rows: (n, d). centroids: (k, d). guessed: whether a centroid near each row is known.
        """
        if rows.shape[1] < LEAST_DIM or len(rows) < CHOICE_ROWS or not self._due:
            return False
        self._due = False
        with self.alone(), np.errstate(all="ignore"):  # of values beyond float64 any will do
            mean = centroids.mean(axis=0, dtype=np.float64)
            exact = centroids - mean
            scale = max(float(np.abs(exact).max()), float(np.finfo(np.float64).tiny))
            exact /= scale
            some = (rows[:: len(rows) // CHOICE_ROWS] - mean) / scale
            basis = basis_of(exact, SIZES[-1])
            size = best_size(some, exact, basis, guessed)
        before, self.basis = self.basis, basis[:size] if size else None
        return before is not None or self.basis is not None

    @staticmethod
    def alone() -> AbstractContextManager[object]:
        """One thread for small products of matrices: several wait for one another."""
        return threadpool_limits(1, "blas")


def basis_of(exact: np.ndarray, size: int) -> np.ndarray:
    """The directions in which centroids, (k, d) float64, vary most: (size, d), orthonormal.

    By subspace iteration (Halko, Martinsson, Tropp 2011).
    """
    random = np.random.default_rng(0).standard_normal((exact.shape[1], size + _MORE))
    directions = np.linalg.qr(random)[0]
    for _ in range(_ITERATIONS):
        directions = np.linalg.qr(exact.T @ (exact @ directions))[0]
    turn = np.linalg.svd(exact @ directions, full_matrices=False)[2]
    if len(turn) < size:  # fewer centroids: their span is all there is
        turn = np.eye(directions.shape[1])
    return np.ascontiguousarray((directions @ turn.T).T[:size])


def best_size(rows: np.ndarray, exact: np.ndarray, basis: np.ndarray, guessed: bool) -> int:
    """How many coordinates of heads cost least, all in all, as counted on some rows.

    rows: (m, d) float64, shifted and scaled as the centroids. exact: (k, d) float64. basis: (h, d),
    whose first rows are used. guessed: whether a centroid near each row is known.
    Returns: 0 where it is cheaper to compare in full.
    """
    vectors = exact.shape[1] / WIDTH
    squares = squared_lengths(rows)[:, np.newaxis] + squared_lengths(exact)
    distances = np.sqrt(np.maximum(squares - 2 * rows @ exact.T, 0))
    nearest = distances.argmin(axis=1)
    anchors = exact[nearest]
    apart = squared_lengths(anchors)[:, np.newaxis] + squared_lengths(exact) - 2 * anchors @ exact.T
    radius = GUESS * distances.min(axis=1, keepdims=True)
    listed = (apart <= 4 * np.square(radius)) | (not guessed)
    costs = {0: listed.sum() * SCORE_COST * vectors}
    head, heads = rows @ basis.T, exact @ basis.T
    for size in SIZES:
        own, theirs = head[:, :size], heads[:, :size]
        rests = [
            np.sqrt(np.maximum(squared_lengths(whole) - squared_lengths(part), 0))
            for whole, part in ((rows, own), (exact, theirs))
        ]
        bounds = squares - 2 * (own @ theirs.T + np.outer(*rests))
        if not guessed:  # the lowest bound tells where to begin
            first = bounds.argmin(axis=1)[:, np.newaxis]
            radius = GUESS * np.take_along_axis(distances, first, axis=1)
        met = (listed & (bounds <= np.square(radius))).sum() + len(rows)
        looks, turns = listed.sum() * LOOK_COST * (size + 1), len(rows) * size
        costs[size] = (
            looks
            + met * (PRODUCT_COST + PRODUCT_PART * vectors)
            + turns * (1 + TURN_PART * vectors)
        )
    return min(costs, key=lambda size: costs[size])
