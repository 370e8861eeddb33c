"""What workers run: count the kept patches of some images, write one chunk of a store."""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.extraction.patches import count_patches, cut_patches
from storage.images.source import ImageReference, ImageSource
from storage.patch_spec import CHUNK_BYTES, ChunkPlan, PatchSpec
from storage.patch_writer import read_order, write_chunk

SLICE_BYTES = 8 << 20  # of images with their sums and patches, in work at once in one task
Images = ImageSource | ImageReference  # a reference is opened where the task runs


def count_block(images: Images, spec: PatchSpec, start: int, stop: int) -> np.ndarray:
    """Number of kept patches of the images [start, stop), (m,) int64."""
    source = _opened(images)
    return count_patches(source.read(slice(start, stop)), spec, source.levels)


def write_block(images: Images, spec: PatchSpec, path: Path, plan: ChunkPlan) -> None:
    """Write one chunk of the store that is built, or mended, at `path`."""
    source = _opened(images)
    order, step = _order(path), images_at_once(source, spec)
    rows = np.empty((plan.rows, spec.dim(source.channels)), source.dtype)
    done, skip = 0, plan.skip
    # A chunk may draw on any number of images with few patches each.
    for first in range(plan.first, plan.stop, step):
        chosen = source.read(order[first : min(first + step, plan.stop)])
        cut = cut_patches(chosen, spec, source.levels)[skip : skip + plan.rows - done]
        rows[done : done + len(cut)] = cut
        done, skip = done + len(cut), 0
    write_chunk(path, plan.index, rows)


def task_bytes(source: ImageSource, spec: PatchSpec) -> int:
    """What one task allocates beside the images, in bytes, at most.

    A chunk's rows, the two copies that compressing takes, and a slice of images in work.
    """
    largest_chunk = max(CHUNK_BYTES, spec.dim(source.channels) * 8)
    return 3 * largest_chunk + max(SLICE_BYTES, _image_bytes(source, spec))


def images_at_once(source: ImageSource, spec: PatchSpec) -> int:
    """Images that a task has in work at once."""
    return max(1, SLICE_BYTES // _image_bytes(source, spec))


def _image_bytes(source: ImageSource, spec: PatchSpec) -> int:
    """Pixels, three arrays of sums of up to 8 bytes, and all patches of one image.

    Where pixels may hold no data, three marks beside the sums.
    """
    itemsize = source.dtype.itemsize + 3 * (source.options.nodata is not None)
    down, across = spec.grid(*source.image_shape[:2])
    patches = down * across * spec.dim(source.channels) * itemsize
    return math.prod(source.image_shape) * (itemsize + 24) + patches


def _opened(images: Images) -> ImageSource:
    return images if isinstance(images, ImageSource) else _open(images)


@lru_cache(maxsize=1)
def _open(reference: ImageReference) -> ImageSource:
    """The images of a reference, opened once in each worker; their fingerprint is in it."""
    return reference.open()


@lru_cache(maxsize=2)
def _order(path: Path) -> np.ndarray:
    """The order of the images, read once in each process; the name fixes the content."""
    return read_order(path)
