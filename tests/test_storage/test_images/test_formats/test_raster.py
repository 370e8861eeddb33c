"""Every mode of every kind of image that Pillow reads, its notes, and damage."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from PIL import Image, ImageOps, PngImagePlugin

from storage import InputError
from storage.images.formats import raster
from storage.images.formats.folder import open_file
from tests.test_storage.test_images.test_formats.windows import (
    FAULTS,
    QUICK,
    WINDOWS,
    assert_windows,
    bend,
    read_or_refuse,
    whole,
)

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (23, 31), np.uint8)
COLOUR = RNG.integers(0, 256, (23, 31, 4), np.uint8)
DEEP = RNG.integers(0, 65536, (23, 31), np.uint16)
BITS = GREY > 127


def content(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png16(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits in colour, which Pillow does not write."""
    rows, cols, channels = pixels.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", cols, rows, 16, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def palette(transparent: bool) -> tuple[Image.Image, np.ndarray]:
    """An image of 8 colours, and the pixels that it means."""
    table = RNG.integers(0, 256, (8, 3), np.uint8)
    numbers = GREY % 8
    image = Image.fromarray(numbers, "P")
    image.putpalette(table.tobytes())
    if not transparent:
        return image, table[numbers]
    image.info["transparency"] = bytes([0, 77, 255])
    alpha = np.array([0, 77, *[255] * 6], np.uint8)
    return image, np.dstack([table[numbers], alpha[numbers]])


def lossless() -> dict[str, tuple[bytes, np.ndarray]]:
    """Files and the pixels that they hold, by what they are."""
    rgb, rgba, la = COLOUR[..., :3].copy(), COLOUR, COLOUR[..., :2].copy()
    plain, clear = palette(False), palette(True)
    found = {
        "png 1": (content(Image.fromarray(BITS), "PNG"), np.uint8(255) * BITS),
        "png la": (content(Image.fromarray(la), "PNG"), la),
        "png i;16": (content(Image.fromarray(DEEP), "PNG"), DEEP),
        "png p": (content(plain[0], "PNG"), plain[1]),
        "png p, transparent": (content(clear[0], "PNG"), clear[1]),
        "tiff 1": (content(Image.fromarray(BITS), "TIFF"), np.uint8(255) * BITS),
        "tiff i;16": (content(Image.fromarray(DEEP), "TIFF"), DEEP),
        "tiff f": (content(Image.fromarray(GREY / np.float32(255)), "TIFF"), None),
        "webp rgba": (content(Image.fromarray(rgba), "WEBP", lossless=True, exact=True), rgba),
        "bmp p": (content(plain[0], "BMP"), plain[1]),
        **{f"png16 {channels}": (png16(DEEP[..., None].repeat(channels, 2)), None)
           for channels in (2, 3, 4)},
    }  # fmt: skip
    found["tiff f"] = (found["tiff f"][0], GREY / np.float32(255))
    for channels in (2, 3, 4):
        deep = DEEP[..., None].repeat(channels, 2)
        found[f"png16 {channels}"] = (png16(deep), deep)
    for form in ("PNG", "BMP", "TIFF"):
        found[f"{form} l"] = (content(Image.fromarray(GREY), form), GREY)
        found[f"{form} rgb"] = (content(Image.fromarray(rgb), form), rgb)
    for form in ("PNG", "TIFF"):
        found[f"{form} rgba"] = (content(Image.fromarray(rgba), form), rgba)
    return found


LOSSLESS = lossless()


@pytest.mark.parametrize("kind", LOSSLESS)
@QUICK
@given(windows=WINDOWS)
def test_windows_are_those_of_the_whole(
    tmp_path: Path, kind: str, windows: list[tuple[int, slice, slice]]
) -> None:
    path = tmp_path / "image"
    stored, pixels = LOSSLESS[kind]
    path.write_bytes(stored)
    assert_windows(open_file(str(path)), [pixels], windows)


def test_big_endian_16_bits_are_native(tmp_path: Path) -> None:
    # header, the one directory after the pixels: width, length, bits, strip at 8, its bytes
    tags = ((256, 31), (257, 23), (258, 16), (262, 1), (273, 8), (278, 23), (279, DEEP.nbytes))
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"MM\0*" + struct.pack(">I", 8 + DEEP.nbytes)
    stored = head + DEEP.astype(">u2").tobytes() + struct.pack(">H", len(tags)) + entries + bytes(4)
    (tmp_path / "big.tif").write_bytes(stored)
    assert_windows(open_file(str(tmp_path / "big.tif")), [DEEP], [])


def test_photographs_are_as_pillow_decodes_them(tmp_path: Path) -> None:
    for mode in ("L", "RGB", "CMYK"):
        stored = content(Image.fromarray(COLOUR[..., :3].copy()).convert(mode), "JPEG")
        (tmp_path / "photo.jpg").write_bytes(stored)
        expected = Image.open(io.BytesIO(stored))
        expected = expected.convert("RGB") if mode == "CMYK" else expected
        assert_windows(open_file(str(tmp_path / "photo.jpg")), [np.asarray(expected)], [])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_images_stand_upright(tmp_path: Path, orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = content(Image.fromarray(COLOUR[..., :3].copy()), form, exif=exif)
    (tmp_path / "photo").write_bytes(stored)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(stored)))
    expected = np.asarray(upright)
    assert_windows(open_file(str(tmp_path / "photo")), [expected], [(0, slice(3, 9), slice(2, 5))])


def test_sizes_come_from_the_header_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise AssertionError("decoded")

    for kind, (stored, pixels) in LOSSLESS.items():
        (tmp_path / "image").write_bytes(stored)
        with monkeypatch.context() as patch:
            patch.setattr(PngImagePlugin.PngImageFile, "load", refuse)
            patch.setattr(raster, "_pixels", refuse)
            found = raster.examine(str(tmp_path / "image"))
        assert (found.rows, found.cols) == pixels.shape[:2], kind


def test_large_images_are_no_attack(tmp_path: Path) -> None:
    large = Image.fromarray(np.broadcast_to(np.uint8(7), (30_000, 10_000)).copy())
    large.save(tmp_path / "large.png", compress_level=1)  # 300 megapixels
    reader = open_file(str(tmp_path / "large.png"))
    assert reader.read(0, slice(29_990, 30_000), slice(0, 2)).tolist() == [[7, 7]] * 10


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (content(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "pixels of mode I"),
        (b"\x89PNG\r\n\x1a\n", "is not a whole image"),
        (b"BM" + bytes(60), "is not a whole image"),
        (b"RIFF\0\0\0\0WAVEfmt ", "does not start as PNG"),
        (b"", "does not start as PNG"),
        (content(Image.fromarray(GREY), "GIF"), "is a GIF image, .*: convert it to PNG or TIFF"),
        (
            content(Image.fromarray(GREY), "WEBP", save_all=True,
                    append_images=[Image.fromarray(GREY[::-1].copy())]),
            "holds several images",
        ),
    ],
)  # fmt: skip
def test_what_is_no_single_image_is_refused(tmp_path: Path, stored: bytes, message: str) -> None:
    (tmp_path / "image.png").write_bytes(stored)
    with pytest.raises(InputError, match=message):
        open_file(str(tmp_path / "image.png"))


def test_16_bits_of_colour_name_the_extra_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep.png").write_bytes(LOSSLESS["png16 3"][0])
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    with pytest.raises(InputError, match=r"pip install 'patchdict\[images\]'"):
        open_file(str(tmp_path / "deep.png"))


def test_every_flip_in_a_png_and_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    whole_file = content(Image.fromarray(GREY[:9, :9].copy()), "PNG")
    end = len(whole_file) - 12  # the chunk that says so holds nothing
    for bit in range(8 * end):
        bent = bytearray(whole_file)
        bent[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(bent))
        assert read_or_refuse(lambda: whole(open_file(str(path)))) is None, bit
    for length in range(end):
        path.write_bytes(whole_file[:length])
        assert read_or_refuse(lambda: whole(open_file(str(path)))) is None, length


@pytest.mark.parametrize("kind", [*LOSSLESS, "jpeg"])
@QUICK
@given(faults=FAULTS)
def test_damaged_files_are_read_or_refused(
    tmp_path: Path, kind: str, faults: list[tuple[str, int, int]]
) -> None:
    path = tmp_path / "image"
    jpeg = content(Image.fromarray(COLOUR[..., :3].copy()), "JPEG")
    path.write_bytes(bend(LOSSLESS[kind][0] if kind in LOSSLESS else jpeg, faults))
    read_or_refuse(lambda: whole(open_file(str(path))))
