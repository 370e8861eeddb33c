"""Axes of images in memory or mapped: any layout as (images, rows, columns[, channels])."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from storage.errors import InputError, shortened

# Names that axes of xarray have in the field, by the letter of a layout.
AXIS_NAMES = {
    "N": ("image", "images", "n", "sample", "time", "t", "batch", "z", "plane"),
    "H": ("row", "rows", "y", "height", "lat", "latitude"),
    "W": ("col", "cols", "column", "columns", "x", "width", "lon", "longitude"),
    "C": ("channel", "channels", "c", "band", "bands", "wavelength"),
}
_KNOWN_NAMES = {name: letter for letter, names in AXIS_NAMES.items() for name in names}
_FEW = 4  # channels, at most, in a guess


def check_layout(layout: str) -> str:
    """The layout in upper case; raises InputError for what is none."""
    letters = layout.upper()
    if len(set(letters)) < len(letters) or not {"H", "W"} <= set(letters) <= set("NHWC"):
        raise InputError(
            f"layout {shortened(layout)} is none: use the letters of the axes in their order, N"
            " (images), H (rows), W (columns), C (channels), as in NHWC, NCHW, HWN or HW"
        )
    return letters


def named_layout(dims: tuple[Any, ...]) -> str | None:
    """The layout that names of axes tell, as xarray has them; None where not all are known."""
    letters = "".join(_KNOWN_NAMES.get(str(dim).lower(), "?") for dim in dims)
    return None if "?" in letters or len(set(letters)) < len(letters) else letters


def named_letters(dims: Sequence[Any]) -> str | None:
    """A letter for each named axis, N for any that is none of an image; None without H and W."""
    letters = "".join(_KNOWN_NAMES.get(str(dim).lower(), "N") for dim in dims)
    once = letters.count("H") == letters.count("W") == 1 >= letters.count("C")
    return letters if once else None


def arranged(images: np.ndarray, layout: str | None, what: str) -> np.ndarray:
    """The images as (n, rows, columns[, channels]), without a copy.

    Args:
        images: of any layout; one image has no axis of images.
        layout: a letter for each axis; None: (n, rows, columns[, channels]).
        what: names the array in an error.

    Raises:
        InputError: another number of axes than the layout has, or, where none is stated, a shape
            that is likely of another one.
    """
    letters = letters_of(images.shape, layout, what)
    if layout is None:
        return images
    if "N" not in letters:
        images, letters = images[np.newaxis], "N" + letters
    return images.transpose([letters.index(axis) for axis in "NHWC" if axis in letters])


def letters_of(shape: tuple[int, ...], layout: str | None, what: str) -> str:
    """The layout of an array of this shape; its arguments and errors are those of `arranged`."""
    if layout is None:
        if likely := _likely(shape):
            order, remedy = likely
            usual = "NHWC"[: len(shape)]
            axes = ", ".join(("images", "rows", "columns", "channels")[: len(shape)])
            raise InputError(
                f"{what} has the shape {shape}, which looks like {order}: use layout={order} (or"
                f" images{remedy})" + f", or layout={usual} if it is ({axes})" * (len(shape) > 2)
            )
        if not 2 < len(shape) < 5:
            raise InputError(
                f"{what} has the shape {shape} where (images, rows, columns) or (images, rows,"
                " columns, channels) is expected: reshape it, or name its axes"
            )
        return "NHWC"[: len(shape)]
    letters = check_layout(layout)
    if len(shape) != len(letters):
        raise InputError(
            f"{what} has the shape {shape}, which is not of layout {letters}: give a letter"
            f" for each of its {len(shape)} axes"
        )
    return letters


def _likely(shape: tuple[int, ...]) -> tuple[str, str] | None:
    """The layout that a shape is likely of, and what makes it the usual one; None for the usual."""
    if len(shape) == 2:
        return "HW", "[None]"
    if len(shape) == 3:
        if shape[2] in (3, _FEW) and min(shape[:2]) > _FEW:
            return "HWC", "[None]"
        if shape[0] == shape[1] != shape[2] and shape[0] > _FEW:
            return "HWN", ".transpose(2, 0, 1)"
    if len(shape) == 4:
        if shape[1] <= _FEW < min(shape[2:]):
            return "NCHW", ".transpose(0, 2, 3, 1)"
        if shape[0] == shape[1] > _FEW >= shape[2] and shape[3] > _FEW:
            return "HWCN", ".transpose(3, 0, 1, 2)"
    return None
