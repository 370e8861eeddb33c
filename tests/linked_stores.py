"""Patch stores of any length on the disk space of a few chunks: the others are hard links."""

import os
from pathlib import Path

import numpy as np

from storage.images.source import ImageSource, open_images
from storage.layout import building_place, patch_store_path
from storage.patch_spec import PatchSpec, chunk_rows, codecs
from storage.patch_store import PatchStore, open_patches, store_name
from storage.patch_writer import TileLayout, create_staging, finish_staging, write_chunk


def linked_store(out: Path, rows: np.ndarray, n_rows: int, images: ImageSource) -> PatchStore:
    """A store of `n_rows` rows: those of some whole chunks, the last of them over and over.

    rows: (m, d) uint8, m a multiple of `chunk_rows`, or fewer than a chunk and repeated to fill it.
    images: (n, height, width) of which, in its name and metadata, it is the store of all
    1 × d patches; so a sweep over these images finds it.
    """
    dim = rows.shape[1]
    size = chunk_rows(dim, 1)
    if len(rows) < size:
        rows = np.concatenate([rows] * (size // len(rows)) + [rows[: size % len(rows)]])
    spec = PatchSpec(1, dim)
    source = images.describe()
    path = patch_store_path(out, store_name(source, spec))
    staging = building_place(path)
    staging.parent.mkdir(parents=True, exist_ok=True)
    many = len(images)
    offsets = np.linspace(0, n_rows, many + 1).astype(np.int64)
    order = np.arange(many)
    create_staging(staging, spec, source, TileLayout(offsets, order), codecs(spec, 1, 1)[0])
    size, chunks = min(size, n_rows), -(-n_rows // size)
    real = min(len(rows) // size, chunks)
    for index in range(real):
        write_chunk(staging, index, rows[index * size : min((index + 1) * size, n_rows)])
    last = staging / "patches" / "c" / str(real - 1) / "0"
    for index in range(real, chunks):
        folder = staging / "patches" / "c" / str(index)
        folder.mkdir()
        os.link(last, folder / "0")
    finish_staging(staging, path)
    return open_patches(path)


def striped_images(path: Path, dim: int) -> ImageSource:
    """Ten images, as wide as rows of `dim` pixels, in a .npy file."""
    np.save(path, np.arange(10 * 2 * dim).reshape(10, 2, dim).astype(np.uint8) | 1)
    return open_images(str(path))
