"""Kinds of arrays that rows come in, as the estimator takes them."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import torch
import xarray
import zarr
from sklearn.base import clone

from pipeline import StreamingKMeans
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


def test_what_leads_to_arrays_is_no_array(rows: np.ndarray, tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "group.zarr")
    group.create_array("0", data=rows[:10])
    for given, message in (
        ("rows.zarr", "'rows.zarr' is a path: open it first"),
        (tmp_path, "is a path"),
        (group, "a Group holds arrays: give one of them \\('0'\\)"),
        (xarray.Dataset({"a": (("n", "d"), rows[:10])}), "a Dataset holds arrays: .*'a'"),
    ):
        with pytest.raises(InputError, match=message):
            StreamingKMeans(2).fit(given)
