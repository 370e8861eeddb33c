"""Images written block after block: whole under their name, or not there at all."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

from storage import InputError, write_images
from storage.atomic import ORPHANED_SECONDS
from storage.images import writer as image_writer


def written(path: Path, images: np.ndarray, step: int) -> None:
    with write_images(path, images.shape, "rebuilt", {"k": 7}) as writer:
        for start in range(0, len(images), step):
            writer.write(images[start : start + step])


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(23, 4, 5, 3))


@pytest.mark.parametrize("step", [1, 5, 23])
@pytest.mark.parametrize("chunk_images", [1, 4, 100])
def test_zarr_opens_in_xarray_with_named_axes(
    tmp_path: Path,
    images: np.ndarray,
    step: int,
    chunk_images: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_writer, "CHUNK_BYTES", chunk_images * 4 * 60)
    images[:9] = 0  # chunks of zeros are written too
    written(tmp_path / "out.zarr", images, step)
    found = xarray.open_zarr(tmp_path / "out.zarr")
    assert found["rebuilt"].dims == ("image", "row", "col", "channel")
    assert found.attrs["k"] == 7
    np.testing.assert_array_equal(found["rebuilt"].values, images.astype(np.float32))
    array = zarr.open_array(tmp_path / "out.zarr/rebuilt", mode="r")
    assert array.nchunks_initialized == array.nchunks == -(-23 // min(chunk_images, 23))


def test_what_breaks_off_leaves_nothing(tmp_path: Path, images: np.ndarray) -> None:
    def breaks_off() -> None:
        with write_images(tmp_path / "out.zarr", images.shape, "rebuilt", {}) as writer:
            writer.write(images[:5])
            assert len(list(tmp_path.iterdir())) == 1
            raise KeyError

    with pytest.raises(KeyError):
        breaks_off()
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_overwritten(tmp_path: Path, images: np.ndarray) -> None:
    (tmp_path / "out.zarr").write_bytes(b"mine")
    with pytest.raises(InputError, match="is there already"):
        written(tmp_path / "out.zarr", images, 5)
    (tmp_path / "out.zarr").unlink()

    def overtaken() -> None:
        with write_images(tmp_path / "out.zarr", images.shape, "rebuilt", {}) as writer:
            writer.write(images)
            (tmp_path / "out.zarr").write_bytes(b"mine")

    with pytest.raises(InputError, match="is there already"):
        overtaken()
    assert (tmp_path / "out.zarr").read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.parametrize(
    ("name", "message"), [("out.npy", r"ends in \.zarr"), ("absent/out.zarr", "no folder .*absent")]
)
def test_other_names_and_folders_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        written(tmp_path / name, np.zeros((2, 3, 3)), 1)
    assert list(tmp_path.iterdir()) == []


def test_the_rest_of_a_killed_run_goes(tmp_path: Path, images: np.ndarray) -> None:
    orphan = tmp_path / ".out.zarr.0123abcd.partial"
    orphan.touch()
    past = time.time() - ORPHANED_SECONDS - 60
    os.utime(orphan, (past, past))
    written(tmp_path / "out.zarr", images, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_images_of_several_sizes_are_arrays_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([(4, 5), (70, 3), (4, 5)])
    images = [rng.normal(size=(*size, 3)).astype(np.float32) for size in sizes]
    with write_images(tmp_path / "out.zarr", (3, 70, 5, 3), "rebuilt", {}, sizes) as writer:
        writer.write(images[0][np.newaxis])
        for top in range(0, 70, 32):
            rows = slice(top, min(top + 32, 70))
            writer.write(images[1][np.newaxis, rows], 1, rows)
        writer.write(images[2][np.newaxis])
    opened = xarray.open_zarr(tmp_path / "out.zarr")
    assert sorted(opened) == ["rebuilt_0000000", "rebuilt_0000001", "rebuilt_0000002"]
    for index, image in enumerate(images):
        np.testing.assert_array_equal(opened[f"rebuilt_{index:07d}"].values, image)


def test_large_images_lie_in_squares_each_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_writer, "CHUNK_BYTES", 4 * 8 * 8 + 8)
    images = np.zeros((2, 20, 7), np.float32)
    images[0], images[1] = 1, np.arange(140).reshape(20, 7)
    with write_images(tmp_path / "out.zarr", images.shape, "rebuilt", {}) as writer:
        for index, top in ((0, 0), (0, 8), (0, 16), (1, 0), (1, 16), (1, 8)):
            rows = slice(top, min(top + 8, 20))
            for cols in (slice(0, 4), slice(4, 7)):
                writer.write(images[index : index + 1, rows, cols], index, rows, cols)
    array = zarr.open_array(tmp_path / "out.zarr/rebuilt", mode="r")
    assert array.chunks == (1, 8, 7)
    assert array.nchunks_initialized == array.nchunks == 6
    np.testing.assert_array_equal(array[:], images)


def test_what_is_missing_is_told_of(tmp_path: Path, images: np.ndarray) -> None:
    def broken_off() -> None:
        with write_images(tmp_path / "out.zarr", images.shape, "rebuilt", {}) as writer:
            writer.write(images[:5])

    with pytest.raises(InputError, match="1,380 values of rebuilt were not written"):
        broken_off()
    assert list(tmp_path.iterdir()) == []


def test_parts_that_leave_a_chunk_unfinished_are_refused(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_writer, "CHUNK_BYTES", 4 * 60)

    def out_of_order() -> None:
        with write_images(tmp_path / "out.zarr", images.shape, "rebuilt", {}) as writer:
            writer.write(images[:1, :2], 0, slice(0, 2))
            writer.write(images[1:])

    with pytest.raises(InputError, match="30 values of a chunk of rebuilt are missing"):
        out_of_order()
    assert list(tmp_path.iterdir()) == []
