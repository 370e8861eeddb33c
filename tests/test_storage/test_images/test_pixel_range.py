"""Black, white and no data: found in the pixels, or stated."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray

from storage import ImageOptions, ImageSource, InputError
from storage.images.arrays import array_source
from storage.images.pixel_range import PixelRange


def source(pixels: np.ndarray, **stated: float) -> ImageSource:
    return ImageSource("any", "train", pixels.reshape(1, -1, 4), ImageOptions(**stated))


@pytest.mark.parametrize(
    ("dtype", "lowest", "highest", "black", "white"),
    [
        ("uint8", 0, 16, 0, 255),
        ("uint16", 0, 200, 0, 255),
        ("uint16", 7, 4095, 0, 4095),
        (">u2", 0, 4096, 0, 8191),
        ("uint16", 0, 65535, 0, 65535),
        ("int16", -1024, 3071, -1024, 3071),
        ("int8", 5, 5, 5, 6),
        ("float32", 0, 0.5, 0, 1),
    ],
)
def test_the_range_is_found(
    dtype: str, lowest: float, highest: float, black: float, white: float
) -> None:
    pixels = np.linspace(lowest, highest, 16).astype(dtype)
    found = source(pixels)
    assert (found.levels.black, found.levels.white) == (black, white)
    assert PixelRange.of_source(json.loads(json.dumps(found.describe()))) == found.levels


def test_what_is_stated_counts_and_tells_sources_apart() -> None:
    pixels = np.arange(16, dtype=np.uint16)
    usual, stated = source(pixels), source(pixels, white=1000)
    assert stated.levels == PixelRange(0, 1000)
    assert len({usual.fingerprint, stated.fingerprint, source(pixels, nodata=3).fingerprint}) == 3
    for options in ({"white": 1000.0}, {"nodata": float("nan")}, {"nodata": -9999.0}):
        kept = source(pixels.astype(np.float32) / 16, **options)
        described = json.loads(json.dumps(kept.describe()))
        again = ImageOptions.of_source(described)
        assert again.stated() == kept.options.stated()
        assert source(kept.images, **again.stated() | {"nodata": again.nodata}).fingerprint == (
            kept.fingerprint
        )


def test_no_data_does_not_widen_the_range() -> None:
    pixels = np.array([-32768, 5, 90, 100] * 4, np.int16)
    assert source(pixels, nodata=-32768).levels == PixelRange(5, 100, -32768)


@pytest.mark.parametrize(
    ("dtype", "stated", "message"),
    [
        ("uint8", {"white": 256}, "white 256 is no value of .* use a whole number from 0 to 255"),
        ("uint8", {"nodata": -9999}, "nodata -9999 is no value of"),
        ("uint16", {"nodata": 0.5}, "nodata 0.5 is no value of"),
        ("uint16", {"nodata": float("nan")}, "nodata nan is no value of"),
        ("float32", {"white": 0}, "give one above 0"),
        ("int16", {"white": 3}, "white 3 is not above black, 5"),
    ],
)
def test_values_that_cannot_be_are_refused(
    dtype: str, stated: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _ = source(np.full(16, 5).astype(dtype), **stated).levels


def test_what_an_array_says_to_hold_no_data_is_not_taken_for_pixels() -> None:
    pixels = np.ones((3, 6, 8), np.float32)
    pixels[1, 2:4] = -9999
    masked = np.ma.masked_equal(pixels, -9999)
    named = xarray.DataArray(pixels, dims=("time", "y", "x"), attrs={"_FillValue": -9999.0})
    for images in (masked, named, xarray.DataArray(masked, dims=("time", "y", "x"))):
        if not isinstance(images, xarray.DataArray) or images.attrs:
            with pytest.raises(InputError, match=r"16 pixels .* give nodata=-9999 to leave"):
                array_source(images)
        left = array_source(images, options=ImageOptions(nodata=-9999))
        assert left.levels.nodata == -9999
        np.testing.assert_array_equal(
            left.levels.nodata_pixels(left.images)
            if not isinstance(images, xarray.DataArray) or images.attrs
            else pixels == -9999,
            pixels == -9999,
        )


def test_fill_values_of_decoded_arrays_are_of_the_numbers_before(tmp_path: Path) -> None:
    notes = {"_FillValue": np.uint8(1), "scale_factor": 0.5}
    packed = np.full((2, 4, 6), 2, np.uint8)
    stored = xarray.Dataset({"a": (("n", "y", "x"), packed, notes)})
    stored.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "a.nc") as decoded:
        for images in (decoded["a"], decoded["a"].load()):
            assert (array_source(images).read(slice(2)) == 1).all()


def test_floats_out_of_range_are_refused_with_their_number() -> None:
    levels, images = PixelRange(0.0, 1.0), np.full((1, 2, 2), 0.5)
    images[0, 0] = 2, np.nan
    with pytest.raises(InputError, match=r"2 of 4, 1 of them NaN"):
        levels.check(images)
    PixelRange(0.0, 4095.0, float("nan")).check(images)
