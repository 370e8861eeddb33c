"""What the values of pixels mean: black, white, and the value that stands for no data."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from storage.errors import InputError
from storage.images.options import ImageOptions

PIXEL_DTYPES = ("uint8", "uint16", "int8", "int16", "float32", "float64")
# Where pixels take up less of their range, they are shown between their percentiles.
PERCENTILES, SMALL_PART = (0.1, 99.9), 0.5
_LEAST_BITS = 8  # of a range that is found: darker images of 16 bits are taken for dark ones


@dataclass(frozen=True)
class PixelRange:
    """The range of an image source's pixels.

    Attributes:
        black, white: levels shown as black and white; whole numbers for integers.
        nodata: value of pixels that hold no data, NaN included; None where there is none.
    """

    black: float
    white: float
    nodata: float | None = None

    @classmethod
    def of_type(cls, dtype: np.dtype) -> "PixelRange":
        """The whole range of unsigned integers and of signed ones, 0 to 1 for floats."""
        if np.dtype(dtype).kind == "f":
            return cls(0.0, 1.0)
        reach = np.iinfo(dtype)
        return cls(int(reach.min), int(reach.max))

    @classmethod
    def of_source(cls, source: Mapping[str, Any]) -> "PixelRange":
        """The range of an image source as stores describe it (`ImageSource.describe`)."""
        whole = cls.of_type(np.dtype(source["dtype"]))
        black, white = source.get("range", (whole.black, whole.white))
        return cls(black, white, ImageOptions.of_source(source).nodata)

    @classmethod
    def found(
        cls, dtype: np.dtype, reach: Collection[float], options: ImageOptions, name: str
    ) -> "PixelRange":
        """The range of pixels, as it is stated or as they tell.

        Unsigned 16 bits: cameras write 10, 12 or 14 of them, so white is the largest value of the
        fewest bits that hold all pixels. Signed integers: from the lowest to the highest pixel.

        Args:
            dtype: of the pixels.
            reach: values of pixels that hold data, the lowest and the highest among them.
            options: what is stated of them.
            name: of the images, in the error.

        Raises: InputError where white is not above black.
        """
        whole, lowest, highest = cls.of_type(dtype), min(reach, default=0), max(reach, default=0)
        lowest = lowest if options.black is None else options.black
        black, top = whole.black, whole.white
        if dtype.kind == "i":
            black, top = int(lowest), int(max(highest, lowest + 1))
        elif dtype.name == "uint16":
            top = (1 << max(_LEAST_BITS, int(highest).bit_length())) - 1
        found = cls(black, top if options.white is None else options.white, options.nodata)
        if found.span <= 0:
            raise InputError(
                f"white {found.white:g} is not above black, {found.black:g} in {name}: give a"
                " larger one"
            )
        return found

    def shown(self, values: np.ndarray) -> "PixelRange":
        """The range for pictures of such pixels: this one, where they take up half of it or more.

        Else it is narrowed to PERCENTILES, so that 16 bits of which few are used, say, are no black
        picture. PSNR goes by the whole range all the same: it is compared across experiments on the
        same images, whichever patches of them were kept.

        Args:
            values: of training pixels, in any shape.
        """
        low, high = PERCENTILES
        ends = (
            np.percentile(values, low, method="lower"),
            np.percentile(values, high, method="higher"),
        )
        whole = values.dtype.kind != "f"
        black, white = (int(level) if whole else float(f"{level:.4g}") for level in ends)
        if not 0 < white - black < SMALL_PART * self.span:
            return self
        return replace(self, black=black, white=white)

    @property
    def span(self) -> float:
        """From black to white, in levels."""
        return self.white - self.black

    def nodata_pixels(self, images: np.ndarray) -> np.ndarray | None:
        """Which pixels hold no data in any channel, (n, rows, columns) bool; None for none."""
        if self.nodata is None:
            return None
        found = np.isnan(images) if math.isnan(self.nodata) else images == self.nodata
        return found.any(axis=3) if images.ndim == 4 else found

    def check(self, images: np.ndarray) -> None:
        """Raise InputError for float pixels below black, above white, or not numbers.

        The rule for keeping a patch goes by its sum and by the largest value there can be.
        """
        if images.dtype.kind != "f":
            return
        inside = (images >= self.black) & (images <= self.white)
        if (missing := self.nodata_pixels(images)) is not None:
            inside |= missing.reshape(*missing.shape, *(1,) * (images.ndim - 3))
        if inside.all():
            return
        nan = np.isnan(images).sum()
        raise InputError(
            f"the images hold float pixels below {self.black:g}, above {self.white:g}, or not"
            f" numbers ({inside.size - inside.sum()} of {inside.size}, {nan} of them NaN): scale"
            " them to 0…1, state the level of white (white), or the value that holds no data"
            " (nodata)"
        )
