"""Folders and globs of images: their order, kinds, classes, damage, and what is left out."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from storage import ImageOptions, InputError
from storage.images.formats import folder
from storage.images.formats.folder import (
    FolderReader,
    natural_order,
    open_file,
    open_folder,
    open_glob,
)
from tests.test_storage.test_images.test_formats.windows import (
    ALL,
    QUICK,
    WINDOWS,
    assert_windows,
    whole,
)

SIZES = ((12, 9), (3, 30), (17, 17), (12, 9), (1, 1))
IMAGES = [np.random.default_rng(4).integers(0, 256, size, np.uint8) for size in SIZES]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of several sizes in a folder of folders, among other things."""
    root = tmp_path / "photos"
    names = ("a/1.png", "a/2.bmp", "a/10.png", "b/0.png", "c/d/x.PNG")
    for name, image in zip(names, IMAGES, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / name)
    (root / "a" / "notes.txt").write_text("no image")
    (root / "a" / ".1.png").write_text("hidden")
    for hidden in (".git/2.png", "@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/._1.png"):
        (root / hidden).parent.mkdir(parents=True)
        (root / hidden).write_text("hidden")
    os.symlink(root, root / "b" / "round")
    return root


@QUICK
@given(windows=WINDOWS)
def test_windows_are_those_of_the_whole(
    photos: Path, windows: list[tuple[int, slice, slice]]
) -> None:
    assert_windows(open_folder(str(photos)), IMAGES, windows)


def test_images_are_named_in_natural_order_with_their_classes(photos: Path) -> None:
    reader = open_folder(str(photos))
    found = [reader.name(index) for index in range(5)]
    assert found == ["a/1.png", "a/2.bmp", "a/10.png", "b/0.png", "c/d/x.PNG"]
    assert reader.skipped == 5
    assert reader.classes == ("a", "b", "c/d")
    assert reader.labels is not None
    assert reader.labels.tolist() == [0, 0, 0, 1, 2]
    Image.fromarray(IMAGES[0]).save(photos / "alone.png")
    for reader in (open_folder(str(photos)), open_file(str(photos / "a" / "1.png"))):
        assert (reader.classes, reader.labels) == ((), None)


@given(st.lists(st.integers(0, 10**12), unique=True))
def test_numbers_in_names_count_as_numbers(numbers: list[int]) -> None:
    names = sorted((f"x{number}.png" for number in numbers), key=natural_order)
    assert names == [f"x{number}.png" for number in sorted(numbers)]


def test_globs_take_what_matches(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = open_glob(f"{photos}/a/*")
    assert [reader.name(index) for index in range(3)] == ["1.png", "2.bmp", "10.png"]
    assert reader.skipped == 1
    assert len(open_glob(f"{photos}/[ac]/**/*.[pP]*").sizes) == 3
    monkeypatch.chdir(photos / "a")
    np.testing.assert_array_equal(open_glob("?.png").read(0, ALL, ALL), IMAGES[0])


def test_large_images_are_kept_for_the_next_window(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, decoded = open_folder(str(photos)), list[str]()
    real = folder.decode

    def decode(path: str, options: ImageOptions) -> np.ndarray:
        decoded.append(path)
        time.sleep(0.01)
        return real(path, options)

    monkeypatch.setattr(folder, "decode", decode)
    with ThreadPoolExecutor(8) as pool:  # those who want the same wait for it
        list(pool.map(lambda row: reader.read(0, slice(row, row + 2), ALL), range(10)))
    assert len(decoded) == 1
    kept = sum(piece.nbytes for piece in reader._cache._pieces.values())
    assert 0 < kept <= reader.resident_bytes


@pytest.mark.parametrize("odd", [IMAGES[0].astype(np.uint16), np.dstack([IMAGES[0]] * 3)])
def test_images_of_several_kinds_are_refused_with_the_first_odd_one(
    photos: Path, odd: np.ndarray
) -> None:
    Image.fromarray(odd).save(photos / "b" / "5.png")
    Image.fromarray(odd).save(photos / "b" / "odd.png")
    with pytest.raises(InputError, match=r"uint8, grey, but 2 of 7 not, the first b/5.png \(uint"):
        open_folder(str(photos))


@pytest.mark.parametrize("left", [0, 20, 150])
def test_one_damaged_image_is_refused_with_its_name_or_left_out(photos: Path, left: int) -> None:
    path = photos / "b" / "bad.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(InputError, match=r"b/bad\.png is not a whole image"):
        whole(open_folder(str(photos)))
    reader = open_folder(str(photos), ImageOptions(on_error="skip"))
    assert reader.unreadable == ["b/bad.png"]
    assert_windows(reader, IMAGES, [])


def _other_pixels(path: Path) -> None:
    Image.fromarray(IMAGES[0] ^ 255).save(path)
    os.utime(path, (5, 5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, r"a/1\.png: No such file"),
        (lambda path: Image.fromarray(IMAGES[1]).save(path), r"a/1\.png changed"),
        (lambda path: path.write_bytes(b""), r"a/1\.png is not a whole image"),
        (_other_pixels, r"a/1\.png changed"),
    ],
)
def test_files_that_change_or_vanish_are_named(photos: Path, change: object, message: str) -> None:
    reader = open_folder(str(photos))
    assert callable(change)
    change(photos / "a" / "1.png")
    with pytest.raises(InputError, match=message):
        reader.read(0, ALL, ALL)


def test_a_pattern_passes_over_thumbnails_that_it_does_not_name(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/@eaDir/1.png/THUMB.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / name)
    found = open_glob(f"{tmp_path}/**/*.png"), open_folder(str(tmp_path))
    assert [reader.name(len(reader.sizes) - 1) for reader in found] == ["a/1.png"] * 2
    named = open_glob(f"{tmp_path}/a/@eaDir/*/*.png")
    assert [named.name(0), len(named.sizes)] == ["1.png/THUMB.png", 1]


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(
        InputError, match=r"no images in .* \(1 other files\): .*, convert others to"
    ):
        open_folder(str(tmp_path))
    with pytest.raises(InputError, match=r"no images in .*\*\.png"):
        open_glob(f"{tmp_path}/*.png")


def test_a_pipe_with_the_name_of_an_image_is_not_waited_for(photos: Path) -> None:
    os.mkfifo(photos / "a" / "3.png")
    reader = open_folder(str(photos))
    assert isinstance(reader, FolderReader)
    assert (len(reader.sizes), reader.skipped) == (5, 6)
