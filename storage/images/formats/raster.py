"""Image files that Pillow reads, one image each: PNG, JPEG, BMP, WebP and TIFF of one page."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from storage.errors import InputError
from storage.images.formats.pieces import FILLS, check_data, checked_fills, meaning, reason_of
from storage.images.options import UNSTATED, ImageOptions

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp")
TIFF_SUFFIXES = (".tif", ".tiff")
NO_EXTRA = "install what reads it: pip install 'patchdict[images]'"
# The first bytes of a file, and what of Pillow opens it. Not Image.open, which tries fifty formats,
# some of them programs, and takes large images for attacks.
MAGIC = {
    b"\x89PNG\r\n\x1a\n": "Png",
    b"\xff\xd8\xff": "Jpeg",
    b"BM": "Bmp",
    b"RIFF": "WebP",
    b"II*\0": "Tiff",
    b"MM\0*": "Tiff",
    b"II+\0": "Tiff",
    b"MM\0+": "Tiff",
}
# Kinds that are not read: what stands in a file from which byte on.
_FOREIGN = (
    (0, b"GIF8", "GIF"),
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypavif", "AVIF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
)
# modes of Pillow: what it is converted to, channels and type of that
_MODES = {
    "1": ("L", 0, "uint8"),
    "L": ("L", 0, "uint8"),
    "LA": ("LA", 2, "uint8"),
    "RGB": ("RGB", 3, "uint8"),
    "RGBX": ("RGB", 3, "uint8"),
    "RGBA": ("RGBA", 4, "uint8"),
    "PA": ("RGBA", 4, "uint8"),
    "CMYK": ("RGB", 3, "uint8"),
    "YCbCr": ("RGB", 3, "uint8"),
    "I;16": ("I;16", 0, "uint16"),
    "I;16B": ("I;16B", 0, "uint16"),
    "F": ("F", 0, "float32"),
}
_DEEP_PNG = {"LA;16B": 2, "RGB;16B": 3, "RGBA;16B": 4}  # Pillow would drop their lower 8 bits
GDAL_NODATA = 42113  # tag of TIFF
_COLOURS = 262  # tag of TIFF
_ORIENTATION = 0x0112  # tag of EXIF
_TURNED = (5, 6, 7, 8)  # orientations that swap rows and columns
_BAND = 1 << 22  # pixels that are converted at once


@dataclass(frozen=True)
class Picture:
    """What the header of an image file says: rows, columns, channels (0: none) and type."""

    rows: int
    cols: int
    channels: int
    dtype: np.dtype


def examine(path: str) -> Picture:
    """What the header of a file says; no pixel is decoded. Raises: InputError."""
    with _opened(path) as (image, _):
        return _picture(path, image)


def decode(path: str, options: ImageOptions = UNSTATED) -> np.ndarray:
    """All pixels of a file, (rows, columns[, channels]), turned as its EXIF notes say.

    Raises: InputError where it is damaged or gone, or holds pixels of the value that it states for
        no data, and the options state none.
    """
    with _opened(path) as (image, file):
        picture = _picture(path, image)
        if image.format == "PNG":
            image.verify()  # checksums, which decoding ignores
            file.seek(0)
            if _rawmode(image) in _DEEP_PNG:
                pixels = _imagecodecs(path).png_decode(file.read())
            else:
                pixels = _pixels(type(image)(file))
        else:
            pixels = _pixels(image)
            tags = getattr(image, "tag_v2", {})
            _, fills = meaning(pixels.dtype, fill_of(tags.get(GDAL_NODATA)))
            if tags.get(_COLOURS) == 0:  # Pillow has turned them
                fills = tuple(255 - fill for fill in fills)
            if _MODES.get(image.mode, [""])[0] == image.mode:  # the levels that are in the file
                check_data(path, pixels, checked_fills(fills, options))
        turned = _upright(pixels, _orientation(image))
        if turned.shape[:2] != (picture.rows, picture.cols):
            raise ValueError(f"it has {turned.shape[:2]} pixels")
        return turned


def fill_of(text: Any) -> dict[str, float]:
    """The value for no data that GDAL's tag states, if any, by the name that arrays have for it."""
    try:
        return {FILLS[0]: float(str(text or "").strip("\0 "))}
    except ValueError:
        return {}


def check_kind(path: str, start: bytes) -> None:
    """Raise InputError, which says what to do, for a kind of image that is not read.

    start: the first 16 bytes of the file.
    """
    for first, magic, kind in _FOREIGN:
        if start[first:].startswith(magic):
            raise InputError(
                f"{path} is a {kind} image, which is not read: convert it to PNG or TIFF"
            )


def _plugin(start: bytes) -> str | None:
    found = (name for magic, name in MAGIC.items() if start.startswith(magic))
    name = next(found, None)
    return None if name == "WebP" and start[8:12] != b"WEBP" else name


@contextmanager
def _opened(path: str) -> Iterator[tuple["ImageFile", BinaryIO]]:
    """The image of a file, its header read, and the file; whatever Pillow says is an InputError."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
            file.seek(0)
            name = _plugin(start)
            if name is None:
                check_kind(path, start)
                raise ValueError("it does not start as PNG, JPEG, BMP, WebP or TIFF do")
            module = import_module(f"PIL.{name}ImagePlugin")
            yield getattr(module, f"{name}ImageFile")(file), file
    except InputError:
        raise
    except OSError as error:
        if error.errno:  # the system's; Pillow's have none
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        raise _damaged(path, error) from error
    except Exception as error:  # Pillow raises of all kinds
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> InputError:
    return InputError(
        f"{path} is not a whole image ({reason_of(error)}): fetch it again, or take it away"
    )


def _picture(path: str, image: "ImageFile") -> Picture:
    """Raises InputError for pixels that are not taken."""
    rows, cols = image.height, image.width
    if getattr(image, "is_animated", False):
        remedy = NO_EXTRA if image.format == "TIFF" else "save them as files of their own"
        raise InputError(f"{path} holds several images: {remedy}")
    if _orientation(image) in _TURNED:
        rows, cols = cols, rows
    raw = _rawmode(image)
    if image.format == "PNG" and raw in _DEEP_PNG:
        _imagecodecs(path)
        return Picture(rows, cols, _DEEP_PNG[raw], np.dtype(np.uint16))
    kind = _MODES.get(_mode(image))
    if kind and kind[2] != "uint8" and getattr(image, "tag_v2", {}).get(_COLOURS) == 0:
        raise InputError(f"{path} holds grey whose 0 is white (WhiteIsZero): save it as plain grey")
    if kind is None or (kind[2] == "uint8" and "16" in raw):
        what = f"{raw} where" if kind else f"mode {image.mode} where"
        remedy = NO_EXTRA if image.format == "TIFF" else "convert it first"
        raise InputError(
            f"{path} holds pixels of {what} 1, 8 or 16 bits of grey, or 8 of colour, are expected:"
            f" {remedy}"
        )
    return Picture(rows, cols, kind[1], np.dtype(kind[2]))


def _mode(image: "ImageFile") -> str:
    """Mode of Pillow, that of its colours for a palette."""
    if image.mode == "P":
        return "RGBA" if "transparency" in image.info else "RGB"
    return image.mode


def _rawmode(image: "ImageFile") -> str:
    """How pixels lie in the file; empty where Pillow does not tell."""
    args = image.tile[0].args if image.tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args or "")


def _orientation(image: "ImageFile") -> int:
    """1 to 8, as EXIF has them; TIFF is turned by Pillow itself."""
    if image.format == "TIFF":
        return 1
    with suppress(Exception):  # of notes that are damaged: they turn nothing
        from PIL.Image import Image

        return int(Image.getexif(image).get(_ORIENTATION, 1))  # PNG's own decodes first
    return 1


def _imagecodecs(path: str) -> Any:
    try:
        return import_module("imagecodecs")
    except ImportError as error:
        raise InputError(f"{path} has 16 bits for each of its colours: {NO_EXTRA}") from error


def _pixels(image: "ImageFile") -> np.ndarray:
    """All pixels as they lie in the file, converted band by band to save memory."""
    image.load()
    mode, channels, dtype = _MODES[_mode(image)]
    cols, rows = image.size
    found = np.empty((rows, cols, channels) if channels else (rows, cols), dtype)
    step = max(1, _BAND // cols)
    for top in range(0, rows, step):
        band = image.crop((0, top, cols, min(rows, top + step)))
        found[top : top + step] = np.asarray(band if band.mode == mode else band.convert(mode))
    return found


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A view of the pixels as the camera was held."""
    if orientation in _TURNED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


# Pillow's, about notes in files; what it cannot read it raises.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
