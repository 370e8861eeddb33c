"""Building a patch store: in a folder beside its place, chunk by chunk, moved there when whole."""

import json
import math
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, NamedTuple, cast

import numpy as np
import zarr
from zarr.codecs import BytesCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from storage.atomic import remove, replace_durably, sync_tree
from storage.errors import DamageError
from storage.integrity import SEALING, checksum_of, file_fault, read_checksums, write_seal
from storage.layout import BEGUN, METADATA, PARTIAL, PIXELS, SUMS, building_place, retired_place
from storage.patch_spec import Codec, PatchSpec, chunk_rows, codecs
from storage.patch_store import KIND, SCHEMA, PatchStore
from storage.places.place import Place, each
from storage.places.remote import RemotePlace
from storage.places.zarr_store import store_at
from storage.strict_store import checked_compressors, open_strict


class TileLayout(NamedTuple):
    """Where the rows of each tile lie.

    offsets: (tiles + 1,) int64, in the store's order. order: (tiles,) int64, which tile stands at
    each place. side: windows of a tile each way, None where each image is one tile. images:
    (tiles,) int64, the image of each tile; None where tile i is image i.
    """

    offsets: np.ndarray
    order: np.ndarray
    side: int | None = None
    images: np.ndarray | None = None


def take_up_staging(
    staging: Place, spec: PatchSpec, source: dict[str, Any], tiles: TileLayout
) -> set[int] | None:
    """Indices of the chunks that a killed run left, whole, in the folder in which it built a store.

    None where that is no beginning of this one: then it is there, empty.
    """
    attributes = _attributes(spec, source, tiles)
    channels, dtype = math.prod(source["image_shape"][2:]), np.dtype(source["dtype"])
    for codec in codecs(spec, channels, dtype.itemsize):
        if begins_with(staging, _beginning(attributes, tiles, codec)):
            return whole_chunks(staging)
    remove(staging)
    staging.mkdir(parents=True, exist_ok=True)
    return None


def create_staging(
    staging: Place, spec: PatchSpec, source: dict[str, Any], tiles: TileLayout, codec: Codec
) -> None:
    """Begin a store in this folder, in which there is none."""
    write_beginning(staging, _beginning(_attributes(spec, source, tiles), tiles, codec))


def write_beginning(staging: Place, files: dict[str, bytes]) -> None:
    """Write the files of a store that is begun, by their paths within it."""
    if isinstance(staging, RemotePlace):  # the mark of a beginning comes last
        files = {key: files[key] for key in files if key != METADATA} | {BEGUN: files[METADATA]}
    for key, content in files.items():
        (staging / key).parent.mkdir(parents=True, exist_ok=True)
        (staging / key).write_bytes(content)


def _attributes(spec: PatchSpec, source: dict[str, Any], tiles: TileLayout) -> dict[str, Any]:
    """Those of a store that is begun."""
    attributes = {
        "kind": KIND,
        "schema": SCHEMA,
        "spec": spec.to_dict(),
        "source": source,
        "n_rows": int(tiles.offsets[-1]),
        "dim": spec.dim(math.prod(source["image_shape"][2:])),
        "versions": {name: version(name) for name in ("zarr", "numcodecs", "numpy")},
        "complete": False,
    }
    if tiles.side is not None:
        attributes["tile"] = tiles.side
    return attributes


def _beginning(attributes: dict[str, Any], tiles: TileLayout, codec: Codec) -> dict[str, bytes]:
    """The files of a store that has no patches yet, by their paths within it."""
    files: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(files), zarr_format=3, attributes=attributes)
    indices = [("offsets", tiles.offsets, "image_edge"), ("order", tiles.order, "image")]
    if tiles.images is not None:
        indices = [("offsets", tiles.offsets, "tile_edge"), ("order", tiles.order, "tile")]
        indices.append(("images", tiles.images, "tile"))
    for name, values, axis in indices:
        array = group.create_array(
            name,
            shape=values.shape,
            dtype="int64",
            compressors=checked_compressors(8),
            dimension_names=(axis,),
            config={"write_empty_chunks": True},
        )
        array[:] = values
    dtype = np.dtype(attributes["source"]["dtype"])
    _create_patches(group, attributes["n_rows"], attributes["dim"], dtype, codec)
    return {key: content.to_bytes() for key, content in files.items()}


def _create_patches(
    group: zarr.Group, n_rows: int, dim: int, dtype: np.dtype, codec: Codec
) -> zarr.Array:
    return group.create_array(
        "patches",
        shape=(n_rows, dim),
        chunks=(min(chunk_rows(dim, dtype.itemsize), n_rows), dim),
        dtype=dtype,
        fill_value=0,
        serializer=BytesCodec(endian=None if dtype.itemsize == 1 else "little"),
        compressors=checked_compressors(
            codec.typesize,
            shuffle="shuffle" if codec.shuffled else "noshuffle",
            blocksize=codec.blocksize,
        ),
        dimension_names=("patch", "pixel"),
    )


def stored_bytes(rows: np.ndarray, codec: Codec) -> int:
    """Bytes that some rows of a store take on disk, (n, dim)."""
    files: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(files), zarr_format=3)
    _create_patches(group, len(rows), rows.shape[1], rows.dtype, codec)[:] = rows
    return sum(len(content) for key, content in files.items() if "/c/" in key)


def begins_with(staging: Place, beginning: dict[str, bytes]) -> bool:
    """Whether a folder holds the beginning of exactly this store, sealed or not."""
    try:
        for key, content in beginning.items():
            begun = key == METADATA and isinstance(staging, RemotePlace)
            found = (staging / (BEGUN if begun else key)).read_bytes()
            if key == METADATA:
                document = json.loads(found)
                kept = {n: v for n, v in document["attributes"].items() if n not in SEALING}
                document["attributes"] = kept | {"complete": False}
                if document != json.loads(content):
                    return False
            elif found != content:
                return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # damaged: made anew
        return False
    return True


def write_chunk(path: Place, index: int, rows: np.ndarray) -> None:
    """Write one whole chunk in one step; rows: (chunk_rows, dim), fewer for the last."""
    # not by its group, whose metadata may not be there yet
    array = zarr.open_array(store_at(path / "patches"), mode="r+", zarr_format=3)
    array = array.with_config({"write_empty_chunks": True})  # an absent chunk is damage
    start = index * array.chunks[0]
    array[start : start + len(rows)] = rows


def read_index(path: Place, name: str) -> np.ndarray:
    """Order or offsets of the tiles in a store that is being built, int64."""
    array = zarr.open_array(open_strict(path), path=name, mode="r", zarr_format=3)
    return cast(np.ndarray, array[:])


def whole_chunks(path: Place) -> set[int]:
    """Indices of the chunks that are there and whole; a power cut may leave others."""
    files = {
        int(folder.name): folder / "0"
        for folder in (path / "patches" / "c").glob("*")
        if folder.name.isdigit()
    }
    faults = each(lambda file: file_fault(file, None), files.values(), path)
    return {index for index, fault in zip(files, faults, strict=True) if fault is None}


def finish_staging(staging: Place, path: Place) -> None:
    """Check that every chunk is there, whole, seal the store, and move it to its name.

    A damaged store of that name gives way.
    """
    remove_half_written(staging)
    checksums = read_checksums(staging)
    expected = zarr.open_array(store_at(staging / "patches"), mode="r").cdata_shape[0]
    if missing := expected - len(checksums["patches"]):
        raise DamageError(f"{missing} chunks of {staging} were not written: run it again")
    write_seal(staging, checksums)
    if isinstance(path, RemotePlace) or isinstance(staging, RemotePlace):
        remove(path / BEGUN)
        return
    retired = path.with_name(retired_place(path).name)
    remove(retired)
    if path.exists():
        path.rename(retired)
    replace_durably(staging, path)
    remove(retired)


def leftovers(path: Place) -> list[Place]:
    """What a killed run left beside a store that is whole, or in it as it mended it."""
    beside = [path / BEGUN]
    if not isinstance(path, RemotePlace):
        beside = [building_place(path), retired_place(path)]
    places = [*beside, path / PIXELS, path / SUMS]
    there = {place.name for place in path.iterdir()} if isinstance(path, RemotePlace) else None
    return [left for left in places if (left.exists() if there is None else left.name in there)]


def remove_leftovers(path: Place) -> None:
    """Remove what killed runs left of a store; assumes that no other process builds it."""
    for left in leftovers(path):
        remove(left)


def remove_half_written(folder: Place) -> None:
    """Remove files, of zarr's and of seals, that were half-written when a run was killed.

    Assumes that no other process writes there.
    """
    if isinstance(folder, RemotePlace):  # objects are whole or absent
        return
    for file in folder.rglob(f"*{PARTIAL}"):
        file.unlink(missing_ok=True)


def seal_again(store: PatchStore, chunks: Iterable[int]) -> None:
    """Flush chunks that were written anew, and state their checksums where they changed.

    They change where another version of the codec compresses otherwise.
    """
    stated = store.attributes["checksums"]
    found = dict(stated["patches"])
    for index in chunks:
        folder = store.path / "patches" / "c" / str(index)
        remove_half_written(folder)
        if not isinstance(folder, RemotePlace):
            sync_tree(folder)
        found[f"{index}/0"] = checksum_of((folder / "0").read_bytes())
    if found != stated["patches"]:
        write_seal(store.path, stated | {"patches": found})
