"""Building stores of codes or features: beside their place, chunk by chunk, moved when whole.

Behind URLs in their place, where their metadata comes last.
"""

import math
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from storage.atomic import remove, replace_durably
from storage.codes.code_store import CODES, SCHEMA, CodeStore, no_code
from storage.errors import DamageError, InputError
from storage.integrity import file_fault, read_checksums, write_seal
from storage.layout import BEGUN, METADATA, PARTIAL, building_place
from storage.patch_writer import begins_with, remove_half_written, write_beginning
from storage.places.place import Place, each, files_below
from storage.places.remote import RemotePlace
from storage.places.zarr_store import store_at
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


def take_up(staging: Place, files: dict[str, bytes], kind: str) -> set[tuple[int, ...]]:
    """Indices of the chunks that a killed run left, whole, in the folder in which it built a store.

    Where that is no beginning of the store of these files, it is begun there.
    Raises: InputError where, behind a URL, something lies that no run began.
    """
    if not begins_with(staging, files):
        began = not isinstance(staging, RemotePlace) or (staging / BEGUN).is_file()
        if not began and {key for key, _ in files_below(staging)} - files.keys():
            raise InputError(
                f"{staging} is there already, and holds no {kind} that were begun: move it away,"
                " or choose another name"
            )
        remove(staging)
        write_beginning(staging, files)
    found = files_below(staging / kind / "c")
    chunks = {key: file for key, file in found if not key.endswith(PARTIAL)}
    faults = each(lambda file: file_fault(file, None), chunks.values(), staging)
    return {
        tuple(map(int, key.split("/")))
        for key, fault in zip(chunks, faults, strict=True)
        if fault is None
    }


def write_codes(
    staging: Place, place: tuple[slice, ...], codes: np.ndarray, kind: str = CODES
) -> None:
    """Write one whole chunk in one step."""
    array = zarr.open_array(store_at(staging / kind), mode="r+", zarr_format=3)
    array = array.with_config({"write_empty_chunks": True})  # an absent chunk is damage
    array[place] = codes


def finish(staging: Place, path: Place, kind: str) -> None:
    """Check that every chunk is there, whole, seal the store, and move it to its name."""
    remove_half_written(staging)
    checksums = read_checksums(staging)
    array = zarr.open_array(store_at(staging / kind), mode="r", zarr_format=3)
    expected = math.prod(array.cdata_shape)
    if missing := expected - len(checksums[kind]):
        raise DamageError(f"{missing} chunks of {staging} were not written: run it again")
    write_seal(staging, checksums)
    if isinstance(staging, RemotePlace) or isinstance(path, RemotePlace):
        remove_beginning(path)
    else:
        replace_durably(staging, path)


def remove_beginning(path: Place) -> None:
    """Remove what a run that was killed as it had sealed a store left in it, behind a URL."""
    if isinstance(path, RemotePlace) and (path / BEGUN).is_file():
        (path / BEGUN).unlink(missing_ok=True)


def begin_again(store: CodeStore, damaged: list[str]) -> None:
    """Make a store with damaged chunks one that is being built, which has only the others."""
    path = store.path
    staging = building_place(path)
    if isinstance(path, RemotePlace):
        (path / BEGUN).write_bytes((path / METADATA).read_bytes())
        (path / METADATA).unlink()
    else:
        assert not isinstance(staging, RemotePlace)
        remove(staging)
        path.rename(staging)
    for key in damaged:
        remove(staging / key)
