"""Pixel levels as people see them: grey or colour on a fixed scale, and the words for it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray

from storage import InputError
from storage.images.pixel_range import PERCENTILES, PIXEL_DTYPES, PixelRange
from storage.plain_attributes import parsed

# Pixels that reach more than twice as far as white, or a fifteenth of it, are in another unit: of
# more bits, or 0 … 1 and 0 … 16 where a dictionary knows 0 … 255.
_BRIGHTEST, _DARKEST = 2, 1 / 15


@dataclass(frozen=True)
class PixelScale:
    """Range and unit of an image source's pixels.

    Attributes:
        levels: which are black and white.
        level: name of the unit, in the plural.
        narrowed: whether black and white are PERCENTILES of the training pixels.
    """

    levels: PixelRange
    level: str
    narrowed: bool = False

    @classmethod
    def of_source(cls, source: Mapping[str, Any]) -> "PixelScale":
        """The scale of an image source as stores describe it, with its dtype and image_shape.

        Only whole levels of a single channel are called grey.
        """
        whole = np.dtype(source["dtype"]).kind != "f"
        grey = whole and len(source.get("image_shape", ())) < 3
        return cls(PixelRange.of_source(source), "grey levels" if grey else "pixel levels")

    @classmethod
    def shown_of(cls, source: Mapping[str, Any]) -> "PixelScale":
        """The scale on which pixels of such a source are shown, and kinds and coverage told.

        That of `of_source`, or a narrower one where a sweep recorded it (`PixelRange.shown`).
        """
        whole = cls.of_source(source)
        if "shown" not in source:
            return whole
        black, white = source["shown"]
        return replace(whole, levels=replace(whole.levels, black=black, white=white), narrowed=True)

    @property
    def origin(self) -> str:
        """Words on where black and white are from, after a comma; none for the whole range."""
        if not self.narrowed:
            return ""
        low, high = PERCENTILES
        return f", the {low:g} and {high:g} percentiles of the training pixels"

    @property
    def black(self) -> float:
        """Level shown as black."""
        return self.levels.black

    @property
    def white(self) -> float:
        """Level shown as white."""
        return self.levels.white

    @property
    def span(self) -> float:
        """From black to white, in levels: the peak that PSNR goes by."""
        return self.levels.span

    @property
    def unit(self) -> str:
        """Unit of a mean squared error."""
        return f"squared {self.level}"

    @property
    def range_text(self) -> str:
        """The range in words, as in 0 … 255."""
        return f"{self.black:g} … {self.white:g}"


def stored_scale(dictionaries: xarray.DataTree | xarray.Dataset) -> PixelScale | None:
    """Scale of the images that a tree, a node of it, or a Dataset was learned from, if known."""
    source = _source_of(dictionaries)
    return None if source is None else PixelScale.of_source(source)


def shown_scale(dictionaries: xarray.DataTree | xarray.Dataset | None) -> PixelScale | None:
    """The same, as the pixels are shown."""
    source = _source_of(dictionaries)
    return None if source is None else PixelScale.shown_of(source)


def _source_of(dictionaries: xarray.DataTree | xarray.Dataset | None) -> dict[str, Any] | None:
    """The image source as the root describes it, if known."""
    if dictionaries is None:
        return None
    tree = isinstance(dictionaries, xarray.DataTree)
    return parsed(dictionaries.root.attrs if tree else dictionaries.attrs).get("source")


class PixelUnit:
    """Pixels that meet a dictionary: checked to be in the unit that it knows, or brought to it.

    Attributes:
        dtype: of the pixels as they meet the centroids.
        levels: what their values mean.
    """

    def __init__(
        self, dtype: np.dtype, levels: PixelRange, scale: PixelScale | None, white: float | None
    ) -> None:
        """Assumes what `of` has checked. scale: the dictionary's, if known."""
        self.dtype, self.levels = dtype, levels
        self._scale, self._white, self._highest = scale, white, -np.inf

    @classmethod
    def of(
        cls,
        dtype: np.dtype,
        dictionary: xarray.DataTree | xarray.Dataset | None,
        white: float | None = None,
    ) -> "PixelUnit":
        """The unit of pixels of a type.

        Args:
            dtype: of the pixels.
            dictionary: a node of the tree that `open_dictionaries` returns, its Dataset, or None.
            white: their own level of white, if they are to be brought to the dictionary's range.

        Raises:
            InputError: a type of another range than the dictionary's, floats of 32 and of 64 bits
                being alike, where no white is given; a white without a known range.
        """
        source, given = _source_of(dictionary), np.dtype(dtype).newbyteorder("=")
        if source is None:
            if white is not None:
                raise InputError(
                    "the dictionary does not say which levels its images have: rescale the pixels"
                    " yourself"
                )
            known = given.name in PIXEL_DTYPES
            return cls(given, PixelRange.of_type(given if known else np.dtype("f")), None, None)
        scale, own = PixelScale.of_source(source), np.dtype(source["dtype"])
        if white is not None:
            if not 0 < white < np.inf:
                raise InputError(f"white {white:g} is no level of pixels: give one above 0")
            return cls(own, scale.levels, scale, white)
        alike = given.kind not in "uif" or PixelRange.of_type(given) == PixelRange.of_type(own)
        if not alike:
            raise InputError(
                f"the pixels are {given.name} where the dictionary knows {scale.level} of"
                f" {scale.range_text} ({own.name}): rescale them to that range and type, or say"
                " which of their levels is white (white=…)"
            )
        return cls(given, scale.levels, scale, None)

    def brought(self, pixels: np.ndarray) -> np.ndarray:
        """The pixels in the dictionary's unit, whole numbers where it knows these."""
        if self._white is None:
            highest = float(np.fmax.reduce(pixels, axis=None)) if pixels.size else -np.inf
            self._highest = max(self._highest, highest)
            return pixels
        values = pixels.astype(np.float64) * (self.levels.span / self._white) + self.levels.black
        if self.dtype.kind != "f":
            whole = PixelRange.of_type(self.dtype)
            values = np.rint(np.clip(values, whole.black, whole.white))
        return values.astype(self.dtype)

    def check_reach(self) -> None:
        """Raise InputError where the highest level brought so far is of another range.

        Pixels that are all black say nothing.
        """
        if self._scale is None or self._white is not None:
            return
        reach = (self._highest - self._scale.black) / self._scale.span
        if 0 < reach <= _DARKEST or reach > _BRIGHTEST:
            raise InputError(
                f"the pixels reach {self._highest:g} where the dictionary knows"
                f" {self._scale.level} of {self._scale.range_text}: rescale them, or say which of"
                f" their levels is white, which does it (white={self._scale.white:g} if they are"
                " right as they are)"
            )


def shades(pixels: np.ndarray, white: float, black: float = 0.0) -> np.ndarray:
    """Levels as red, green, blue bytes, the same for all images; no data (NaN) is black.

    Args:
        pixels: (height, width) or (height, width, channels): 3 channels are colour, of 4 the last
            is left out, any other number is averaged to grey.
        white: the level of white.
        black: the level of black.

    Returns:
        (height, width, 3) uint8.
    """
    levels = np.clip((np.asarray(pixels, np.float64) - black) / (white - black), 0, 1)
    np.nan_to_num(levels, copy=False)
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
