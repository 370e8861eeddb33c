"""Pixel levels: what they are called, and how large images are reduced."""

import numpy as np

from analysis.measures.pixel_scale import PixelScale, reduced
from storage.images.pixel_range import PixelRange


def test_only_whole_levels_of_one_channel_are_grey() -> None:
    def level(dtype: str, *shape: int) -> str:
        return PixelScale.of_source({"dtype": dtype, "image_shape": shape}).level

    assert level("uint16", 9, 9) == "grey levels"
    assert level("uint8", 9, 9, 3) == level("float32", 9, 9) == "pixel levels"


def test_reduced_images_are_block_means() -> None:
    image = np.arange(5 * 4, dtype=np.uint8).reshape(5, 4)
    assert reduced(image, 1) is image
    assert reduced(image, 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert reduced(image[:1], 2).tolist() == [[0.5, 2.5]]  # a line of two blocks, one pixel high
    colour = np.stack([image, image + 1], axis=2)
    assert reduced(colour, 2)[..., 1].tolist() == [[3.5, 5.5], [11.5, 13.5]]


def test_pictures_of_pixels_that_use_little_of_their_range_reach_between_percentiles() -> None:
    whole = PixelRange(0, 16383, nodata=0)
    values = np.full((100, 200), 300, np.uint16)
    values[0, :100], values[1, :100] = 200, 4000
    values[2, 0], values[2, 1] = 100, 9000  # beyond the percentiles
    assert whole.shown(values) == PixelRange(200, 4000, nodata=0)
    values[:60, :] = 9000
    assert whole.shown(values) is whole
    assert whole.shown(np.full((9, 9), 300, np.uint16)) is whole  # of one level
    deep = PixelRange(0, 65535).shown(np.arange(54321, 54325, dtype=np.uint16))
    assert (deep.black, deep.white) == (54321, 54324)
    floats = PixelRange(0, 1.0).shown(np.linspace(0.0123456, 0.0523456, 1002, dtype=np.float32))
    assert (floats.black, floats.white) == (0.01239, 0.05231)  # as they are told


def test_the_range_that_is_shown_is_said_to_be_of_percentiles() -> None:
    source = {"dtype": "uint16", "image_shape": [9, 9], "range": [0, 4095]}
    assert PixelScale.shown_of(source) == PixelScale.of_source(source)
    assert PixelScale.shown_of(source).origin == ""
    narrow = PixelScale.shown_of(source | {"shown": [99, 1023]})
    assert (narrow.range_text, narrow.level, narrow.span) == ("99 … 1023", "grey levels", 924)
    assert narrow.origin == ", the 0.1 and 99.9 percentiles of the training pixels"
