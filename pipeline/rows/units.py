"""Float rows in any unit: powers of two, which lose nothing, keep squares within their range."""

import math

import numpy as np

from pipeline.rows.source import RowSource

USUAL = 2.0**256  # squares of such values, and sums of them, are in the range of float64


def scale_of(spread: float, dtype: np.dtype) -> float:
    """Power of two that brings a spread below 1; `dtype`: of what it is multiplied with."""
    if spread == 0:
        return 1.0
    # Rows beyond float32's range are left to float64.
    most = 1000 if dtype == np.float64 else 120
    return float(2.0 ** -min(max(math.frexp(spread)[1], -most), most))


def unit_of(source: RowSource) -> float:
    """Power of two by which rows are multiplied to be fitted: 1 but for float64 of rare sizes."""
    if source.dtype != np.float64:
        return 1.0
    largest = float(np.abs(source.read_block(0)).max())
    usual = largest == 0 or 1 / USUAL < largest < USUAL
    return 1.0 if usual else scale_of(largest, source.dtype)


class InUnit:
    """Another source of floats, multiplied by a power of two."""

    def __init__(self, source: RowSource, unit: float) -> None:
        self.n_rows, self.dim, self.dtype = source.n_rows, source.dim, source.dtype
        self.block_rows = source.block_rows
        self._source, self._unit = source, unit

    def read_block(self, index: int) -> np.ndarray:
        return self._source.read_block(index) * self._unit
