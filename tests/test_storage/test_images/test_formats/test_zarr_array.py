"""Arrays of zarr of both formats, in groups, as OME-Zarr, and damaged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from storage import ImageOptions, InputError, open_images
from storage.errors import RemoteError
from storage.images.formats.pieces import ChunkedReader, PieceCache
from storage.places import client
from tests.damage import flip_bit
from tests.test_storage.test_images.test_formats.windows import (
    ALL,
    QUICK,
    WINDOWS,
    assert_windows,
    opened,
    read_or_refuse,
    whole,
)

STACK = np.random.default_rng(1).integers(0, 65536, (7, 20, 33), np.uint16)
COLOUR = np.random.default_rng(2).integers(0, 256, (5, 20, 33, 3), np.uint8)
FIVE = np.random.default_rng(3).integers(0, 256, (2, 3, 4, 20, 33), np.uint8)  # t, c, z, y, x


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("images", [STACK, COLOUR], ids=["grey", "colour"])
@QUICK
@given(windows=WINDOWS, seed=st.integers(0, 9))
def test_windows_are_those_of_the_whole(
    tmp_path: Path, form: Any, images: np.ndarray, windows: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    chunks = tuple(int(rng.integers(1, side + 1)) for side in images.shape)
    path = tmp_path / "stack.zarr"
    zarr.create_array(str(path), data=images, chunks=chunks, zarr_format=form, overwrite=True)
    reader = opened(path)
    assert reader.piece == chunks[1:3]
    assert_windows(reader, list(images), windows)


def test_shards_and_big_endian_are_read(tmp_path: Path) -> None:
    path = str(tmp_path / "a.zarr")
    zarr.create_array(path, data=STACK.astype(">u2"), chunks=(1, 5, 11), shards=(7, 10, 33))
    assert opened(path).piece == (5, 11)
    assert_windows(opened(path), list(STACK), [(2, slice(4, 9), slice(3, 30))])


def test_only_the_chunks_of_a_window_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), data=STACK, chunks=(1, 10, 11))
    for chunk in (path / "c").rglob("*"):
        if chunk.is_file() and chunk.relative_to(path / "c").parts != ("3", "1", "2"):
            chunk.write_bytes(b"damaged")
    reader = opened(path)
    window = slice(10, 20), slice(22, 33)
    np.testing.assert_array_equal(reader.read(3, *window), STACK[3][window])
    with pytest.raises(InputError, match=r"a\.zarr is damaged, .* in its piece at \(3, 0, 22\)"):
        reader.read(3, slice(9, 20), slice(22, 33))


def test_images_that_are_picked_together_unpack_a_chunk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4000, 8, 9), np.uint8)
    zarr.create_array(str(tmp_path / "a.zarr"), data=images, chunks=(100, 8, 9))
    source = open_images(f"{tmp_path}/a.zarr")
    monkeypatch.setattr(source.reader, "_cache", PieceCache(2 * 100 * 72))
    unpacked, real = list[object](), ChunkedReader._chunk
    monkeypatch.setattr(
        ChunkedReader, "_chunk", lambda self, at: unpacked.append(at) or real(self, at)
    )
    picked = np.random.default_rng(1).permutation(4000)[:1000]
    np.testing.assert_array_equal(source.read(picked), images[picked])
    assert len(unpacked) == 40


def test_a_missing_chunk_is_the_fill_value(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), data=STACK, chunks=(1, 20, 33), fill_value=9)
    (path / "c" / "2" / "0" / "0").unlink()
    assert (opened(path).read(2, ALL, ALL) == 9).all()


@pytest.mark.parametrize("form", [2, 3])
def test_ome_zarr_names_its_axes_and_levels(tmp_path: Path, form: Any) -> None:
    path = tmp_path / "cells.ome.zarr"
    group = zarr.create_group(str(path), zarr_format=form)
    group.create_array("s0", data=FIVE, chunks=(1, 2, 3, 7, 9))
    group.create_array("s1", data=FIVE[..., ::2, ::2], chunks=(1, 1, 1, 5, 5))
    scales = {
        "axes": [{"name": name} for name in "tczyx"],
        "datasets": [{"path": "s0"}, {"path": "s1"}],
    }
    group.attrs.update(
        {"multiscales": [scales]} if form == 2 else {"ome": {"multiscales": [scales]}}
    )
    labels = group.create_group("labels/nuclei")
    labels.create_array("0", data=FIVE[0, 0, 0])
    labels.attrs["multiscales"] = [{"axes": ["y", "x"], "datasets": [{"path": "0"}]}]
    images = [np.moveaxis(FIVE[t, :, z], 0, 2) for t in range(2) for z in range(4)]
    assert_windows(opened(path), images, [(5, slice(6, 8), slice(8, 19))])
    assert_windows(opened(f"{path}::labels/nuclei"), [FIVE[0, 0, 0]], [])
    assert_windows(opened(f"{path}::labels/nuclei/0"), [FIVE[0, 0, 0]], [])
    assert_windows(opened(f"{path}::s0"), images, [])
    group.create_array("beside", data=FIVE)
    with pytest.raises(InputError, match=r"has the shape .* where .images, rows, columns. or"):
        opened(f"{path}::beside")  # nothing says what its axes are
    with pytest.raises(InputError, match=r"no 'absent' in .*; in it: beside, labels, s0, s1"):
        opened(f"{path}::absent")


@pytest.mark.parametrize(
    "scales",
    [None, 5, {}, [None], [{}], [{"datasets": None}], [{"datasets": [{}]}, {"datasets": ["s0"]}]],
    ids=str,
)
@pytest.mark.parametrize("form", ["0.4", "0.5"])
def test_levels_that_are_not_as_ome_has_them_hide_no_array(
    tmp_path: Path, scales: Any, form: str
) -> None:
    path = str(tmp_path / "a.zarr")
    group = zarr.create_group(path)
    group.create_array("s0", data=STACK)
    group.attrs.update({"multiscales": scales} if form == "0.4" else {"ome": scales})
    for named in (path, f"{path}::s0"):
        assert_windows(opened(named), list(STACK), [])
    for axes in (None, 5):
        group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "s0"}]}]
        assert_windows(opened(f"{path}::s0"), list(STACK), [])


@pytest.mark.parametrize("form", [2, 3])
def test_names_of_axes_tell_the_layout(tmp_path: Path, form: Any) -> None:
    path, names = str(tmp_path / "a.zarr"), ("band", "time", "y", "x")
    options: dict[str, Any] = {"dimension_names": names} if form == 3 else {}
    array = zarr.create_array(path, data=FIVE[0], zarr_format=form, **options)
    if form == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = list(names)
    assert_windows(opened(path), list(FIVE[0].transpose(1, 2, 3, 0)), [])


def test_layouts_are_those_that_are_stated_or_usual(tmp_path: Path) -> None:
    path = str(tmp_path / "a.zarr")
    zarr.create_array(path, data=COLOUR.transpose(0, 3, 1, 2))
    with pytest.raises(InputError, match=r"a\.zarr has the shape .* looks like NCHW: use layout="):
        opened(path)
    assert_windows(opened(path, ImageOptions("NCHW")), list(COLOUR), [])
    with pytest.raises(InputError, match="a letter for each of its 4 axes"):
        opened(path, ImageOptions("NHW"))


def test_groups_need_a_name_where_they_hold_several_arrays(tmp_path: Path) -> None:
    path = str(tmp_path / "g.zarr")
    group = zarr.create_group(path)
    group.create_array("a", data=STACK)
    assert_windows(opened(path), list(STACK), [])
    group.create_array("b", data=STACK)
    with pytest.raises(InputError, match=r"2 arrays: name one, as in .*::NAME; in it: a, b"):
        opened(path)
    assert_windows(opened(f"{path}::b"), list(STACK), [])
    with pytest.raises(InputError, match="is one array: leave out ::x"):
        opened(f"{path}/a::x")


def test_damage_is_refused_or_the_pixels_are_others(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), data=STACK[:1, :8, :8], chunks=(1, 8, 8))
    for file in [file for file in path.rglob("*") if file.is_file()]:
        stored = file.read_bytes()
        for bit in range(0, 8 * len(stored), 13):
            flip_bit(file, bit)
            read_or_refuse(lambda: whole(opened(path)))
            flip_bit(file, bit)
        for length in range(len(stored)):
            file.write_bytes(stored[:length])
            assert read_or_refuse(lambda: whole(opened(path))) is None, (file, length)
        file.write_bytes(stored)


def test_urls_are_opened_as_zarr_can(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), data=STACK)
    assert_windows(opened(f"file://{tmp_path}/a.zarr"), list(STACK), [])
    assert read_or_refuse(lambda: opened("gopher://host/a.zarr")) is None


def test_a_server_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore", reason="no obstore: pip install 'patchdict[remote]'")
    client.connected.cache_clear()
    monkeypatch.setitem(client._RETRIES, "max_retries", 0)
    with pytest.raises(RemoteError, match="check the connection"):
        opened("http://127.0.0.1:1/a.zarr")
    client.connected.cache_clear()
