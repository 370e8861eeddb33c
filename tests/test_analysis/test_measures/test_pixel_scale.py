"""Pixel levels: what they are called, and how large images are reduced."""

import numpy as np

from analysis.measures.pixel_scale import PixelScale, reduced


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
