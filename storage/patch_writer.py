"""Building a patch store: in a folder beside its place, chunk by chunk, moved there when whole."""

from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from zarr.codecs import BytesCodec
from zarr.storage import LocalStore

from storage.errors import IntegrityError
from storage.geometry import PatchSpec, blosc_layout, chunk_rows
from storage.patch_store import CHUNKS, KIND, SCHEMA
from storage.strict_store import checked_compressors, open_strict


def create_staging(
    staging: Path,
    *,
    spec: PatchSpec,
    source: dict[str, Any],
    channels: int,
    offsets: np.ndarray,
    order: np.ndarray,
) -> set[int]:
    """Make the folder in which a store is built, or take up one that a killed run left.

    offsets: (images + 1,) int64. order: (images,) int64.
    Returns: indices of the chunks that are already there (each was renamed in whole).
    """
    attributes = {
        "kind": KIND,
        "schema": SCHEMA,
        "spec": spec.to_dict(),
        "source": source,
        "n_rows": int(offsets[-1]),
        "dim": spec.dim(channels),
        "versions": {name: version(name) for name in ("zarr", "numcodecs", "numpy")},
        "complete": False,
    }
    if _can_go_on(staging, attributes, offsets, order):
        return present_chunks(staging)
    group = zarr.create_group(staging, zarr_format=3, overwrite=True, attributes=attributes)
    for name, values, axis in (("offsets", offsets, "image_edge"), ("order", order, "image")):
        array = group.create_array(
            name,
            shape=values.shape,
            dtype="int64",
            compressors=checked_compressors(8),
            dimension_names=(axis,),
            config={"write_empty_chunks": True},
        )
        array[:] = values
    _create_patches(group, spec.dim(channels), np.dtype(source["dtype"]), int(offsets[-1]))
    return set()


def _can_go_on(
    staging: Path, attributes: dict[str, Any], offsets: np.ndarray, order: np.ndarray
) -> bool:
    """Whether a folder holds the beginning of exactly this store."""
    if not (staging / "patches" / "zarr.json").is_file():  # made last
        return False
    try:
        group = zarr.open_group(open_strict(staging), mode="r")
        found = dict(group.attrs) | {"complete": False}
        return found == attributes and all(
            np.array_equal(cast(zarr.Array, group[name])[:], values)
            for name, values in (("offsets", offsets), ("order", order))
        )
    except (ValueError, RuntimeError, KeyError, IntegrityError):  # damaged: made anew
        return False


def _create_patches(group: zarr.Group, dim: int, dtype: np.dtype, n_rows: int) -> None:
    shuffled, typesize, blocksize = blosc_layout(dim, dtype.itemsize)
    group.create_array(
        "patches",
        shape=(n_rows, dim),
        chunks=(min(chunk_rows(dim, dtype.itemsize), n_rows), dim),
        dtype=dtype,
        fill_value=0,
        serializer=BytesCodec(endian=None if dtype.itemsize == 1 else "little"),
        compressors=checked_compressors(
            typesize, shuffle="shuffle" if shuffled else "noshuffle", blocksize=blocksize
        ),
        dimension_names=("patch", "pixel"),
    )


def write_chunk(staging: Path, index: int, rows: np.ndarray) -> None:
    """Write one whole chunk; rows: (chunk_rows, dim), fewer for the last."""
    array = zarr.open_array(
        # Looking for empty chunks takes four times as long as writing them.
        LocalStore(staging / "patches"),
        mode="r+",
        config={"write_empty_chunks": True},
    )
    start = index * array.chunks[0]
    array[start : start + len(rows)] = rows


def read_order(staging: Path) -> np.ndarray:
    """The order of the images in a store that is being built, (images,) int64."""
    return cast(np.ndarray, zarr.open_array(open_strict(staging), path="order", mode="r")[:])


def present_chunks(path: Path) -> set[int]:
    """Indices of the chunks whose files are there."""
    return {
        int(folder.name)
        for folder in (path / CHUNKS).glob("*")
        if folder.name.isdigit() and (folder / "0").is_file()
    }


def finish_staging(staging: Path, path: Path) -> None:
    """Check that every chunk is there, mark the store complete, and move it to its name."""
    group = zarr.open_group(staging, mode="r+")
    array = cast(zarr.Array, group["patches"])
    missing = set(range(array.cdata_shape[0])) - present_chunks(staging)
    if missing:
        raise IntegrityError(f"{len(missing)} chunks of {staging} were not written: run it again")
    group.attrs["complete"] = True
    staging.rename(path)
