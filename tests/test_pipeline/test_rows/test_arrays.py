"""Kinds of arrays that rows come in, as the estimator takes them."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import dask.array
import h5py
import numpy as np
import pytest
import torch
import xarray
import zarr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from pipeline import StreamingKMeans
from pipeline.rows.source import ArraySource
from storage import InputError


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """400 rows of bytes in four groups, (400, 9)."""
    rng = np.random.default_rng(3)
    return (60 * rng.integers(0, 4, (400, 1)) + rng.integers(0, 20, (400, 9))).astype(np.uint8)


@pytest.mark.parametrize("method", ["fit", "predict", "transform", "score", "partial_fit"])
def test_patches_keep_their_axes_in_every_kind_of_array(rows: np.ndarray, method: str) -> None:
    flat = rows
    patches = flat.reshape(-1, 3, 3)
    learnt = StreamingKMeans(4, max_iter=3, random_state=0).fit(flat)

    def answer(given: Any) -> Any:
        km = deepcopy(learnt) if method not in ("fit", "partial_fit") else clone(learnt)
        found = getattr(km, method)(given)
        return found.cluster_centers_ if found is km else found

    kinds = [
        patches,
        patches.tolist(),
        dask.array.from_array(patches, chunks=(150, 2, 3)),
        zarr.array(patches, chunks=(150, 3, 3)),
        xarray.DataArray(patches, dims=("patch", "row", "column")),
        torch.from_numpy(patches.copy()),
    ]
    for given in kinds:
        np.testing.assert_allclose(answer(given), answer(flat), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.bfloat16, torch.float16])
def test_tensors_are_taken_like_arrays(rows: np.ndarray, dtype: torch.dtype) -> None:
    tensor = torch.from_numpy(rows // 2).to(dtype)
    if dtype == torch.float64:
        tensor = tensor.requires_grad_()
    strided = tensor.T.contiguous().T
    of_numpy = StreamingKMeans(4, random_state=0).fit(tensor.detach().double().numpy())
    km = StreamingKMeans(4, random_state=0).fit(strided)
    np.testing.assert_array_equal(km.labels_, of_numpy.labels_)


def test_masked_rows_are_refused(rows: np.ndarray) -> None:
    masked = np.ma.array(rows, mask=False)
    StreamingKMeans(4, max_iter=2).fit(masked)  # none is
    masked[[3, 7, 350]] = np.ma.masked
    lazy = dask.array.from_array(masked, chunks=(400, 9))
    for given in (masked, lazy, xarray.DataArray(lazy)):  # xarray makes NaN of them
        with pytest.raises(InputError, match=r"3 of rows 0 to 400 h(ave masked|old .* NaN)"):
            StreamingKMeans(4, max_iter=2).fit(given)


METHODS = ["fit", "partial_fit", "fit_predict", "predict", "transform", "score"]


@pytest.mark.parametrize("engine", ["pruned", "torch"])
@pytest.mark.parametrize("method", METHODS)
def test_rows_that_hold_what_they_state_as_no_data_are_refused(
    rows: np.ndarray, method: str, engine: str
) -> None:
    signed = rows.reshape(-1, 3, 3).astype(np.int16)
    learnt = StreamingKMeans(4, engine=engine, max_iter=2, random_state=0).fit(signed)
    signed[[3, 7, 350], 1] = -9999
    named = xarray.DataArray(signed, dims=("patch", "row", "column"))
    for given in (
        named.assign_attrs(_FillValue=np.int16(-9999)),
        named.chunk(patch=400).assign_attrs(missing_value=[-1, "-9999"]),
        named.assign_coords(columns=("patch", range(400))).assign_attrs(_FillValue=-9999.0),
        xarray.Dataset({"a": named.assign_attrs(missing_value=-9999)}).chunk(patch=500)["a"],
    ):
        encoded = given.copy()
        encoded.attrs, encoded.encoding = {}, given.attrs
        for each in (given, encoded):
            with pytest.raises(
                InputError, match=r"^3 of rows 0 to 400 hold -9999(\.0)?, .*\)\]$"
            ) as e:
                getattr(deepcopy(learnt), method)(each)
            kept = eval(str(e.value).rpartition("others, ")[2], {"X": each})  # the remedy
            assert len(kept) == 397
            getattr(deepcopy(learnt), method)(kept)


def test_a_stream_whose_first_rows_are_refused_has_not_begun(
    rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 9 * 100)
    held = rows.copy()
    held[-1] = 255
    model = StreamingKMeans(4, batch_size=50, random_state=0)
    with pytest.raises(InputError, match=r"1 of rows .* to 400 hold 255"):
        model.partial_fit(xarray.DataArray(held, attrs={"_FillValue": 255}))
    with pytest.raises(NotFittedError):
        model.predict(rows)
    model.partial_fit(rows)
    assert (model.counts_.sum(), model.n_iter_) == (400, 1)


def test_what_is_stated_as_no_data_is_looked_for_in_the_units_of_the_rows(tmp_path: Path) -> None:
    packed = np.arange(1, 61, dtype=np.uint8).reshape(20, 3)
    attributes = {"_FillValue": np.uint8(60), "scale_factor": 0.5, "add_offset": 55.0}
    xarray.Dataset({"a": (("n", "d"), packed, attributes)}).to_netcdf(tmp_path / "a.nc")
    decoded, raw = (xarray.open_dataset(tmp_path / "a.nc", mask_and_scale=x) for x in (True, False))
    assert (decoded["a"] == 60).any()  # of 10, which is data
    StreamingKMeans(2, max_iter=2).fit(decoded["a"][:-1])
    with pytest.raises(InputError, match=r"1 of .* NaN: remove these rows or fill the values"):
        StreamingKMeans(2, max_iter=2).fit(decoded["a"])
    with pytest.raises(InputError, match="1 of rows 0 to 20 hold 60, which _FillValue states"):
        StreamingKMeans(2, max_iter=2).fit(raw["a"])
    with h5py.File(tmp_path / "a.nc") as file, pytest.raises(InputError, match=r"1 .* hold 60, wh"):
        StreamingKMeans(2, max_iter=2).fit(file["a"])
    decoded.close()
    raw.close()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("f4", 1e20), (">f4", 9.969209968386869e36), ("f8", -1e300), ("i8", 2**63 - 1), ("u1", 255)],
)
def test_no_data_are_found_in_rows_of_any_type(dtype: str, value: float) -> None:
    held = np.ones((9, 2), dtype)
    held[4, 1] = value
    for stated in (value, np.array(value), np.array([value], dtype), [0, value]):
        given = xarray.DataArray(held, attrs={"_FillValue": stated})
        with pytest.raises(InputError, match=r"1 of rows 0 to 9 hold .*, which _FillValue states"):
            ArraySource(given).read_block(0)
    for stated in (300, -1, 1e300, np.nan, "none", None):
        ArraySource(xarray.DataArray(held, attrs={"_FillValue": stated})).read_block(0)


def test_what_leads_to_arrays_is_no_array(rows: np.ndarray, tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "group.zarr")
    group.create_array("0", data=rows[:10])
    for given, message in (
        ("rows.zarr", "'rows.zarr' is a path: open it first"),
        ("cat.png", r"extract\(…\).store cuts patches of images"),
        (tmp_path, "is a path"),
        (group, "a Group holds arrays: give one of them \\('0'\\)"),
        (xarray.Dataset({"a": (("n", "d"), rows[:10])}), "a Dataset holds arrays: .*'a'"),
    ):
        with pytest.raises(InputError, match=message):
            StreamingKMeans(2).fit(given)
