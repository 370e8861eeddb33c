"""TIFF of several pages, tiles, planes and types, through tifffile and without it."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from PIL import Image

from storage import ImageOptions, InputError
from storage.images.formats.folder import open_folder
from storage.images.options import UNSTATED
from tests.programs import run_python
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

RNG = np.random.default_rng(1)
GREY = RNG.integers(0, 65536, (5, 37, 50), np.uint16)
COLOUR = RNG.integers(0, 256, (3, 37, 50, 3), np.uint8)


# by what they are: pixels (pages, rows, columns[, channels]), and how they are written
TILED, STRIPS = {"tile": (16, 32)}, {"rowsperstrip": 4}
KINDS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "mapped": (GREY, {}),
    "mapped, big-endian": (GREY, {"byteorder": ">"}),
    "tiles": (GREY, TILED),
    "tiles, deflated, predicted": (GREY, TILED | {"compression": "zlib", "predictor": True}),
    "strips, lzw, big-endian": (GREY, STRIPS | {"compression": "lzw", "byteorder": ">"}),
    "signed": (GREY.astype(np.int16), TILED),
    "float32": (GREY / np.float32(7), STRIPS | {"compression": "zstd"}),
    "float64": (GREY / 7, TILED),
    "colour": (COLOUR, TILED | {"photometric": "rgb", "compression": "zlib"}),
    "colour, mapped": (COLOUR, {"photometric": "rgb"}),
    "planes": (COLOUR, TILED | {"photometric": "rgb", "planarconfig": "separate"}),
    "planes, strips": (
        COLOUR,
        STRIPS | {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"},
    ),
    "16 bits of colour": (GREY[:3, :, :48].reshape(3, 37, 16, 3), {"photometric": "rgb"}),
    "with alpha": (
        RNG.integers(0, 256, (2, 37, 50, 4), np.uint8),
        TILED | {"photometric": "rgb", "extrasamples": ["unassalpha"]},
    ),
    "big": (GREY, TILED | {"bigtiff": True}),
    "imagej": (GREY, {"imagej": True}),
}


def write(path: Path, images: np.ndarray, how: dict[str, Any]) -> None:
    how = dict(how)
    planes = how.get("planarconfig") == "separate"
    data = np.moveaxis(images, 3, 1) if planes else images
    options = {name: how.pop(name) for name in ("byteorder", "bigtiff", "imagej") if name in how}
    with tifffile.TiffWriter(path, **options) as file:
        if "imagej" in options:
            file.write(data, metadata={"axes": "TYX"})
            return
        for page in data:
            file.write(page, metadata=None, contiguous=False, **how)


@pytest.mark.parametrize("kind", KINDS)
@QUICK
@given(windows=WINDOWS)
def test_windows_are_those_of_the_whole(
    tmp_path: Path, kind: str, windows: list[tuple[int, slice, slice]]
) -> None:
    path = tmp_path / "pages.tif"
    write(path, *KINDS[kind])
    assert_windows(opened(path), list(KINDS[kind][0]), windows)


def test_only_the_tiles_of_a_window_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.tif"
    large = RNG.integers(0, 256, (320, 480), np.uint8)
    tifffile.imwrite(path, large, tile=(32, 32), compression="zlib")
    reader, taken = opened(path), list[int]()
    assert reader.piece == (32, 32)
    real = __import__("os").pread
    monkeypatch.setattr(
        "os.pread", lambda handle, count, at: taken.append(count) or real(handle, count, at)
    )
    window = slice(64, 96), slice(33, 65)
    np.testing.assert_array_equal(reader.read(0, *window), large[window])
    assert len(taken) == 2


def test_axes_of_ome_tiff_are_images_and_channels(tmp_path: Path) -> None:
    path = tmp_path / "cells.ome.tif"
    five = RNG.integers(0, 256, (2, 4, 3, 20, 33), np.uint8)  # t, z, c, y, x
    tifffile.imwrite(path, five, tile=(16, 16), metadata={"axes": "TZCYX"}, compression="zlib")
    images = [np.moveaxis(five[t, z], 0, 2) for t in range(2) for z in range(4)]
    assert_windows(opened(path), images, [(3, slice(4, 19), slice(7, 30))])


def test_levels_and_other_images_have_names(tmp_path: Path) -> None:
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(COLOUR[0], subifds=1, tile=(16, 16), photometric="rgb")
        file.write(COLOUR[0, ::2, ::2].copy(), subfiletype=1, tile=(16, 16), photometric="rgb")
        file.write(GREY[0], photometric="minisblack")
    with pytest.raises(
        InputError, match=r"2 kinds of images: name one, as in ::0 37×50×3 uint8; ::1"
    ):
        opened(path)
    assert_windows(opened(f"{path}::0"), [COLOUR[0]], [])
    assert_windows(opened(f"{path}::0/1"), [COLOUR[0, ::2, ::2]], [])
    assert_windows(opened(f"{path}::1"), [GREY[0]], [])
    with pytest.raises(InputError, match="no images '7' in"):
        opened(f"{path}::7")


def test_pages_of_one_bit_are_black_and_white(tmp_path: Path) -> None:
    bits = GREY[:, :, :48] > 30000
    write(tmp_path / "fax.tif", bits, {"compression": "zlib", "photometric": "minisblack"})
    assert_windows(opened(tmp_path / "fax.tif"), list(np.uint8(255) * bits), [])
    write(tmp_path / "page.tif", bits[:1], {"photometric": "minisblack"})
    assert_windows(opened(tmp_path / "page.tif"), [np.uint8(255) * bits[0]], [])


def test_pillow_converts_what_needs_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(COLOUR[0]).convert("CMYK").save(path)
    assert_windows(opened(path), [np.asarray(Image.open(path).convert("RGB"))], [])
    palette = Image.fromarray(COLOUR[0]).quantize(16)
    palette.save(path)
    assert_windows(opened(path), [np.asarray(palette.convert("RGB"))], [])
    tifffile.imwrite(path, COLOUR[..., 0], photometric="miniswhite", metadata=None)
    with pytest.raises(InputError, match="colours of kind 0: save it as plain grey or RGB"):
        opened(path)
    tifffile.imwrite(path, COLOUR[0, ..., 0], photometric="miniswhite")
    assert_windows(opened(path), [255 - COLOUR[0, ..., 0]], [])
    for deep in (GREY[0], np.float32(GREY[0] / 65535)):  # Pillow would leave them as they are
        tifffile.imwrite(path, deep, photometric="miniswhite")
        with pytest.raises(InputError, match="grey whose 0 is white"):
            opened(path)


@pytest.mark.parametrize(
    "how",
    [{}, {"byteorder": ">"}, STRIPS, STRIPS | {"byteorder": ">"}, TILED | {"compression": "zlib"}],
    ids=str,
)
@pytest.mark.parametrize("pages", [1, 2])
def test_pixels_that_gdal_states_to_hold_no_data_need_nodata(
    tmp_path: Path, how: dict[str, Any], pages: int
) -> None:
    path, stack = tmp_path / "0.tif", GREY[:pages].view(np.int16).copy()
    stack[-1, 7, 9] = -9999
    tag = {"extratags": [(42113, 2, 0, "-9999", True)]}
    write(path, stack, how | tag)
    stated = ImageOptions(nodata=-9999)
    assert_windows(opened(path, stated), list(stack), [])
    with pytest.raises(InputError, match=r"0\.tif holds pixels of no data .* give nodata=-9999 to"):
        whole(opened(path))
    if pages == 1:
        assert_windows(open_folder(str(tmp_path), stated), list(stack), [])
        for skips in (UNSTATED, ImageOptions(on_error="skip")):  # it can be read
            with pytest.raises(InputError, match="give nodata=-9999 to"):
                whole(open_folder(str(tmp_path), skips))
    stack[-1, 7, 9] = 1
    write(path, stack, how | tag)
    assert_windows(opened(path), list(stack), [])


@pytest.mark.parametrize("how", [{}, STRIPS, {"planarconfig": "separate", "rowsperstrip": 4}])
@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_a_colour_is_no_data_where_all_its_channels_are(
    tmp_path: Path, how: dict[str, Any], dtype: str
) -> None:
    path, image = tmp_path / "a.tif", COLOUR[0].clip(1).astype(dtype)
    separate = "planarconfig" in how
    fields = how | {"photometric": "rgb", "extratags": [(42113, 2, 0, "0", True)]}
    for colour in ((0, 7, 0), (0, 0, 0)):
        image[5, 6] = colour
        tifffile.imwrite(path, image.transpose(2, 0, 1) if separate else image, **fields)
        if any(colour):
            assert_windows(opened(path), [image], [])
            assert_windows(open_folder(str(tmp_path)), [image], [])
    for reader in (opened(path), open_folder(str(tmp_path))):
        with pytest.raises(InputError, match=r"with 0 in any channel., or a mask of what is to be"):
            whole(reader)
    for masked in (ImageOptions(mask="where.png"), ImageOptions(nodata=0)):
        assert_windows(opened(path, masked), [image], [])
    with pytest.raises(InputError, match="give nodata=0"):  # patches may reach beyond the mask
        whole(opened(path, ImageOptions(mask="where.png", mask_by="centre")))


def test_white_is_no_data_where_a_file_whose_0_is_white_says_so(tmp_path: Path) -> None:
    path, grey = tmp_path / "a.tif", GREY[0].astype(np.uint8).clip(1, 254)
    for level in (255, 0):
        grey[3, 4] = level  # as it is stored
        tags = [(42113, 2, 0, "0", True)]
        tifffile.imwrite(path, grey, photometric="miniswhite", extratags=tags)
        if level:
            assert_windows(opened(path), [255 - grey], [])
    with pytest.raises(InputError, match="give nodata=255 to"):
        whole(opened(path))


def test_colours_of_a_palette_are_not_what_gdal_states(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOUR[0]).quantize(16)
    palette.save(tmp_path / "a.tif", tiffinfo={42113: "0"})
    assert_windows(opened(tmp_path / "a.tif"), [np.asarray(palette.convert("RGB"))], [])
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    Image.fromarray(grey).save(tmp_path / "a.tif", tiffinfo={42113: "0"})
    with pytest.raises(InputError, match="give nodata=0 to"):
        whole(open_folder(str(tmp_path)))


def test_folders_take_tiff_of_one_page(tmp_path: Path) -> None:
    deep = KINDS["16 bits of colour"][0]
    for number, image in enumerate(deep):
        tifffile.imwrite(tmp_path / f"{number}.tif", image, photometric="rgb", compression="zlib")
    assert_windows(open_folder(str(tmp_path)), list(deep), [(1, slice(3, 9), slice(1, 9))])
    write(tmp_path / "9.tif", GREY, {})
    with pytest.raises(InputError, match=r"9\.tif holds 5 images: give it by itself"):
        open_folder(str(tmp_path))


def test_without_tifffile_plain_pages_are_read_and_others_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    extra = r"pip install 'patchdict\[images\]'"
    write(tmp_path / "one.tif", GREY[:1], {})
    assert_windows(opened(tmp_path / "one.tif"), [GREY[0]], [])
    for name, kind in (("many.tif", "tiles"), ("deep.tif", "16 bits of colour")):
        write(tmp_path / name, *KINDS[kind])
        with pytest.raises(InputError, match=extra):
            opened(tmp_path / name)
    with pytest.raises(InputError, match=extra):
        opened(f"{tmp_path}/one.tif::0")


def test_without_imagecodecs_what_needs_it_names_the_extra(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", *KINDS["strips, lzw, big-endian"])
    program = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from storage import open_images\n"
        "open_images(sys.argv[1]).fingerprint"
    )
    told = run_python("-c", program, str(tmp_path / "a.tif")).stderr
    assert "pip install 'patchdict[images]'" in told


@pytest.mark.parametrize("kind", ["mapped", "tiles", "strips, lzw, big-endian", "imagej"])
def test_a_cut_file_is_never_taken_for_a_whole_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    write(path, *KINDS[kind])
    content = path.read_bytes()
    for length in range(0, len(content), 499):
        path.write_bytes(content[:length])
        found = read_or_refuse(lambda: whole(opened(path)))
        if found is not None:  # what comes after the pixels may be gone
            np.testing.assert_array_equal(found, KINDS[kind][0])
            assert length > KINDS[kind][0].nbytes


@pytest.mark.parametrize("kind", ["mapped", "tiles", "planes, strips", "imagej", "float32"])
@QUICK
@given(faults=FAULTS)
def test_damaged_files_are_read_or_refused(
    tmp_path: Path, kind: str, faults: list[tuple[str, int, int]]
) -> None:
    path = tmp_path / "a.tif"
    write(path, *KINDS[kind])
    path.write_bytes(bend(path.read_bytes(), faults))
    read_or_refuse(lambda: whole(opened(path)))


def test_files_that_vanish_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data set .*absent\.tif"):
        opened(tmp_path / "absent.tif")
    write(tmp_path / "a.tif", *KINDS["tiles"])
    reader = opened(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.tif is damaged, or was changed or removed"):
        reader.read(0, ALL, ALL)
