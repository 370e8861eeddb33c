"""Rows by words: their columns, and products of bytes."""

from typing import Any

import numpy as np
import pytest
from numba import njit

from pipeline.engines.cpu.scan import row_words
from pipeline.engines.cpu.scan.row_words import add_byte_products, load_columns
from pipeline.engines.cpu.simd import WIDTH, broadcast, load, store


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32"])
def test_columns_are_those_of_the_rows_and_nothing_is_read_beyond_them(dtype: str) -> None:
    rng = np.random.default_rng(0)

    @njit
    def columns(rows: Any, member: Any, start: Any, cells: Any, kept: Any) -> None:
        load_columns(rows, member, start, cells, kept)

    for dim in (1, 2, 3, 4, 5, 7, 25):
        info = np.iinfo(dtype) if dtype != "float32" else None
        rows = rng.normal(size=(40, dim)).astype(dtype)
        if info:
            rows = rng.integers(info.min, info.max + 1, (40, dim)).astype(dtype)
            rows[0], rows[1] = info.min, info.max
        member = rng.integers(0, 40, WIDTH).astype(np.int32)
        member[0], member[1], member[2] = 0, 1, 39  # the last ends with the array
        cells, start = np.zeros(dim * WIDTH, np.float32), np.zeros(WIDTH, np.int64)
        words = -(-dim * rows.itemsize // 4)
        kept = np.zeros(words * WIDTH, np.int32)
        columns(rows, member, start, cells, kept)
        np.testing.assert_array_equal(cells.reshape(dim, WIDTH).T, rows[member].astype(np.float32))
        if dim * rows.itemsize >= 4:
            last = kept.reshape(words, WIDTH)[-1].copy().view(np.uint8).reshape(WIDTH, 4)
            np.testing.assert_array_equal(last, rows[member].view(np.uint8)[:, -4:])


@pytest.mark.parametrize("native", [False, True])
def test_products_of_bytes_add_up_exactly(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if native and not row_words.BYTE_PRODUCTS:
        pytest.skip("the processor has no products of bytes")
    monkeypatch.setattr(row_words, "BYTE_PRODUCTS", native)

    @njit
    def total(rows: Any, others: Any, found: Any) -> None:
        sums = broadcast(np.int32(-7))
        for word in range(len(others)):
            sums = add_byte_products(sums, load(rows, word * WIDTH), broadcast(others[word]))
        store(found, 0, sums)

    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (12, WIDTH, 4)).astype(np.uint8)
    others = rng.integers(-127, 128, (12, 4)).astype(np.int8)
    rows[:, 0], others[:6] = 255, 127  # more than 16 bits hold
    rows[:, 1], others[6:9] = 255, -127
    found = np.zeros(WIDTH, np.int32)
    total(rows.reshape(-1).view(np.int32), others.reshape(-1).view(np.int32), found)
    exact = (rows.astype(np.int64) * others[:, np.newaxis].astype(np.int64)).sum(axis=(0, 2)) - 7
    np.testing.assert_array_equal(found, exact)
