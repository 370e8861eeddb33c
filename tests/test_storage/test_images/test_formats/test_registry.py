"""Which reader takes which path, and what is said of those that none takes."""

import os
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage import ImageOptions, InputError, open_images
from storage.images.formats import registry
from storage.images.formats.registry import open_path, split_name, stem_of
from storage.images.options import UNSTATED
from tests.idx_files import write_idx

GREY = np.random.default_rng(0).integers(0, 256, (9, 8), np.uint8)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.h5::x/y", ("a.h5", "x/y")),
        ("a.npy", ("a.npy", None)),
        ("https://host/a.zarr::0", ("https://host/a.zarr", "0")),
        ("simplecache::s3://bucket/a.zarr", ("simplecache::s3://bucket/a.zarr", None)),
        ("simplecache::s3://bucket/a.zarr::0", ("simplecache::s3://bucket/a.zarr", "0")),
    ],
)
def test_names_follow_two_colons(text: str, parts: tuple[str, str | None]) -> None:
    assert split_name(text) == parts


def test_a_file_with_colons_in_its_name_is_that_file(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a::b.png")
    assert open_images(f"{tmp_path}/a::b.png").name == "a_b"


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        ("x/cells.ome.zarr::labels/0", "cells"),
        ("https://host/x/a.zarr", "a"),
        ("photos/**/*.png", "photos"),
        ("photos/", "photos"),
        ("*.png", ""),
    ],
)
def test_sources_are_called_as_what_they_come_from(text: str, stem: str) -> None:
    assert stem_of(text) == stem


@pytest.mark.parametrize("name", ["image", "image.dat", "image.PNG", "image.jpg"])
def test_the_first_bytes_tell_where_the_suffix_does_not(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY).save(tmp_path / name, "PNG")
    np.testing.assert_array_equal(open_images(str(tmp_path / name)).read(slice(1))[0], GREY)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"1,2", r"starts with 31 2c 32: give an IDX, \.npy"),
        ("x", b"", r"starts with nothing: give an IDX"),
        ("x.gif", b"GIF89a", r"x\.gif is a GIF image, .*: convert it to PNG or TIFF"),
        ("x.HEIC", b"\0\0\0\x18ftypheic", "is a HEIC image, which is not read: convert it"),
        ("x.npy", b"", r"is not a whole \.npy"),
        ("x.png::a", b"", r"holds no arrays that have names: leave out ::a"),
        ("absent*.png", None, "no images in"),
        ("absent", None, r"no data set .* use digits, .* \.npy, .* \(No such file"),
    ],
)
def test_what_none_takes_is_refused_with_what_is_taken(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name.split("::")[0]).write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_path(f"{tmp_path}/{name}", UNSTATED)


def test_images_have_no_layout_to_be_stated(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", tmp_path):
        with pytest.raises(InputError, match="leave out layout"):
            open_path(str(path), ImageOptions("HW"))


def test_idx_files_of_any_name_are_read(tmp_path: Path) -> None:
    for name in ("a", "a.bin", "b.gz"):
        path = write_idx(tmp_path / name, GREY[None])
        np.testing.assert_array_equal(open_path(str(path), UNSTATED), GREY[None])


def plugged(path: str, name: str | None, options: ImageOptions) -> np.ndarray:
    return np.full((2, 5, 5), len(name or "ab"), np.uint8)


def broken(path: str, name: str | None, options: ImageOptions) -> Any:
    return os.path.getsize(path) / 0


def other(path: str, name: str | None, options: ImageOptions) -> Any:
    return path


def test_entry_points_add_kinds_and_broken_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [
        EntryPoint(name, f"{module}:{name}", registry.GROUP)
        for name, module in (
            ("plugged", __name__),
            ("broken", __name__),
            ("other", __name__),
            ("absent", "no_such_module"),
        )
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    for point in points:
        (tmp_path / f"x.{point.name}").write_bytes(b"abc")
    assert open_images(f"{tmp_path}/x.plugged").image_shape == (5, 5)
    found = open_path(f"{tmp_path}/x.plugged::abcd", UNSTATED)
    assert isinstance(found, np.ndarray)
    assert (found == 4).all()
    for name, reason in (
        ("broken", "ZeroDivisionError"),
        ("other", "it gave a str, which is no ImageReader"),
        ("absent", "No module named 'no_such_module'"),
    ):
        with pytest.raises(InputError, match=rf"^the source {name} \(.*{reason}"):
            open_path(f"{tmp_path}/x.{name}", UNSTATED)
