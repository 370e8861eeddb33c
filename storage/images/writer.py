"""Many images written one block after another into a zarr group, whole or not at all."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from storage.atomic import remove_orphans, staged
from storage.errors import InputError
from storage.layout import STORE_SUFFIX
from storage.strict_store import checked_compressors

CHUNK_BYTES = 8 << 20  # of a zarr chunk, decoded
IMAGE_AXES = ("image", "row", "col", "channel")


@contextmanager
def write_images(
    path: Path, shape: tuple[int, ...], name: str, attributes: dict[str, Any]
) -> Iterator["ImageWriter"]:
    """A writer of float32 images, which appear under `path` when the context ends well.

    Args:
        path: of the zarr v3 group, which xarray opens; ends in .zarr.
        shape: (n, height, width[, channels]).
        name: of the array in it, over (image, row, col[, channel]).
        attributes: of the group.

    Yields:
        The writer. Memory: a chunk of images, beside those that are written.

    Raises:
        InputError: another ending, something of that name that is there already, and a folder that
            does not exist.
    """
    check_target(path)
    remove_orphans(path)
    with staged(path) as staging:
        writer = ImageWriter(staging, shape, name, attributes)
        yield writer
        writer.finish()
        with warnings.catch_warnings():
            # zarr's, that this is no part of its format yet; xarray warns where it is missing
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(staging)
        check_target(path)  # once more, it took a while


def check_target(path: Path) -> None:
    """Raise InputError where `write_images` would."""
    if path.suffix != STORE_SUFFIX:
        raise InputError(f"cannot write images to {path}: use a name that ends in {STORE_SUFFIX}")
    if os.path.lexists(path):
        raise InputError(f"{path} is there already: move it away, or choose another name")
    if not path.parent.is_dir():
        raise InputError(f"no folder {path.parent} to write {path.name} into: make it first")


class ImageWriter:
    """Gathers images until they fill a chunk, for a chunk is written once."""

    def __init__(
        self, path: Path, shape: tuple[int, ...], name: str, attributes: dict[str, Any]
    ) -> None:
        image_bytes = 4 * int(np.prod(shape[1:]))
        self._chunk = min(shape[0], max(1, CHUNK_BYTES // image_bytes))
        group = zarr.open_group(path, mode="w", zarr_format=3, attributes=attributes)
        self._array: zarr.Array = group.create_array(
            name,
            shape=shape,
            dtype="float32",
            chunks=(self._chunk, *shape[1:]),
            compressors=checked_compressors(4),
            dimension_names=IMAGE_AXES[: len(shape)],
            config={"write_empty_chunks": True},  # an absent chunk is damage
        )
        self._waiting = np.empty((self._chunk, *shape[1:]), np.float32)
        self._filled = self._written = 0

    def write(self, images: np.ndarray) -> None:
        """Take the next images, (m, height, width[, channels])."""
        while len(images):
            part = images[: self._chunk - self._filled]
            self._waiting[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            images = images[len(part) :]
            if self._filled == self._chunk:
                self.finish()

    def finish(self) -> None:
        """Write what is gathered."""
        stop = self._written + self._filled
        self._array[self._written : stop] = self._waiting[: self._filled]
        self._written, self._filled = stop, 0
