"""Lazy arrays are read window by window, and give the rows of the same arrays in memory."""

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import xarray
import zarr

from pipeline import extract
from storage import InputError, PatchSpec
from tests.test_pipeline.test_extraction.test_tiled import check

IMAGES = np.random.default_rng(0).integers(1, 255, (6, 20, 24)).astype(np.uint8)
SPEC = PatchSpec(4, 4, 2)


def opened_lazily(folder: Path) -> xarray.DataArray:
    """An array of xarray that is on disk, without Dask, with two axes of images."""
    stacked = IMAGES.reshape(2, 3, 20, 24)
    xarray.Dataset({"a": (("run", "time", "y", "x"), stacked)}).to_zarr(
        folder / "a.zarr", consolidated=False
    )
    return xarray.open_zarr(folder / "a.zarr", chunks=None, consolidated=False)["a"]


KINDS: dict[str, Any] = {
    "dask": lambda _: dask.array.from_array(IMAGES, chunks=(2, 20, 10)),
    "zarr": lambda folder: zarr.create_array(folder / "z", data=IMAGES, chunks=(4, 9, 24)),
    "xarray of dask": lambda _: xarray.DataArray(
        dask.array.from_array(IMAGES.transpose(1, 2, 0), chunks=7), dims=("y", "x", "band_of_time")
    ),
    "xarray on disk": opened_lazily,
    "xarray in memory, two axes of images": lambda _: xarray.DataArray(
        IMAGES.reshape(2, 3, 20, 24), dims=("run", "time", "y", "x")
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_lazy_arrays_give_the_rows_of_those_in_memory(tmp_path: Path, kind: str) -> None:
    store = extract(KINDS[kind](tmp_path), patch=SPEC, out=tmp_path / "runs").store
    check(store, list(IMAGES))
    assert store.path == extract(IMAGES, patch=SPEC, out=tmp_path / "runs").store.path


@pytest.mark.parametrize(
    ("dtype", "keep", "readings"), [("u1", "std>0.1", 2), ("u2", "all", 2), ("u2", "std>0.1", 3)]
)
def test_lazy_arrays_are_computed_chunk_by_chunk_once_to_know_them_and_once_to_write(
    tmp_path: Path, dtype: str, keep: str, readings: int
) -> None:
    """Once more where the rule goes by the range of the pixels, which they tell together."""
    shapes: list[tuple[int, ...]] = []

    def noted(block: np.ndarray) -> np.ndarray:
        shapes.append(block.shape)
        return block

    images = IMAGES.astype(dtype)
    images[1] = 7
    lazy = dask.array.from_array(images, chunks=(2, 20, 24)).map_blocks(noted, dtype=dtype)
    found = extract(lazy, patch=(4, 4), stride=2, keep=keep, out=tmp_path).store
    computed = [shape for shape in shapes if shape != (0, 0, 0)]  # which infers the type
    assert computed == [(2, 20, 24)] * len(computed)
    assert len(computed) <= 3 * readings
    assert found.n_rows == (6 if keep == "all" else 5) * 9 * 11


def test_lazy_arrays_are_refused_on_workers(tmp_path: Path) -> None:
    lazy = dask.array.from_array(IMAGES, chunks=(2, 20, 24))
    with pytest.raises(InputError, match="save them and give the path"):
        extract(lazy, patch=SPEC, out=tmp_path, scheduler="processes:1")
