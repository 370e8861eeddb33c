"""Preprocessing of patches, row by row: a row's result depends on nothing but that row."""

import numpy as np

from pipeline.engines.cpu.simd import kernel


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
    parts = np.empty(dim, np.float32)
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
        if len(mean):
            for d in range(dim):
                parts[d] = rows[n, d] - mean[d]
                rows[n, d] = np.float32(0)
            whole = dim - dim % 4
            for i in range(0, whole, 4):  # fewer times through the row
                one, two, three, four = parts[i], parts[i + 1], parts[i + 2], parts[i + 3]
                for d in range(dim):
                    rows[n, d] += (one * whitening[i, d] + two * whitening[i + 1, d]) + (
                        three * whitening[i + 2, d] + four * whitening[i + 3, d]
                    )
            for i in range(whole, dim):
                for d in range(dim):
                    rows[n, d] += parts[i] * whitening[i, d]
        length = 1.0
        if unit:
            squares = 0.0
            for d in range(dim):
                squares += np.float64(rows[n, d]) * np.float64(rows[n, d])
            length = np.sqrt(squares)
            if length > 0:
                for d in range(dim):
                    rows[n, d] = np.float32(np.float64(rows[n, d]) / length)
        light[n, 0], light[n, 1], light[n, 2] = level, spread, length
