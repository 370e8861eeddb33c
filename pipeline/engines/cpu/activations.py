"""How strongly rows activate all centroids, added up by group: all distances, none of them kept.

Centroids lie in the lanes of vectors, four rows are worked on at once. What a row adds depends on
nothing but the row, and rows are added one after the other in float64: however they are cut into
blocks, sums of a group are bit-identical.
"""

from typing import Any, Literal

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pipeline.engines.cpu.simd import (
    WIDTH,
    broadcast,
    element,
    fma,
    inner,
    kernel,
    lane_sum,
    less,
    load,
    root,
    select,
    store,
    sub,
)
from pipeline.rows.units import scale_of
from pipeline.runtime.kernel_cache import code_bytes
from storage.errors import InputError

ROWS = 4  # worked on at once
BLOCK = 2 * WIDTH  # centroids whose values lie together
STRETCH_ROWS = 1 << 13  # that are made float32 at once
LEAST_EXPONENT = np.float32(-40)  # of soft shares, relative to the largest; smaller ones are 0

Kind = Literal["triangle", "soft"]


class Activations:
    """A dictionary that rows activate.

    Args:
        centroids: (k, d) float32 or float64.
        kind: "triangle": max(0, mean distance − distance), the mean over all centroids (Coates, Lee
            & Ng 2011, An analysis of single-layer networks in unsupervised feature learning);
            "soft": the posterior of a mixture of Gaussians, exp(−distance² / (2 · variance)) over
            the sum of these over all centroids.
        variance: of the Gaussians along each axis, squared unit of the rows; not below 0.

    Attributes:
        width: numbers that a group takes in `sums`: K, and a filling.

    Rows are stored as they are, computed as float32 differences, added up as float64.
    Memory: `projected_bytes`.
    """

    def __init__(self, centroids: np.ndarray, kind: Kind, variance: float = 0.0) -> None:
        self._k, self._dim = centroids.shape
        self._kind = kind
        # A power of two, lest squares leave the range of float32.
        self._scale = scale_of(float(np.abs(centroids).max()), np.dtype(np.float32))
        self.width = -(-self._k // BLOCK) * BLOCK
        filled = np.zeros((self.width, self._dim), np.float32)
        filled[: self._k] = centroids.astype(np.float64) * self._scale
        blocks = filled.reshape(-1, BLOCK, self._dim).transpose(0, 2, 1)
        self._table = np.ascontiguousarray(blocks).reshape(-1)
        self._inside = np.zeros(self.width, np.float32)
        self._inside[: self._k] = 1
        spread = max(variance * self._scale**2, float(np.finfo(np.float32).tiny))
        self._sharpness = np.float32(min(0.5 / spread, float(np.finfo(np.float32).max)))

    def add(self, rows: np.ndarray, groups: np.ndarray, sums: np.ndarray) -> None:
        """Add what rows activate to the sums of their groups, in place; threads may share this.

        Args:
            rows: (n, d) integers or floats.
            groups: (n,) intp, the group of each row.
            sums: (groups, width) float64, contiguous; of no other thread. In units of `unit`.

        Raises: InputError for another number of columns.
        """
        if rows.ndim != 2 or rows.shape[1] != self._dim:
            raise InputError(
                f"rows {rows.shape} and centroids of {self._dim} values do not match: give (n, d)"
            )
        flat = sums.reshape(-1)
        for first in range(0, len(rows), STRETCH_ROWS):
            part = slice(first, first + STRETCH_ROWS)
            block = rows[part].astype(np.float32) * np.float32(self._scale)
            if self._kind == "triangle":
                add_triangles(block, groups[part], self._table, self._inside, self._k, flat)
            else:
                add_shares(block, groups[part], self._table, self._k, self._sharpness, flat)

    @property
    def unit(self) -> float:
        """What sums are multiplied by: triangles have the unit of the rows, shares have none."""
        return 1 / self._scale if self._kind == "triangle" else 1.0

    @staticmethod
    def projected_bytes(k: int, dim: int) -> int:
        """What k centroids, and a thread at work, take beside rows and sums, at most."""
        width = -(-k // BLOCK) * BLOCK
        table = 4 * width * (dim + 1)
        # The table three times while it is made; rows as float32, twice; distances of a few.
        return 3 * table + 8 * STRETCH_ROWS * dim + ROWS * 4 * (width + dim) + code_bytes(KERNELS)


@intrinsic
def _add_wide(typing: Any, array: Any, start: Any, value: Any) -> Any:
    """array[start : start + WIDTH] += value, whose lanes become float64 first."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.VectorType(ir.DoubleType(), WIDTH)
        start = element(context, builder, signature, arguments)
        address = builder.bitcast(start, wide.as_pointer())
        more = builder.fpext(arguments[2], wide)
        builder.store(builder.fadd(builder.load(address, align=8), more), address, align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@kernel
def add_triangles(
    rows: np.ndarray,
    groups: np.ndarray,
    table: np.ndarray,
    inside: np.ndarray,
    k: int,
    sums: np.ndarray,
) -> None:
    """Add max(0, mean distance − distance) of rows, (n, d) float32, to the sums of their groups."""
    n, dim = rows.shape
    width = len(inside)
    cells = np.empty(ROWS * dim, np.float32)
    found = np.empty(ROWS * width, np.float32)
    zero = broadcast(np.float32(0))
    for first in range(0, n, ROWS):
        _load_rows(rows, first, cells)
        _squares(cells, dim, table, width, found)
        m0 = broadcast(_mean_root(found, 0, inside, k))
        m1 = broadcast(_mean_root(found, width, inside, k))
        m2 = broadcast(_mean_root(found, 2 * width, inside, k))
        m3 = broadcast(_mean_root(found, 3 * width, inside, k))
        here = groups[first] * width
        if first + ROWS <= n and _alike(groups, first):
            for j in range(0, width, WIDTH):  # the sums are read and written once
                _add_wide(sums, here + j, _above(sub(m0, load(found, j)), zero))
                _add_wide(sums, here + j, _above(sub(m1, load(found, width + j)), zero))
                _add_wide(sums, here + j, _above(sub(m2, load(found, 2 * width + j)), zero))
                _add_wide(sums, here + j, _above(sub(m3, load(found, 3 * width + j)), zero))
            continue
        for i in range(min(ROWS, n - first)):
            here, start = groups[first + i] * width, i * width
            mean = m0 if i == 0 else m1 if i == 1 else m2 if i == 2 else m3
            for j in range(0, width, WIDTH):
                _add_wide(sums, here + j, _above(sub(mean, load(found, start + j)), zero))


@kernel
def add_shares(
    rows: np.ndarray,
    groups: np.ndarray,
    table: np.ndarray,
    k: int,
    sharpness: np.float32,
    sums: np.ndarray,
) -> None:
    """Add softmax(−sharpness · distance²) of rows, (n, d) float32, to the sums of their groups."""
    n, dim = rows.shape
    width = len(table) // dim
    cells = np.empty(ROWS * dim, np.float32)
    found = np.empty(ROWS * width, np.float32)
    for first in range(0, n, ROWS):
        _load_rows(rows, first, cells)
        _squares(cells, dim, table, width, found)
        for i in range(min(ROWS, n - first)):
            squares = found[i * width : i * width + k]
            least, total = squares[0], 0.0
            for j in range(1, k):
                least = min(least, squares[j])
            for j in range(k):
                exponent = (least - squares[j]) * sharpness
                squares[j] = np.exp(exponent) if exponent > LEAST_EXPONENT else np.float32(0)
                total += squares[j]
            here = groups[first + i] * width
            for j in range(k):
                sums[here + j] += squares[j] / total


KERNELS = (add_triangles, add_shares)


@inner
def _load_rows(rows: np.ndarray, first: int, cells: np.ndarray) -> None:
    """Four rows, the last of all again where there are fewer; cells: (4 · d,)."""
    n, dim = rows.shape
    for i in range(ROWS):
        row = rows[min(first + i, n - 1)]
        for d in range(dim):
            cells[i * dim + d] = row[d]


@inner
def _squares(cells: np.ndarray, dim: int, table: np.ndarray, width: int, found: np.ndarray) -> None:
    """Squared distances of four rows to all centroids; found: (4 · width,)."""
    for j in range(0, width, BLOCK):
        a0 = a1 = b0 = b1 = c0 = c1 = d0 = d1 = broadcast(np.float32(0))
        start = j * dim
        for d in range(dim):
            one, two = load(table, start + d * BLOCK), load(table, start + d * BLOCK + WIDTH)
            x = broadcast(cells[d])
            e, f = sub(one, x), sub(two, x)
            a0, a1 = fma(e, e, a0), fma(f, f, a1)
            x = broadcast(cells[dim + d])
            e, f = sub(one, x), sub(two, x)
            b0, b1 = fma(e, e, b0), fma(f, f, b1)
            x = broadcast(cells[2 * dim + d])
            e, f = sub(one, x), sub(two, x)
            c0, c1 = fma(e, e, c0), fma(f, f, c1)
            x = broadcast(cells[3 * dim + d])
            e, f = sub(one, x), sub(two, x)
            d0, d1 = fma(e, e, d0), fma(f, f, d1)
        store(found, j, a0)
        store(found, j + WIDTH, a1)
        store(found, width + j, b0)
        store(found, width + j + WIDTH, b1)
        store(found, 2 * width + j, c0)
        store(found, 2 * width + j + WIDTH, c1)
        store(found, 3 * width + j, d0)
        store(found, 3 * width + j + WIDTH, d1)


@inner
def _mean_root(found: np.ndarray, start: int, inside: np.ndarray, k: int) -> np.float32:
    """Squared distances of a row become distances, in place; their mean."""
    one, two = broadcast(np.float32(0)), broadcast(np.float32(0))
    for j in range(0, len(inside), BLOCK):
        distance = root(load(found, start + j))
        store(found, start + j, distance)
        one = fma(distance, load(inside, j), one)
        distance = root(load(found, start + j + WIDTH))
        store(found, start + j + WIDTH, distance)
        two = fma(distance, load(inside, j + WIDTH), two)
    return (lane_sum(one) + lane_sum(two)) / np.float32(k)


@inner(inline="always")
def _above(value, zero):  # type: ignore[no-untyped-def]
    """What is above 0 in each lane, else 0."""
    return select(less(zero, value), value, zero)


@inner
def _alike(groups: np.ndarray, first: int) -> bool:
    """Whether four rows are of one group."""
    group = groups[first]
    return groups[first + 1] == group == groups[first + 2] and groups[first + 3] == group
