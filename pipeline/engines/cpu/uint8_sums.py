"""Exact sums of byte rows: adding rows, and moving those whose label changed."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, error_model="numpy")
def add_rows(
    rows: np.ndarray,
    labels: np.ndarray,
    first: int,
    stop: int,
    sums: np.ndarray,
    counts: np.ndarray,
    squares: np.ndarray,
) -> None:
    """Add rows [first, stop) to the sums of their labels; all int64."""
    for row in range(first, stop):
        _add(rows, row, labels[row], 1, sums, counts, squares)


@njit(nogil=True, cache=True, error_model="numpy")
def move_rows(
    rows: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
    squares: np.ndarray,
) -> int:
    """Take rows whose label changed from one sum and add them to another; returns how many."""
    changed = 0
    for row in range(len(rows)):
        if before[row] != after[row]:
            changed += 1
            _add(rows, row, before[row], -1, sums, counts, squares)
            _add(rows, row, after[row], 1, sums, counts, squares)
    return changed


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _add(
    rows: np.ndarray,
    row: int,
    label: int,
    sign: int,
    sums: np.ndarray,
    counts: np.ndarray,
    squares: np.ndarray,
) -> None:
    square = np.int64(0)
    for d in range(rows.shape[1]):
        value = np.int64(rows[row, d])
        sums[label, d] += sign * value
        square += value * value
    counts[label] += sign
    squares[label] += sign * square
