"""Pixel levels as people see them: grey or colour on a fixed scale, and the words for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from storage import InputError
from storage.plain_attributes import parsed


@dataclass(frozen=True)
class PixelScale:
    """Range and unit of an image source's pixels.

    Attributes:
        largest: level shown as white; 0 is black.
        level: name of the unit, in the plural.
    """

    largest: float
    level: str

    @classmethod
    def of(cls, dtype: np.dtype, *, colour: bool = False) -> "PixelScale":
        """Integers reach from 0 to the largest of their type, floats from 0 to 1.

        Only whole levels of a single channel are called grey.
        """
        if dtype.kind == "f":
            return cls(1.0, "pixel levels")
        return cls(float(np.iinfo(dtype).max), "pixel levels" if colour else "grey levels")

    @classmethod
    def of_source(cls, source: Mapping[str, Any]) -> "PixelScale":
        """The scale of an image source as stores describe it, with its dtype and image_shape."""
        return cls.of(np.dtype(source["dtype"]), colour=len(source.get("image_shape", ())) > 2)

    @property
    def unit(self) -> str:
        """Unit of a mean squared error."""
        return f"squared {self.level}"

    @property
    def range_text(self) -> str:
        """The range in words, as in 0 … 255."""
        return f"0 … {self.largest:g}"


def stored_scale(dictionaries: xarray.DataTree | xarray.Dataset) -> PixelScale | None:
    """Scale of the images that a tree, a node of it, or a Dataset was learned from, if known."""
    tree = isinstance(dictionaries, xarray.DataTree)
    attributes = parsed(dictionaries.root.attrs if tree else dictionaries.attrs)
    return PixelScale.of_source(attributes["source"]) if "source" in attributes else None


def check_levels(dtype: np.dtype, dictionaries: xarray.DataTree | xarray.Dataset) -> None:
    """Raise InputError for pixels of another range than a dictionary, if known, was learned from.

    Args:
        dtype: of the pixels.
        dictionaries: a tree, a node of it, or a Dataset.
    """
    known, given = stored_scale(dictionaries), np.dtype(dtype)
    if known is None or given.kind not in "uif":
        return
    if PixelScale.of(given).largest != known.largest:
        raise InputError(
            f"the pixels are {given.name} where the dictionary knows {known.level} of"
            f" {known.range_text}: rescale them to that range and type"
        )


def shades(pixels: np.ndarray, largest: float) -> np.ndarray:
    """Levels as red, green, blue bytes, the same for all images: 0 black, `largest` white.

    Args:
        pixels: (height, width) or (height, width, channels): 3 channels are colour, of 4 the last
            is left out, any other number is averaged to grey.
        largest: the level of white.

    Returns:
        (height, width, 3) uint8.
    """
    levels = np.clip(np.asarray(pixels, np.float64) / largest, 0, 1)
    if levels.ndim == 3:
        levels = levels[..., :3] if levels.shape[2] in (3, 4) else levels.mean(axis=2)
    if levels.ndim == 2:
        levels = np.repeat(levels[..., np.newaxis], 3, axis=2)
    return np.rint(levels * 255).astype(np.uint8)


def enlarged(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Each pixel as a square of scale × scale, exactly."""
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def scale_to(size: float, length: int) -> int:
    """Whole factor at which `length` pixels fill at most `size`, at least 1."""
    return max(1, int(size // length))


def reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of factor × factor pixels; what does not fill a block is left out.

    Args:
        image: (height, width[, channels]).
        factor: along an axis that is shorter, blocks are as long as the axis.

    Returns:
        float64, or the image itself for factor 1.
    """
    if factor == 1:
        return image
    down, across = (min(factor, length) for length in image.shape[:2])
    height, width = image.shape[0] // down, image.shape[1] // across
    whole = image[: height * down, : width * across]
    blocks = whole.reshape(height, down, width, across, *image.shape[2:])
    means: np.ndarray = blocks.mean(axis=(1, 3), dtype=np.float64)
    return means
