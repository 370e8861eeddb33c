"""Exact sums of integer rows: adding rows, and moving those whose label changed."""

import numpy as np

from pipeline.engines.cpu.simd import inner, kernel


@kernel
def add_rows(
    rows: np.ndarray, labels: np.ndarray, sums: np.ndarray, counts: np.ndarray, squares: np.ndarray
) -> None:
    """Add rows to the sums of their labels; all int64."""
    for row in range(len(rows)):
        _add(rows, row, labels[row], 1, sums, counts, squares)


@kernel
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


@inner(inline="always")
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
