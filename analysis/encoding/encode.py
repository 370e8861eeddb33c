"""`encode` and `features`: images as lazy arrays, of codes or of what patches say of centroids."""

from typing import Any
from uuid import uuid4

import numpy as np
import xarray

from analysis.encoding.encoding import Encoding
from analysis.encoding.pooling import FeatureOptions, Features
from analysis.encoding.staged_codes import StagedCodes
from analysis.encoding.stages import Dictionaries, in_stages
from analysis.encoding.work import Work, place_of
from analysis.measures.codebook import AnyDictionary, Node, node_of
from analysis.reconstruction.image_stack import in_order
from storage import ImageSource, PatchSpec
from storage.plain_attributes import meaning, plain

DIMS = ("image", "row", "col")


def encode(
    images: Any,
    dictionary: Dictionaries,
    *,
    spec: PatchSpec | dict[str, Any] | str | None = None,
    stride: int | None = None,
    white: float | None = None,
) -> xarray.DataArray:
    """Codes of an image, or of a stack of images: the numbers of their patches' nearest centroids.

    Labels are exact: float64's, of equal distances the lowest number.

    Args:
        images: as for `reconstruct`; or an ImageSource, or an array of dask or zarr, which are read
            chunk by chunk as codes are computed. All of one size.
        dictionary: as for `reconstruct`; or a list of them, one for each stage, see `open_stages`:
            what one leaves of a patch is what the next encodes.
        spec: as for `reconstruct`.
        stride: as for `reconstruct`.
        white: as for `reconstruct`.

    Returns:
        (image, row, col), or (row, col) for one image: uint16 up to 65,534 centroids, else uint32,
        backed by Dask, one task for each chunk of up to 524,288 codes. Where no patch is kept, as
        where all is black, stands the type's largest number. Coordinates: number of the image, row
        and column of the pixel at which the patch begins (below 0 in a reflected border).
        Attributes: what `decode` needs beside the dictionary. Of several stages there is an axis
        `stage`, the first. Memory, as it is computed: the pixels
        and patches of a chunk in each task, and the tables of the engine.

    Raises:
        InputError: images that do not fit the dictionary, in shape, type or range, or are smaller
            than a patch or of several sizes; as for `reconstruct`. The range of what is lazy shows,
            if at all, as it is computed.
    """
    first, *later = in_stages(dictionary)
    encoding, alone = opened(images, first, spec=spec, stride=stride, white=white)
    found = lazily(StagedCodes.of(encoding, later) if later else encoding)
    return found.isel(image=0).drop_vars("image") if alone else found


def features(
    images: Any,
    dictionary: AnyDictionary,
    kind: str = "hard",
    pool: str | int = "image",
    *,
    tf_idf: bool = False,
    spec: PatchSpec | dict[str, Any] | str | None = None,
    stride: int | None = None,
    white: float | None = None,
) -> xarray.DataArray:
    """What the patches of an image, or of each image of a stack, say of all centroids.

    Patches are pooled over parts of the image; those that are not kept, as where all is black, add
    nothing, and a pool without any is 0. Of a pool's patches features are

    - hard: the share whose nearest centroid it is, exact (a bag of visual words);
    - triangle: the sum of max(0, mean distance to all centroids − distance), as in Coates, Lee & Ng
      2011, An analysis of single-layer networks in unsupervised feature learning;
    - soft: the mean of exp(−distance² / (2 σ²)), divided by the sum of these over all centroids,
      where σ² is the dictionary's training MSE: the posterior of the mixture of round Gaussians
      that has the centroids as its means, and the variance that is likeliest for the patches.

    Args:
        images: as for `encode`.
        dictionary: as for `reconstruct`.
        kind: "hard", "triangle" or "soft".
        pool: parts of the image, by the position of a patch: "image", "quadrants", or "grid:N" (or
            N) for N × N parts.
        tf_idf: of hard features, multiply by ln(n / n_j), for n training patches of which n_j have
            centroid j (Sivic & Zisserman 2003, Video Google, who count words in all images, too).
        spec: as for `reconstruct`.
        stride: as for `reconstruct`.
        white: as for `reconstruct`.

    Returns:
        (image, feature), or (feature,) for one image: float32, backed by Dask, one task for each
        chunk of images. Coordinates: number of the image; `pool`, in reading order, and `atom`, the
        number of the centroid, of each feature. Triangles are in the centroids' unit. Memory, as it
        is computed: the pixels and patches of a part of a chunk in each task, the features of a
        chunk as float64, and the centroids.

    Raises:
        InputError: as `encode` does; an unknown kind or pool, tf-idf of other than hard features, a
            dictionary that does not say its MSE or counts, where they are needed.
    """
    options, dictionary = FeatureOptions.of(kind, pool, tf_idf), node_of(dictionary)
    encoding, alone = opened(images, dictionary, spec=spec, stride=stride, white=white)
    found = lazily(Features.of(encoding, dictionary, options))
    return found[0].drop_vars("image") if alone else found


def opened(images: Any, dictionary: Node, **given: Any) -> tuple[Encoding, bool]:
    """What `encode` is told, checked; and whether that is one image alone."""
    axes = dictionary["centroids"].ndim
    alone = not isinstance(images, ImageSource) and np.ndim(images) == axes - 1
    named = isinstance(images, xarray.DataArray)
    stack = in_order(images) if named else images
    stack = (stack.expand_dims("image") if named else stack[np.newaxis]) if alone else stack
    encoding = Encoding.of(stack, dictionary, **given)
    if isinstance(images, np.ndarray) and given["white"] is None:
        encoding.unit.brought(images)  # which only looks at them
        encoding.unit.check_reach()
    return encoding, alone


def lazily(work: Work) -> xarray.DataArray:
    """What is made chunk by chunk as a lazy array, a task for each."""
    import dask.array  # slow to load

    lengths = tuple(
        tuple(min(size, length - start) for start in range(0, length, size))
        for size, length in zip(work.chunks, work.shape, strict=True)
    )
    values = dask.array.map_blocks(
        _chunk,
        work,
        chunks=lengths,
        dtype=work.dtype,
        meta=np.empty((0,) * len(work.shape), work.dtype),
        name=f"{work.name}-{uuid4().hex}",
    )
    axes = dict.fromkeys(axis for axis, *_ in work.coordinates.values())
    return xarray.DataArray(
        values,
        {
            name: (axis, places, meaning(means))
            for name, (axis, places, means) in work.coordinates.items()
        },
        tuple(axes),
        name=work.name,
        attrs=plain(work.facts) | meaning(work.name),
    )


def _chunk(work: Work, block_info: Any = None) -> np.ndarray:
    """One chunk."""
    return work.made(place_of(work, block_info[None]["chunk-location"]))
