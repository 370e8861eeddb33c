"""Vectors placed on a grid so that neighbours are alike: linear assignment sorting.

Source: Barthel, Hezel, Jung, Schall, "Improved Evaluation and Generation of Grid Layouts using
Distance Preservation Quality and Linear Assignment Sorting", Computer Graphics Forum 42, 2023.
"""

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.optimize import linear_sum_assignment

WIDE = 1024  # values of a vector from which their covariances take too long
WHOLE_CELLS = 256  # up to so many are assigned at once
# Cells of a block where there are more. The time of an assignment grows with the cube: for 9000
# centroids blocks of 49 cells took 2.5 s, and of 100 cells 6 s, for neighbours 1.3 % more alike.
BLOCK_CELLS = 49
SHRINK = 0.93  # of the filter's radius, from one round to the next
LARGE = 1500  # vectors: above that fewer rounds, half the time for neighbours 4 % less alike
LARGE_SHRINK = 0.85
FIRST_RADIUS = 0.5  # of the grid's longer side


def similarity_grid(vectors: np.ndarray, rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """Place vectors on a grid so that neighbours are alike.

    Repeats: low-pass filter the grid of vectors, assign the vectors to the filtered cells at the
    least total squared distance, shrink the filter. Starts from a layout by the first two
    principal components. Above WHOLE_CELLS cells the assignment runs in square blocks of the
    grid, shifted at random each round.

    Args:
        vectors: (k, d); rows · cols >= k. The last cells in reading order stay empty.
        rows: of the grid.
        cols: of the grid.
        seed: of the blocks' shifts; the same seed gives the same grid.

    Returns:
        (rows, cols) int64, the vector of each cell, -1 for an empty one. Memory: 3 · k · d float64,
        and blocks of WHOLE_CELLS² float64.
    """
    vectors = vectors.reshape(len(vectors), -1).astype(np.float64)
    rng = np.random.default_rng(seed)
    cells = _principal_layout(vectors, cols)
    shrink = LARGE_SHRINK if len(vectors) > LARGE else SHRINK
    radius = FIRST_RADIUS * max(rows, cols)
    while radius >= 1:
        target = _filtered(vectors[cells], rows, cols, 2 * int(radius) + 1)
        for block in _blocks(len(cells), cols, rng):
            cells[block] = _assigned(vectors, cells[block], target[block])
        radius *= shrink
    grid = np.full(rows * cols, -1, np.int64)
    grid[: len(cells)] = cells
    return grid.reshape(rows, cols)


def _principal_layout(vectors: np.ndarray, cols: int) -> np.ndarray:
    """Rows by the first principal component, within a row by the second; (k,) int64."""
    centred = vectors - vectors.mean(axis=0)
    wide = centred.shape[1] > max(WIDE, len(centred))
    axes = np.linalg.svd(centred if wide else centred.T @ centred, full_matrices=not wide)[2]
    # An axis has no sign of its own: let its largest entry be positive, on every machine.
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    places = centred @ (axes * signs[:, np.newaxis]).T
    second = places[:, min(1, places.shape[1] - 1)]
    by_first = np.argsort(places[:, 0], kind="stable")
    lines = [by_first[start : start + cols] for start in range(0, len(by_first), cols)]
    return np.concatenate([line[np.argsort(second[line], kind="stable")] for line in lines])


def _filtered(placed: np.ndarray, rows: int, cols: int, size: int) -> np.ndarray:
    """Box filter over the grid, empty cells left out; placed: (k, d) -> (k, d)."""
    count = len(placed)
    grid = np.zeros((rows * cols, placed.shape[1] + 1))
    grid[:count, :-1] = placed
    grid[:count, -1] = 1  # the filtered ones are the weights
    grid = grid.reshape(rows, cols, -1)
    for axis in (0, 1):
        grid = uniform_filter1d(grid, size, axis=axis, mode="nearest")
    flat = grid.reshape(rows * cols, -1)[:count]
    return flat[:, :-1] / flat[:, -1:]


def _blocks(count: int, cols: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Cells to be assigned together: all, or squares of the grid shifted at random."""
    cells = np.arange(count)
    if count <= WHOLE_CELLS:
        return [cells]
    side = int(BLOCK_CELLS**0.5)
    down, across = rng.integers(0, side, 2)
    block_row, block_col = (cells // cols + down) // side, (cells % cols + across) // side
    names = block_row * (cols + side) + block_col
    order = np.argsort(names, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(names[order])) + 1)


def _assigned(vectors: np.ndarray, cells: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The vectors `cells`, reordered to fit `target` best; target: (m, d)."""
    own = vectors[cells]
    # |v − t|² less |v|² and |t|², which every assignment has in full
    chosen = linear_sum_assignment(-2.0 * (target @ own.T))[1]
    return cells[chosen]
