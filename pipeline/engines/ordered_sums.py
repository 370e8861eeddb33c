"""Sums of labelled rows, piece by piece: one order of additions for every engine and device.

Whole numbers are added in int64, in any order. Floats are added in float64, those of a cluster in
the order of the rows, pieces in theirs; the squares of a row by halves: the second half of them to
the first, until one is left. So no sum depends on threads, vectors or devices.
"""

import numpy as np

from pipeline.engines.cpu.simd import kernel
from pipeline.engines.cpu.uint8_sums import add_rows
from pipeline.rows.cluster_sums import ClusterSums, sum_types

MAX_PIECE_ROWS = 1 << 16  # summed at once
PIECE_BYTES = 2 << 20  # of a piece in float32


def piece_rows(dim: int) -> int:
    """Rows summed at once: fixed by the dimension alone, so that float sums are reproducible."""
    return min(MAX_PIECE_ROWS, 1 << max(8, (PIECE_BYTES // (4 * dim)).bit_length() - 1))


def sum_piece(rows: np.ndarray, labels: np.ndarray, k: int, origin: np.ndarray) -> ClusterSums:
    """Sums of one piece on the CPU.

    Args:
        rows: (n, d) as stored, n at most `piece_rows`.
        labels: (n,) integers below k.
        k: number of clusters.
        origin: (k, d) float64, the centroids, taken off float rows before they are added.
    """
    dim, labels = rows.shape[1], labels.astype(np.int64)  # one kernel for all their types
    sums, counts = np.zeros((k, dim), np.int64), np.zeros(k, np.int64)
    squares = np.zeros(k, np.int64)  # 16 bits: at most 2^51 in a piece, which float64 holds
    if rows.dtype.kind == "f":
        sums, squares = sums.astype(np.float64), squares.astype(np.float64)
        _add_floats(rows, labels, origin, sums, counts, squares)
    else:
        add_rows(rows, labels, sums, counts, squares)
    return ClusterSums(sums, counts, squares.astype(sum_types(rows.dtype)[1]), origin)


@kernel
def _add_floats(
    rows: np.ndarray,
    labels: np.ndarray,
    origin: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
    squares: np.ndarray,
) -> None:
    n, dim = rows.shape
    terms = np.empty(dim, np.float64)
    for row in range(n):
        label = labels[row]
        for d in range(dim):
            x = np.float64(rows[row, d]) - origin[label, d]
            sums[label, d] += x
            terms[d] = x * x
        left = dim
        while left > 1:
            half = (left + 1) // 2
            for d in range(left - half):
                terms[d] += terms[half + d]
            left = half
        squares[label] += terms[0]
        counts[label] += 1
