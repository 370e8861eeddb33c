"""Building stores of codes or features: beside their place, chunk by chunk, moved when whole."""

import math
import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore, MemoryStore

from storage.atomic import remove, replace_durably
from storage.codes.code_store import CODES, SCHEMA, CodeStore, no_code
from storage.errors import DamageError
from storage.integrity import file_fault, read_checksums, write_seal
from storage.layout import PARTIAL, building_place
from storage.patch_writer import begins_with, remove_half_written, write_beginning
from storage.places.place import local
from storage.plain_attributes import meaning, plain
from storage.strict_store import checked_compressors

# Runs of equal codes in neighbouring images are found by Zstandard itself, the more of them the
# larger the block: of MNIST at stride 1 shuffled codes take 1.4 times as much, level 5 3 % less.
LEVEL, BLOCK_BYTES = 3, 1 << 20


Coordinates = dict[str, tuple[str, np.ndarray, str]]  # name -> axis, values, meaning


def beginning(
    kind: str,
    array: tuple[tuple[int, ...], tuple[int, ...], np.dtype],
    coordinates: Coordinates,
    facts: dict[str, Any],
    attributes: dict[str, Any],
) -> dict[str, bytes]:
    """The files of a store that has no codes, or features, yet, by their paths within it.

    Args:
        kind: CODES or FEATURES.
        array: shape, shape of a chunk, and type.
        coordinates: int64; the first of an axis comes in the order of the array's axes.
        facts: attributes of the array.
        attributes: of the group: source, dataset, experiment.
    """
    files: dict[str, Buffer] = {}
    versions = {name: version(name) for name in ("zarr", "numcodecs", "numpy")}
    described = {"kind": kind, "schema": SCHEMA, **attributes, "versions": versions}
    group = zarr.create_group(
        MemoryStore(files), zarr_format=3, attributes=described | {"complete": False}
    )
    shape, chunks, dtype = array
    for name, (axis, values, means) in coordinates.items():
        written = group.create_array(
            name,
            shape=values.shape,
            dtype="int64",
            compressors=checked_compressors(8),
            dimension_names=(axis,),
            attributes={**meaning(means)},
            config={"write_empty_chunks": True},
        )
        written[:] = values
    whole = dtype.kind in "ui"
    packing = {"shuffle": "noshuffle", "blocksize": BLOCK_BYTES} if whole else {}
    others = [name for name, (axis, *_) in coordinates.items() if name != axis]
    group.create_array(
        kind,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value=no_code(dtype) if whole else 0.0,
        compressors=checked_compressors(dtype.itemsize, clevel=LEVEL, **packing),
        dimension_names=tuple(dict.fromkeys(axis for axis, *_ in coordinates.values())),
        attributes=plain(facts) | meaning(kind) | _coordinates(others),
    )
    with warnings.catch_warnings():
        # zarr's, that this is no part of its format yet; xarray warns where it is missing
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(MemoryStore(files))
    return {key: content.to_bytes() for key, content in files.items()}


def _coordinates(names: list[str]) -> dict[str, str]:
    """What tells xarray of coordinates that are no axes."""
    return {"coordinates": " ".join(names)} if names else {}


def take_up(staging: Path, files: dict[str, bytes], kind: str) -> set[tuple[int, ...]]:
    """Indices of the chunks that a killed run left, whole, in the folder in which it built a store.

    Where that is no beginning of the store of these files, it is begun there.
    """
    if not begins_with(staging, files):
        shutil.rmtree(staging, ignore_errors=True)
        write_beginning(staging, files)
    place = staging / kind / "c"
    return {
        tuple(map(int, file.relative_to(place).parts))
        for file in place.rglob("*")
        if file.is_file() and not file.name.endswith(PARTIAL) and file_fault(file, None) is None
    }


def write_codes(
    staging: Path, place: tuple[slice, ...], codes: np.ndarray, kind: str = CODES
) -> None:
    """Write one whole chunk in one step."""
    array = zarr.open_array(LocalStore(staging / kind), mode="r+")
    array = array.with_config({"write_empty_chunks": True})  # an absent chunk is damage
    array[place] = codes


def finish(staging: Path, path: Path, kind: str) -> None:
    """Check that every chunk is there, whole, seal the store, and move it to its name."""
    remove_half_written(staging)
    checksums = read_checksums(staging)
    expected = math.prod(zarr.open_array(staging / kind, mode="r").cdata_shape)
    if missing := expected - len(checksums[kind]):
        raise DamageError(f"{missing} chunks of {staging} were not written: run it again")
    write_seal(staging, checksums)
    replace_durably(staging, path)


def begin_again(store: CodeStore, damaged: list[str]) -> None:
    """Make a store with damaged chunks one that is being built, which has only the others."""
    path = local(store.path, "encode")
    staging = local(building_place(path), "encode")
    shutil.rmtree(staging, ignore_errors=True)
    path.rename(staging)
    for key in damaged:
        remove(staging / key)
