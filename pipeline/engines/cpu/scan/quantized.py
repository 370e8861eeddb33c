"""Rows of bytes against centroids of bytes: a bound that costs a quarter of a score.

A centroid e, less the shift, is q · step + δ, with whole numbers q of a byte each. So

    ½|e|² − x·e = ½|e|² − step x·q − x·δ >= ½|e|² − step x·q − |x| |δ|,

where x·q is of bytes alone, which processors multiply and add up four at a time, exactly.
Candidates whose bound exceeds the best score are not looked at in full.
"""

from typing import NamedTuple

import numpy as np

from pipeline.engines.cpu.scan.row_words import BYTE_PRODUCTS, WORD

MOST_DIM = 47  # values of a row, beyond which heads serve better
AWAY = 1 << 30  # bound of what fills up a list, and of centroids that equal one before them
_LARGEST = 127


class QuantizedCentroids(NamedTuple):
    """Centroids as bytes. Empty where they are of no use.

    words: (k + 1, w) int32, −q, four coordinates each; the last are those that end the row. half:
    (k + 1,) int32, ½|e|² / unit, less what the shift of the rows adds, and less than that by 1 to
    2. unit: what a product of 1 is as a score. error: (1 / unit) · the largest |δ|.
    """

    words: np.ndarray
    half: np.ndarray
    unit: np.float32
    error: np.float32


def quantize(
    exact: np.ndarray, squares: np.ndarray, shift: np.ndarray, scale: float, away: np.ndarray
) -> QuantizedCentroids:
    """Centroids, (k, d) float64, (c − shift) · scale, for rows of bytes.

    squares: (k,) float64, their squared lengths. away: (m,) int64, those that cannot be nearest.
    """
    k, dim = exact.shape
    largest = float(np.abs(exact).max())
    if not BYTE_PRODUCTS or not WORD <= dim <= MOST_DIM or largest == 0:
        return nothing_quantized()
    step = largest / _LARGEST
    unit = scale * step
    whole = np.rint(exact / step)
    rest = exact - whole * step
    half = np.floor(0.5 * squares / unit + whole @ shift) - 1
    if not np.abs(half).max() < AWAY / 2:  # centroids far from any byte
        return nothing_quantized()
    count = -(-dim // WORD)
    parts = np.zeros((k + 1, count * WORD), np.int8)
    before = (count - 1) * WORD
    parts[:k, :before] = -whole[:, :before]
    parts[:k, before - dim :] = -whole[:, before:]
    halves = np.full(k + 1, AWAY, np.int32)
    halves[:k] = half
    halves[away] = AWAY
    error = 1.000001 * np.sqrt(np.einsum("kd,kd->k", rest, rest).max()) / unit
    return QuantizedCentroids(parts.view(np.int32), halves, np.float32(unit), np.float32(error))


def nothing_quantized() -> QuantizedCentroids:
    """Centroids that are compared in full."""
    one = np.float32(1)
    return QuantizedCentroids(np.zeros((0, 0), np.int32), np.zeros(0, np.int32), one, one)
