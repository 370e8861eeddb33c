from pathlib import Path

import dask.array
import numpy as np
import pytest
import xarray
import zarr

from pipeline.rows.source import (
    ArraySource,
    LargerBlocks,
    as_source,
    block_count,
    read_ahead,
    take_rows,
)
from storage import InputError

ROWS = np.arange(1000 * 6, dtype=np.uint16).reshape(1000, 6)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 12 * 64)


@pytest.mark.parametrize(
    "wrap",
    [
        np.asarray,
        lambda rows: dask.array.from_array(rows, chunks=(170, 6)),
        lambda rows: zarr.array(rows, chunks=(100, 6)),
        lambda rows: xarray.DataArray(rows.reshape(1000, 2, 3), dims=("patch", "row", "col")),
    ],
    ids=["numpy", "dask", "zarr", "xarray"],
)
def test_blocks_of_anything_make_up_the_rows(wrap: object) -> None:
    source = as_source(wrap(ROWS))  # type: ignore[operator]
    blocks = list(read_ahead(source))
    assert [len(block) for block in blocks[:-1]] == [source.block_rows] * (len(blocks) - 1)
    assert len(blocks) == block_count(source) > 3
    np.testing.assert_array_equal(np.concatenate(blocks), ROWS)
    assert all(block.flags.writeable and block.flags.c_contiguous for block in blocks)


def test_rows_are_taken_in_the_order_asked_for() -> None:
    numbers = np.array([999, 0, 500, 500, 3, 64, 63])
    np.testing.assert_array_equal(take_rows(ArraySource(ROWS), numbers), ROWS[numbers])


@pytest.mark.parametrize("larger", [False, True])
def test_taking_rows_reads_only_their_blocks(larger: bool) -> None:
    source, read = ArraySource(ROWS), []
    original = source.read_block
    source.read_block = lambda index: read.append(index) or original(index)  # type: ignore[method-assign,func-returns-value]
    taken = take_rows(LargerBlocks(source, 5) if larger else source, np.array([5, 700, 6]))
    np.testing.assert_array_equal(taken, ROWS[[5, 700, 6]])
    assert read == [0, 700 // source.block_rows]


def test_an_error_in_the_reader_reaches_the_caller_and_an_early_end_stops_it() -> None:
    class Broken(ArraySource):
        def read_block(self, index: int) -> np.ndarray:
            if index == 2:
                raise OSError("disk")
            return super().read_block(index)

    with pytest.raises(OSError, match="disk"):
        list(read_ahead(Broken(ROWS)))
    stream = read_ahead(ArraySource(ROWS))
    next(stream)
    stream.close()


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "float16"])
def test_wide_integers_and_half_floats_are_widened(dtype: str) -> None:
    rows = np.array([[1, 2], [1000, 7]], dtype)
    (block,) = read_ahead(ArraySource(rows))
    assert block.dtype == (np.float32 if dtype == "float16" else np.float64)
    np.testing.assert_array_equal(block, rows)


@pytest.mark.parametrize("chunks", [(500, 500), (10, 700, 90, 200), (1000,), (1,) * 10 + (990,)])
def test_dask_blocks_of_any_size_are_computed_once(chunks: tuple[int, ...]) -> None:
    computed = []

    def count(block: np.ndarray) -> np.ndarray:
        computed.append(len(block))
        return block

    lazy = dask.array.from_array(ROWS, chunks=(chunks, (4, 2))).rechunk({1: 6})
    counted = lazy.map_blocks(count, meta=ROWS[:0])
    for given in (counted, xarray.DataArray(counted)):
        blocks = list(read_ahead(as_source(given)))
        np.testing.assert_array_equal(np.concatenate(blocks), ROWS)
        assert computed == list(chunks)
        computed.clear()


def test_arrays_of_xarray_that_are_not_loaded_are_read_by_blocks(tmp_path: Path) -> None:
    xarray.Dataset({"rows": (("n", "d"), ROWS)}).to_zarr(tmp_path / "rows.zarr", consolidated=False)
    rows = xarray.open_zarr(tmp_path / "rows.zarr", chunks=None, consolidated=False)["rows"]
    np.testing.assert_array_equal(np.concatenate(list(read_ahead(as_source(rows)))), ROWS)
    assert not rows._in_memory


def test_blocks_of_another_type_than_the_array_states_are_refused() -> None:
    lazy = dask.array.from_array(ROWS, chunks=(500, 6)).map_blocks(
        lambda block: block + 0.5, meta=ROWS[:0]
    )
    with pytest.raises(InputError, match="are float64 where the array states uint16: convert"):
        list(read_ahead(as_source(lazy)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_not_numbers_are_refused_when_read(value: float) -> None:
    rows = np.ones((500, 3), np.float32)
    rows[437, 1] = value
    source = as_source(dask.array.from_array(rows, chunks=(100, 3)))
    with pytest.raises(InputError, match="1 of rows 400 to 500 hold"):
        list(read_ahead(source))


def test_arrays_that_hold_nothing_or_an_unknown_number_are_refused() -> None:
    lazy = dask.array.from_array(ROWS, chunks=(500, 6))
    for rows, message in (
        (ROWS[:0], "holds nothing"),
        (ROWS[:, :0], "holds nothing"),
        (lazy[lazy[:, 0] > 3], "number of rows is unknown"),
    ):
        with pytest.raises(InputError, match=message):
            as_source(rows)


def test_rows_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rows of type"):
        as_source(np.array([["a"]]))
