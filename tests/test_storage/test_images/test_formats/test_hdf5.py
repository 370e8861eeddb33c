"""Arrays in HDF5 and NetCDF files, of versions 3 and 4."""

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray
import zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import netcdf_file

from storage import ImageOptions, InputError, open_images
from storage.images.arrays import array_source
from tests.test_storage.test_images.test_formats.windows import (
    ALL,
    FAULTS,
    QUICK,
    WINDOWS,
    assert_windows,
    bend,
    opened,
    read_or_refuse,
    whole,
)

STACK = np.random.default_rng(1).integers(0, 65536, (7, 20, 33), np.uint16)
MAPS = np.random.default_rng(2).integers(-99, 99, (3, 2, 20, 33), np.int16)  # time, level, lat, lon


@pytest.mark.parametrize("how", [{}, {"chunks": True}, {"compression": "gzip"}], ids=str)
@QUICK
@given(windows=WINDOWS, seed=st.integers(0, 9))
def test_windows_are_those_of_the_whole(
    tmp_path: Path, how: dict[str, Any], windows: Any, seed: int
) -> None:
    path = tmp_path / "a.h5"
    if "chunks" in how:
        rng = np.random.default_rng(seed)
        how = {"chunks": tuple(int(rng.integers(1, side + 1)) for side in STACK.shape)}
    with h5py.File(path, "w") as file:
        file.create_dataset("group/images", data=STACK.astype(">u2"), **how)
    for name in ("", "::group/images", "::/group/images"):
        assert_windows(opened(f"{path}{name}"), list(STACK), windows)


def netcdf(path: Path, form: str, **attributes: Any) -> None:
    dims = ("time", "level", "lat", "lon")
    axes = {"lat": np.arange(20.0), "lon": np.arange(33.0)}
    array = xarray.DataArray(MAPS, dims=dims, coords=axes, attrs=attributes)
    engine = "scipy" if form.startswith("NETCDF3") else "h5netcdf"
    array.to_dataset(name="height").to_netcdf(path, engine=engine, format=form)  # type: ignore[call-overload]


@pytest.mark.parametrize("form", ["NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT"])
@QUICK
@given(windows=WINDOWS)
def test_dimensions_of_netcdf_tell_the_layout(tmp_path: Path, form: str, windows: Any) -> None:
    path = tmp_path / "maps.nc"
    netcdf(path, form)
    images = [MAPS[time, level] for time in range(3) for level in range(2)]
    for name in ("", "::height"):
        assert_windows(opened(f"{path}{name}"), images, windows)


def test_records_of_classic_netcdf_lie_apart(tmp_path: Path) -> None:
    path = tmp_path / "records.nc"
    with netcdf_file(path, "w") as file:
        for name, size in (("time", None), ("y", 20), ("x", 33)):
            file.createDimension(name, size)
        for name in ("first", "second"):
            variable = file.createVariable(name, "h", ("time", "y", "x"))
            for time in range(3):
                variable[time] = MAPS[time, int(name == "second")]
    assert_windows(opened(f"{path}::second"), list(MAPS[:, 1]), [(1, slice(3, 5), slice(1, 9))])
    with pytest.raises(InputError, match=r"2 arrays of images: name one, .* in it: first, second"):
        opened(path)


@pytest.mark.parametrize("form", ["NETCDF4", "NETCDF3_CLASSIC", "zarr"])
def test_pixels_of_a_stated_fill_value_need_nodata(tmp_path: Path, form: str) -> None:
    if form == "zarr":
        path = tmp_path / "a.zarr"
        named = ("time", "level", "lat", "lon")
        array = zarr.create_array(str(path), data=MAPS, dimension_names=named)
        array.attrs["missing_value"] = -9
    else:
        path = tmp_path / "a.nc"
        netcdf(path, form, missing_value=np.int16(-9))
    with pytest.raises(InputError, match=r"give nodata=-9 to leave their patches out"):
        whole(opened(path))
    assert len(whole(opened(path, ImageOptions(nodata=-9)))) == 6


def test_bands_may_hold_a_level_that_is_no_data_where_all_hold_it(tmp_path: Path) -> None:
    path = str(tmp_path / "a.zarr")
    pixels = np.full((3, 4, 6), 5, np.uint16)
    array = zarr.create_array(
        path, data=pixels, chunks=(1, 4, 6), dimension_names=("band", "y", "x")
    )
    array.attrs["_FillValue"] = 0
    array[:2, 1, 1] = 0  # of three bands, each a chunk
    in_memory = xarray.DataArray(array[:], dims=("band", "y", "x"), attrs={"_FillValue": 0})
    np.testing.assert_array_equal(whole(opened(path))[0], array[:].transpose(1, 2, 0))
    np.testing.assert_array_equal(array_source(in_memory).read(slice(1))[0], whole(opened(path))[0])
    array[2, 1, 1], in_memory[2, 1, 1] = 0, 0
    for read in (lambda: whole(opened(path)), lambda: array_source(in_memory)):
        with pytest.raises(InputError, match="give nodata=0 to leave their patches out"):
            read()
    signed = xarray.DataArray(pixels.astype(np.int16), dims=("band", "y", "x"))
    signed[0, 1, 1], signed.attrs["missing_value"] = -9999, -9999  # which no colour is
    with pytest.raises(InputError, match="give nodata=-9999 to"):
        array_source(signed)


@pytest.mark.parametrize("said", ["true", b"True", np.array(["true"]), np.array([b"TRUE"])])
@pytest.mark.parametrize("kind", ["memory", "dask", "list", "zarr"])
def test_a_sign_is_read_however_it_is_stated(tmp_path: Path, said: Any, kind: str) -> None:
    notes = {"_Unsigned": said, "_FillValue": np.nan}
    images = xarray.DataArray(STACK.view(np.int16), dims=("n", "y", "x"), attrs=notes)
    given: Any = images
    if kind == "dask":
        given = images.chunk()
    elif kind == "list":
        given = list(images)
    elif kind == "zarr":
        given = zarr.create_array(str(tmp_path / "a.zarr"), data=images.data)
        text = np.ravel(said)[0]
        text = text.decode() if isinstance(text, bytes) else str(text)
        given.attrs.update({"_Unsigned": [text] if np.ndim(said) else text})
    source = array_source(given)
    assert source.dtype == np.uint16
    np.testing.assert_array_equal(source.read(slice(None)), STACK)


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF4", "zarr", "h5py"])
def test_integers_have_the_sign_that_is_stated(tmp_path: Path, form: str) -> None:
    path, signed = tmp_path / "a.nc", STACK.view(np.int16)
    notes = {"_Unsigned": "true", "_FillValue": signed[0, 0, 0]}  # NetCDF 3 has signed ones alone
    fill = int(STACK[0, 0, 0])
    if form == "zarr":
        path = tmp_path / "a.zarr"
        zarr.create_array(str(path), data=signed).attrs.update(
            {name: value.item() if name == "_FillValue" else value for name, value in notes.items()}
        )
    elif form == "h5py":
        with h5py.File(path, "w") as file:
            file["a"] = signed.astype(">i2")
            file["a"].attrs.update(notes | {"_Unsigned": np.bytes_("TRUE"), "_FillValue": fill})
    else:
        array = xarray.DataArray(signed, dims=("n", "y", "x"), attrs=notes)
        engine = "scipy" if form == "NETCDF3_CLASSIC" else "h5netcdf"
        array.to_dataset(name="a").to_netcdf(path, engine=engine, format=form)  # type: ignore[call-overload]
    assert_windows(opened(path, ImageOptions(nodata=fill)), list(STACK), [])
    with pytest.raises(InputError, match=f"give nodata={fill:g} to"):
        whole(opened(path))


@pytest.mark.parametrize("form", ["NETCDF4", "NETCDF3_CLASSIC", "zarr"])
def test_packed_numbers_are_taken_as_they_are_stored_and_it_is_said(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    for notes in ({"scale_factor": 1.0, "add_offset": 0.0}, {"scale_factor": 0.5}):
        path = tmp_path / f"{len(notes)}{'.zarr' if form == 'zarr' else '.nc'}"
        if form == "zarr":
            zarr.create_array(str(path), data=MAPS[:, 0]).attrs.update(notes)
        else:
            netcdf(path, form, **notes)
        for _ in range(2):
            np.testing.assert_array_equal(whole(opened(path))[0], MAPS[0, 0])
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == len(notes) % 2, told
    assert "taken as they are stored; scale_factor and add_offset, by which" in told[0]


def test_unsigned_bytes_are_signed_where_they_say_so(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = STACK.astype(np.uint8)
        file["a"].attrs["_Unsigned"] = "false"
        assert_windows(opened(path), list(STACK.astype(np.uint8).view(np.int8)), [])
        lazy = array_source(file["a"])
        np.testing.assert_array_equal(
            lazy.read(slice(2))[1], STACK[1].astype(np.uint8).view(np.int8)
        )


def test_a_virtual_dataset_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    path, part = tmp_path / "a.h5", tmp_path / "part.h5"
    layout = h5py.VirtualLayout(STACK.shape, STACK.dtype)
    with h5py.File(part, "w") as file:
        file["images"] = STACK
    layout[:] = h5py.VirtualSource("part.h5", "images", STACK.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("images", layout)
    assert_windows(opened(path), list(STACK), [])
    part.rename(tmp_path / "moved.h5")
    with pytest.raises(InputError, match=r"a\.h5 is put together .* part\.h5 is not there"):
        opened(path)


def test_parts_of_a_virtual_dataset_are_looked_for_where_hdf5_does(tmp_path: Path) -> None:
    """Beside the file, whatever folder is stated, and beside what a link to it leads to."""
    folder = tmp_path / "moved"
    folder.mkdir()
    with h5py.File(folder / "part.h5", "w") as file:
        file["images"] = STACK
    for stated in ("/nowhere/part.h5", "part.h5"):
        layout = h5py.VirtualLayout(STACK.shape, STACK.dtype)
        layout[:] = h5py.VirtualSource(stated, "images", STACK.shape)
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_virtual_dataset("images", layout)
        assert_windows(opened(folder / "a.h5"), list(STACK), [])
    (tmp_path / "link.h5").symlink_to(folder / "a.h5")
    assert_windows(opened(tmp_path / "link.h5"), list(STACK), [])


def test_one_array_of_images_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["images"], file["labels"] = STACK, np.arange(7)
        file["bounds"], file["wide"] = np.zeros((7, 2)), np.zeros((7, 20, 33), np.int64)
        file["text"], file["empty"] = "text", h5py.Empty("f4")
    assert_windows(opened(path), list(STACK), [])
    assert open_images(str(path)).name == "a"
    for name, message in (
        ("wide", "holds int64 where pixels of type"),
        ("text", "has the shape"),
        ("labels", "has the shape"),
        ("absent", "no array 'absent' in .*; in it: bounds, images, labels, text, wide"),
    ):
        with pytest.raises(InputError, match=message):
            open_images(f"{path}::{name}")
    with h5py.File(path, "a") as file:
        file["more"] = STACK.transpose(1, 2, 0)
    with pytest.raises(InputError, match="2 arrays of images: name one"):
        opened(path)
    assert_windows(opened(f"{path}::more", ImageOptions("HWN")), list(STACK), [])
    with pytest.raises(InputError, match="not of layout HW"):
        opened(f"{path}::more", ImageOptions("HW"))


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'patchdict\[hdf5\]'"):
        opened(tmp_path / "a.h5")


@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC"])
@QUICK
@given(faults=FAULTS)
def test_damaged_files_are_read_or_refused(tmp_path: Path, kind: str, faults: Any) -> None:
    path = tmp_path / "a.nc"
    netcdf(path, kind)
    path.write_bytes(bend(path.read_bytes(), faults))
    read_or_refuse(lambda: whole(opened(path)))


@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC"])
def test_a_cut_file_is_never_taken_for_a_whole_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.nc"
    netcdf(path, kind)
    content = path.read_bytes()
    for length in range(0, len(content) - 8, 499):
        path.write_bytes(content[:length])
        assert read_or_refuse(lambda: whole(opened(path))) is None, length


def test_files_that_vanish_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data set .*absent\.h5"):
        opened(tmp_path / "absent.h5::x")
    netcdf(tmp_path / "a.nc", "NETCDF4")
    reader = opened(tmp_path / "a.nc")
    (tmp_path / "a.nc").unlink()
    assert reader.read(0, ALL, ALL).shape == (20, 33)  # it is open


@pytest.mark.parametrize("chunks", [None, (2, 20, 30)])
def test_a_dataset_of_h5py_is_read_lazily(tmp_path: Path, chunks: tuple[int, ...] | None) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", data=STACK, chunks=chunks)
        np.testing.assert_array_equal(array_source(dataset).read(slice(7)), STACK)
        for dim, name in zip(dataset.dims, ("y", "image", "x"), strict=True):
            dim.label = name
        named = array_source(dataset)
        np.testing.assert_array_equal(named.read(slice(20)), STACK.transpose(1, 0, 2))
