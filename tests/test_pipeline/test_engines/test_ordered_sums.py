"""Exact sums of pieces: against plain loops, and by torch as a GPU adds them."""

import numpy as np
import pytest
import torch

from pipeline.engines.device import dense_kernels as on_device
from pipeline.engines.ordered_sums import sum_piece
from tests.oracles import sums_of


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("dim", [1, 2, 7, 25])
def test_pieces_add_up_to_the_same_bits_on_any_device(dtype: str, dim: int) -> None:
    rng = np.random.default_rng(dim)
    rows, labels = rng.normal(size=(1000, dim)) * 50, rng.integers(0, 8, 1000)
    rows = rows.astype(np.int8).astype(dtype) if "int" in dtype else rows.astype(dtype)
    centroids = rng.normal(size=(9, dim))
    origin = centroids if dtype.startswith("float") else np.zeros(dim)
    sums = sum_piece(rows, labels, 9, origin)
    expected = sums_of(rows, labels, centroids)
    np.testing.assert_array_equal(sums.counts, expected.counts)
    np.testing.assert_array_equal(sums.sums, expected.sums)
    np.testing.assert_allclose(sums.squares, expected.squares, rtol=1e-14)
    assert sums.squares.dtype == (np.int64 if rows.itemsize == 1 else np.float64)
    there = torch.from_numpy(rows), torch.from_numpy(labels)
    for found in (
        on_device.sum_piece(*there, 9, origin, rows.dtype),
        on_device._sum_piece(*there, 9, origin, rows.dtype),  # as on a GPU
    ):
        for mine, theirs in zip(vars(sums).values(), vars(found).values(), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_largest_16_bit_rows_add_up_exactly() -> None:
    rows = np.full((4096, 100), 65535, np.uint16)
    sums = sum_piece(rows, np.zeros(4096, np.uint16), 1, np.zeros(100))
    assert (sums.sums == 4096 * 65535).all()
    assert sums.squares.tolist() == [4096 * 100 * 65535**2]
