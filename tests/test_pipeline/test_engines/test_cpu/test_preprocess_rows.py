"""Whitening of rows is a matrix product, whatever rows lie beside them."""

import numpy as np
import pytest

from pipeline.engines.cpu.preprocess_rows import preprocess_rows


@pytest.mark.parametrize("dim", [3, 16, 31, 32, 33, 70])
def test_whitening_is_the_product_with_the_matrix(dim: int) -> None:
    rng = np.random.default_rng(dim)
    patches = rng.integers(0, 256, (11, dim)).astype(np.uint8)
    mean = rng.normal(size=dim).astype(np.float32)
    matrix = rng.normal(size=(dim, dim)).astype(np.float32)
    matrix += matrix.T

    def made(n: int) -> np.ndarray:
        rows, light = np.empty((n, dim), np.float32), np.empty((n, 3))
        preprocess_rows(patches[:n], True, 10.0, mean, matrix, False, rows, light)
        return rows

    wide = patches.astype(np.float64)
    spread = np.sqrt(wide.var(axis=1, keepdims=True) + 10)
    expected = ((wide - wide.mean(axis=1, keepdims=True)) / spread - mean) @ matrix
    whole = made(11)
    np.testing.assert_allclose(whole, expected, atol=1e-4)
    for n in range(1, 11):  # fewer than four in the last group
        assert made(n).tobytes() == whole[:n].tobytes()
