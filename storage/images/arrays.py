"""Image sources of arrays: of numpy, masked or not, xarray, Dask, zarr and h5py."""

from dataclasses import replace
from typing import Any

import numpy as np

from storage.errors import InputError
from storage.images.array_reader import ListReader, one_array
from storage.images.axes import letters_of, named_layout, named_letters
from storage.images.formats.hdf5 import dimension_names
from storage.images.formats.pieces import (
    PACKED,
    ChunkedReader,
    checked_fills,
    meaning,
    rows_together,
    way_out,
    without_data,
)
from storage.images.options import UNSTATED, ImageOptions
from storage.images.source import ImageSource


def array_source(
    images: Any, split: str = "train", options: ImageOptions = UNSTATED, name: str = "images"
) -> ImageSource:
    """The source of an array.

    Args:
        images: of numpy, also masked, or of xarray, whose axes tell the layout by their names, any
            others numbering images; or of Dask, zarr, h5py or torch; or a list of images of any
            sizes, (rows, columns[, channels]). What is lazy is read window by window.
        split: "train" or "test".
        options: what is stated of the images; their no-data value fills what is masked.
        name: of the source.

    Raises:
        InputError: no images, or an unknown number; masked pixels, or pixels of the value that the
            array's own attributes state for no data, where no such value is given.
    """
    if isinstance(images, list | tuple) and all(np.ndim(image) > 1 for image in images):
        each = [one_image(image, options) for image in images]
        return ImageSource(name, split, ListReader(each, name), options)
    images = one_array(images)
    if any(side != side for side in getattr(images, "shape", ())):  # of Dask
        raise InputError("the number of images is unknown: call compute_chunk_sizes() first")
    if (lazy := _lazy_reader(images, options, name)) is not None:
        return ImageSource(name, split, lazy, options)
    if options.layout is None and (layout := named_layout(getattr(images, "dims", ()))):
        options = replace(options, layout=layout)
    return ImageSource(name, split, _in_memory(images, options, options.layout or "NHWC"), options)


def one_image(image: Any, options: ImageOptions) -> np.ndarray:
    """An image of several that are given one by one, its axes in the usual order by their names.

    Raises: InputError as `array_source` does, and for a layout, which is of images in one array.
    """
    if options.layout is not None:
        raise InputError(
            "images that are given one by one are (rows, columns[, channels]) each: leave out"
            " layout, or stack them"
        )
    image = one_array(image)
    letters = named_layout(getattr(image, "dims", ()))
    if letters and sorted(letters) in (["H", "W"], ["C", "H", "W"]):
        image = image.transpose(*(image.dims[letters.index(a)] for a in "HWC" if a in letters))
    return _in_memory(image, options, "HWC")


def _in_memory(images: Any, options: ImageOptions, letters: str) -> np.ndarray:
    """As an array of numpy, of the type that the array's own attributes state; see `_filled`.

    letters: of the axes, in their order.
    Raises: InputError for pixels of no data, where the options do not say what becomes of them.
    """
    if options.nodata is None:
        _check_mask(images)
    values = _filled(images, options)
    meant, fills = meaning(values.dtype, _notes(images))
    if meant != values.dtype:
        values = np.ascontiguousarray(values).view(meant)
    channels = letters[: values.ndim].find("C")
    for fill in checked_fills(fills, options):
        if missing := int(without_data(values, fill, None if channels < 0 else channels).sum()):
            raise InputError(
                f"{missing} pixels of the images hold no data (the value that their attributes"
                f" state for them): {way_out(fill)}"
            )
    return values


def _notes(images: Any) -> dict[str, Any]:
    """Attributes of an array, and those of xarray that it was read with, where it has not changed
    the numbers by them.
    """
    encoding = getattr(images, "encoding", {})
    if any(name in encoding for name in PACKED):
        encoding = {}
    return {**encoding, **getattr(images, "attrs", {})}


def _filled(images: Any, options: ImageOptions) -> np.ndarray:
    """As an array of numpy; what is masked holds the no-data value."""
    values = getattr(images, "data", images) if hasattr(images, "dims") else images
    values = np.asanyarray(values)
    if isinstance(values, np.ma.MaskedArray):
        values = values.filled(options.nodata) if np.ma.is_masked(values) else values.data
    return values


def _lazy_reader(images: Any, options: ImageOptions, name: str) -> ChunkedReader | None:
    """Reads an array that is not in memory, or has several axes of images; None for others."""
    shape, dims = getattr(images, "shape", None), getattr(images, "dims", ())
    if isinstance(images, np.ndarray) or shape is None or not hasattr(images, "dtype"):
        return None
    of_xarray = hasattr(images, "variable")
    if dims and not of_xarray:
        dims = dimension_names(images)
    letters = named_letters(dims) if options.layout is None else None
    if dims and letters is None:
        letters = named_layout(dims)
    in_memory = of_xarray and getattr(images.variable, "_in_memory", True)
    if in_memory and (letters is None or letters.count("N") < 2):
        return None
    where = f"the array {name}"
    letters = letters or letters_of(shape, options.layout, where)
    chunks = getattr(images, "chunks", None) or getattr(images, "encoding", {}).get("chunks")
    if chunks is None:
        chunks = rows_together(shape, letters, np.dtype(images.dtype))
    chunks = [max(part) if isinstance(part, tuple) else int(part) for part in chunks]

    def part(place: tuple[slice, ...]) -> np.ndarray:
        read = images[place]
        block = read.data if hasattr(read, "dims") else read
        if hasattr(block, "compute"):  # numpy would drop what Dask has masked
            block = block.compute()
        if options.nodata is None:
            _check_mask(block)
        return _filled(block, options)

    dtype, notes = np.dtype(images.dtype), _notes(images)
    return ChunkedReader(where, shape, dtype, letters, chunks, part, notes, options)


def _check_mask(images: Any) -> None:
    """Raise InputError for pixels that are masked."""
    values = getattr(images, "data", images) if hasattr(images, "dims") else images
    if np.ma.is_masked(values):
        raise InputError(
            f"{int(np.ma.getmaskarray(values).sum())} pixels of the images hold no data (masked):"
            " give nodata=-9999 to leave their patches out, or fill them"
        )
