"""What centroids leave of rows."""

import numpy as np
import pytest

from pipeline.rows.residuals import ResidualRows, residuals
from pipeline.rows.source import ArraySource


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_residual_rows_are_rows_less_their_centroids(dtype: str) -> None:
    rng = np.random.default_rng(0)
    rows = (rng.random((3000, 7)) * 200).astype(dtype)
    centroids = (rng.random((5, 7)) * 200).astype(np.float32)
    labels = rng.integers(0, 5, 3000).astype(np.uint16)
    source = ArraySource(rows)
    source.block_rows = 700
    left = ResidualRows(source, centroids, labels)
    found = np.concatenate([left.read_block(index) for index in range(5)])
    assert found.dtype == left.dtype == np.float32
    expected = (rows.astype(np.float64) - centroids[labels]).astype(np.float32)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(residuals(rows, centroids, labels), expected)
