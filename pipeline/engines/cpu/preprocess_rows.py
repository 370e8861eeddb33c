"""Preprocessing of patches, row by row: a row's result depends on nothing but that row.

Whitening is a matrix product, of four rows and 32 columns at a time, whose sums stay in registers.
Each is added up along the row in order, whatever rows lie beside it: BLAS gives other bits for
other numbers of rows, and of threads.
"""

import numpy as np

from pipeline.engines.cpu.simd import WIDTH, broadcast, fma, inner, kernel, load, store

_ROWS = 4  # whitened at once
_BLOCK = 2 * WIDTH  # columns


@kernel
def preprocess_rows(
    patches: np.ndarray,
    centre: bool,
    floor: float,
    mean: np.ndarray,
    whitening: np.ndarray,
    unit: bool,
    rows: np.ndarray,
    light: np.ndarray,
) -> None:
    """Contrast, whitening, length.

    patches: (n, d). centre: whether mean and contrast are taken away. floor: added to the variance.
    mean: (d,) float32, and whitening: (d, d) float32, symmetric; or empty ones. unit: whether rows
    are divided by their length. rows: (n, d) float32, filled. light: (n, 3) float64, filled with
    the mean, the contrast, and the length before that division.
    """
    dim = patches.shape[1]
    for n in range(len(patches)):
        level, spread = 0.0, 1.0
        if centre:
            for d in range(dim):
                level += np.float64(patches[n, d])
            level /= dim
            squares = 0.0
            for d in range(dim):
                apart = np.float64(patches[n, d]) - level
                squares += apart * apart
            spread = np.sqrt(squares / dim + floor)
            if spread == 0:
                spread = 1.0
        for d in range(dim):
            rows[n, d] = np.float32((np.float64(patches[n, d]) - level) / spread)
        light[n, 0], light[n, 1], light[n, 2] = level, spread, 1.0
    if len(mean):
        _whiten(rows, mean, whitening)
    if not unit:
        return
    for n in range(len(rows)):
        squares = 0.0
        for d in range(dim):
            squares += np.float64(rows[n, d]) * np.float64(rows[n, d])
        length = np.sqrt(squares)
        if length > 0:
            for d in range(dim):
                rows[n, d] = np.float32(np.float64(rows[n, d]) / length)
        light[n, 2] = length


@inner(allocates=True)
def _whiten(rows: np.ndarray, mean: np.ndarray, whitening: np.ndarray) -> None:
    """Rows, (n, d) float32, less the mean, times the matrix, in place."""
    n, dim = rows.shape
    cells = np.empty(n * dim, np.float32)
    for i in range(n):
        for d in range(dim):
            cells[i * dim + d] = rows[i, d] - mean[d]
    block, made = np.zeros(dim * _BLOCK, np.float32), np.empty(_ROWS * _BLOCK, np.float32)
    for left in range(0, dim, _BLOCK):
        wide = min(_BLOCK, dim - left)
        for d in range(dim):
            for column in range(wide):  # what is beyond the last has a part in no result
                block[d * _BLOCK + column] = whitening[d, left + column]
        for first in range(0, n, _ROWS):
            if wide > WIDTH:
                _products(cells, dim, first, n, block, made)
            else:
                _half_products(cells, dim, first, n, block, made)
            for i in range(min(_ROWS, n - first)):
                row = rows[first + i, left : left + wide]
                for column in range(wide):
                    row[column] = made[i * _BLOCK + column]


@inner
def _products(
    cells: np.ndarray, dim: int, first: int, n: int, block: np.ndarray, made: np.ndarray
) -> None:
    """Four rows, the last of all again where there are fewer, times a block of columns."""
    a0 = a1 = b0 = b1 = c0 = c1 = d0 = d1 = broadcast(np.float32(0))
    a, last = first * dim, (n - 1) * dim
    b, c, d = min(a + dim, last), min(a + 2 * dim, last), min(a + 3 * dim, last)
    for i in range(dim):
        one, two = load(block, i * _BLOCK), load(block, i * _BLOCK + WIDTH)
        x = broadcast(cells[a + i])
        a0, a1 = fma(one, x, a0), fma(two, x, a1)
        x = broadcast(cells[b + i])
        b0, b1 = fma(one, x, b0), fma(two, x, b1)
        x = broadcast(cells[c + i])
        c0, c1 = fma(one, x, c0), fma(two, x, c1)
        x = broadcast(cells[d + i])
        d0, d1 = fma(one, x, d0), fma(two, x, d1)
    store(made, 0, a0)
    store(made, WIDTH, a1)
    store(made, _BLOCK, b0)
    store(made, _BLOCK + WIDTH, b1)
    store(made, 2 * _BLOCK, c0)
    store(made, 2 * _BLOCK + WIDTH, c1)
    store(made, 3 * _BLOCK, d0)
    store(made, 3 * _BLOCK + WIDTH, d1)


@inner
def _half_products(
    cells: np.ndarray, dim: int, first: int, n: int, block: np.ndarray, made: np.ndarray
) -> None:
    """The same of the first half of the columns."""
    a0 = b0 = c0 = d0 = broadcast(np.float32(0))
    a, last = first * dim, (n - 1) * dim
    b, c, d = min(a + dim, last), min(a + 2 * dim, last), min(a + 3 * dim, last)
    for i in range(dim):
        one = load(block, i * _BLOCK)
        a0 = fma(one, broadcast(cells[a + i]), a0)
        b0 = fma(one, broadcast(cells[b + i]), b0)
        c0 = fma(one, broadcast(cells[c + i]), c0)
        d0 = fma(one, broadcast(cells[d + i]), d0)
    store(made, 0, a0)
    store(made, _BLOCK, b0)
    store(made, 2 * _BLOCK, c0)
    store(made, 3 * _BLOCK, d0)
