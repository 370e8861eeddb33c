"""`decode`: images from codes and a dictionary."""

from typing import Any

import numpy as np
import xarray

from analysis.encoding.decoding import Decoding, check_decodable
from analysis.encoding.encode import DIMS
from analysis.encoding.stages import Dictionaries, in_stages
from analysis.measures.codebook import preprocessing_of
from analysis.reconstruction.overlap import block_images
from storage import InputError
from storage.codes.code_store import open_codes
from storage.images.writer import IMAGE_AXES
from storage.places.place import Place
from storage.plain_attributes import LEVEL, OF_IMAGES, describe


def decode(codes: xarray.DataArray | str | Place, dictionary: Dictionaries) -> xarray.DataArray:
    """Images from codes: bit for bit what `reconstruct` makes of the images that were encoded.

    Each position gets the centroid of its code, or the sum of those of its stages, overlaps are
    averaged, and pixels without any are black.

    Args:
        codes: as `encode` gives them, (image, row, col) or (row, col) for one image, whose
            attributes say how patches were cut; some of the images will do, all positions are
            needed. Or the path or URL of codes that are stored, every chunk of which is checked.
        dictionary: the one that they are of, as for `reconstruct`; of several stages a list.

    Returns:
        (image, row, col[, channel]), or (row, col[, channel]), float64, pixel levels of the
        dictionary. Memory: the result; of codes that are backed by Dask it is lazy, a task for each
        chunk of images.

    Raises:
        InputError: codes without their attributes, with other numbers, or of preprocessed patches;
        IntegrityError: another dictionary, or damaged codes.
    """
    nodes = in_stages(dictionary)
    check_decodable(preprocessing_of(nodes[0]))
    centroids = [np.asarray(one["centroids"]) for one in nodes]
    if isinstance(codes, str | Place):
        store = open_codes(codes)
        shape = store.array.shape
        return _named(_decoded(Decoding.of(store.read, shape, store.decoding, centroids)), {})
    if codes.dtype.kind not in "ui":
        raise InputError(
            f"codes are whole numbers, not {codes.dtype}: give them as encode made them"
        )
    stack = _in_order(codes)
    images = {"image": codes["image"]} if "image" in codes.indexes else {}
    attributes = dict(codes.attrs)
    check = Decoding.of(_reader(np.empty(0)), stack.shape, attributes, centroids)
    if hasattr(stack.data, "dask"):
        values = _lazily(stack.data, attributes, centroids, check.image_shape)
    else:
        read = _reader(stack.values)
        values = _decoded(Decoding.of(read, stack.shape, attributes, centroids))
    found = _named(values, images)
    return found if "image" in codes.dims else found[0].drop_vars("image")


def _in_order(codes: xarray.DataArray) -> xarray.DataArray:
    """Codes as (image, row, col). Raises: InputError for other axes."""
    stack = codes if "image" in codes.dims else codes.expand_dims("image")
    dims = ("stage", *DIMS) if "stage" in stack.dims else DIMS
    if set(stack.dims) != set(dims):
        raise InputError(
            f"codes have the axes {', '.join(map(str, codes.dims))} where {', '.join(DIMS)} are"
            " expected, or row, col of one image: give them as encode made them"
        )
    return stack.transpose(*dims)


def _reader(values: np.ndarray) -> Any:
    return lambda images, rows, cols: values[..., images, rows, cols]


def _decoded(decoding: Decoding) -> np.ndarray:
    """All images in memory."""
    found = np.empty((decoding.shape[0], *decoding.image_shape))
    step = block_images(decoding.image_shape, decoding.spec)
    for first, block in decoding.blocks(step):
        found[first : first + len(block.images), block.rows, block.cols] = block.images
    return found


def _lazily(
    codes: Any,
    attributes: dict[str, Any],
    centroids: list[np.ndarray],
    image_shape: tuple[int, ...],
) -> Any:
    """The same as a Dask array, a task for each chunk of whole images."""
    stages = list(range(codes.ndim - 3))  # their axis, if any
    whole = codes.rechunk({axis: -1 for axis in range(codes.ndim) if axis != len(stages)})
    return whole.map_blocks(
        _decode_chunk,
        attributes,
        centroids,
        chunks=(whole.chunks[len(stages)], *((length,) for length in image_shape)),
        drop_axis=stages,
        new_axis=[3] if len(image_shape) == 3 else None,
        dtype=np.float64,
        meta=np.empty((0,) * (1 + len(image_shape))),
    )


def _decode_chunk(
    codes: np.ndarray, attributes: dict[str, Any], centroids: list[np.ndarray]
) -> Any:
    return _decoded(Decoding.of(_reader(codes), codes.shape, attributes, centroids))


def _named(values: Any, coordinates: dict[str, Any]) -> xarray.DataArray:
    found = xarray.DataArray(
        values,
        coordinates,
        IMAGE_AXES[: values.ndim],
        name="rebuilt",
        attrs={"units": LEVEL, "long_name": "images from codes"},
    )
    describe(found, OF_IMAGES)
    return found
