"""Verifying: everything that a store says of itself, checked against every byte of it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import zarr

from storage.codes.code_store import kind_of_codes, open_codes
from storage.dictionary_store import HISTORY, group_attributes, root_attributes
from storage.errors import IntegrityError, PatchDictError
from storage.integrity import describe, file_fault, file_faults, foreign_files, stated_checksums
from storage.layout import DICTIONARIES, METADATA, group_folders
from storage.patch_store import PatchStore, open_patches
from storage.places.place import Place, each, in_order
from storage.strict_store import open_strict

SUM_TOLERANCE = 1e-9  # of sums of float64, whose order of adding may differ


@dataclass(frozen=True)
class Finding:
    """What is wrong, in words that name the file, and the patch chunk that it is about.

    chunk: its index; -1 for everything else (metadata, offsets, order, dictionaries).
    """

    chunk: int
    reason: str


def is_dictionary_store(path: Place) -> bool:
    """Whether a folder holds dictionaries, or what is left of them."""
    return path.name == DICTIONARIES or bool(group_folders(path))


def chunk_count(path: Place) -> int:
    """Chunks that verifying a store meets; 0 where its metadata cannot be read."""
    try:
        if kind := kind_of_codes(path):
            return len(open_codes(path, kind).checksums)
        if not is_dictionary_store(path):
            return open_patches(path).n_chunks
        root = root_attributes(path)
        groups = [group_attributes(folder, root) for folder in group_folders(path).values()]
        return sum(len(stated_checksums(attributes)) for attributes in groups)
    except PatchDictError:
        return 0


def verify_store(path: Place) -> Iterator[Finding | None]:
    """Findings in a store of patches, dictionaries, codes or features; None for good chunks."""
    if kind := kind_of_codes(path):
        return verify_codes(path, kind)
    return verify_dictionaries(path) if is_dictionary_store(path) else verify_patches(path)


def verify_patches(path: Place) -> Iterator[Finding | None]:
    """Read all of a patch store: None for each good chunk, in order, and what is wrong.

    Checks metadata against its seal; that `order` is a permutation of the images, and `offsets`
    rise from 0 to the number of rows; of each chunk presence, checksum, shape, and that no row is
    blank; and that nothing else lies in the store.
    """
    try:
        store = open_patches(path)
    except IntegrityError as error:
        yield Finding(-1, str(error))
        yield from _verify_chunk_files(path)
        return
    yield from _verify_index(store)
    read = each(lambda index: _rows(store, index), range(store.n_chunks), store.path)
    for index, rows in enumerate(read):
        where = describe(store.path, store.chunk_key(index))
        if isinstance(rows, IntegrityError):
            yield Finding(index, str(rows))
            continue
        expected = min(store.chunk_rows, store.n_rows - index * store.chunk_rows), store.dim
        blank = int(np.count_nonzero(~rows.any(axis=1)))
        if rows.shape != expected or rows.dtype != store.dtype:
            stated = f"{expected} {store.dtype}"
            yield Finding(
                index, f"{where} holds {rows.shape} {rows.dtype} where {stated} is stated"
            )
        elif blank:
            yield Finding(index, f"{where} holds {blank} blank rows")
        else:
            yield None
    yield from _verify_foreign(path, store.attributes["checksums"])


def _rows(store: PatchStore, index: int) -> np.ndarray | IntegrityError:
    """The rows of a chunk, or what is wrong with it."""
    try:
        return store.read_chunk(index)
    except IntegrityError as error:
        return error


def _verify_chunk_files(path: Place) -> Iterator[Finding | None]:
    """Chunks of a patch store whose metadata is lost, each by its own checksum."""
    folders = [f for f in (path / "patches" / "c").glob("*") if f.name.isdecimal()]
    for folder in sorted(folders, key=lambda folder: int(folder.name)):
        fault = file_fault(folder / "0", None)
        where = describe(path, f"patches/c/{folder.name}/0")
        yield None if fault is None else Finding(int(folder.name), f"{where} {fault}")


def _verify_index(store: PatchStore) -> Iterator[Finding]:
    """`order` and `offsets` against the images; a Finding only where they are wrong."""
    images = store.source["images"]
    for name in ("offsets", "order"):
        try:
            values = getattr(store, name)
        except (IntegrityError, ValueError, RuntimeError) as error:
            yield Finding(-1, str(error))
            continue
        if name == "order":
            fits = np.array_equal(np.sort(values), np.arange(images))
        else:
            ends = len(values) == images + 1 and (values[0], values[-1]) == (0, store.n_rows)
            fits = ends and bool((np.diff(values) >= 0).all())
        if not fits:
            yield Finding(-1, f"{name} of {store.path} does not fit its {images} images")


def verify_codes(path: Place, kind: str) -> Iterator[Finding | None]:
    """Read all of a store of codes or features: None for each good chunk, and what is wrong.

    Checks metadata against its seal; of each chunk presence and checksum; and that nothing else
    lies in the store.
    """
    try:
        store = open_codes(path, kind)
    except IntegrityError as error:
        yield Finding(-1, str(error))
        return
    for key, fault in file_faults(path, store.checksums):
        yield None if fault is None else Finding(-1, f"{describe(path, key)} {fault}")
    yield from _verify_foreign(path, store.attributes["checksums"])


def verify_dictionaries(path: Place) -> Iterator[Finding | None]:
    """Read all of a dictionary store: None for each good chunk, and what is wrong.

    Checks metadata against its seals; of each chunk presence and checksum; that centroids are
    finite, counts sum to the rows, and scores are those of the arrays; and that nothing else lies
    in the store.
    """
    try:
        root = root_attributes(path)
    except IntegrityError as error:
        yield Finding(-1, str(error))
        return
    groups = group_folders(path)
    for k, folder in groups.items():
        try:
            attributes = group_attributes(folder, root)
        except IntegrityError as error:
            yield Finding(-1, str(error))
            continue
        whole = True
        for key, fault in file_faults(folder, stated_checksums(attributes)):
            whole = whole and fault is None
            yield None if fault is None else Finding(-1, f"{describe(folder, key)} {fault}")
        if whole:
            for reason in _wrong_scores(folder, k, attributes, root):
                yield Finding(-1, f"{folder} {reason}")
        yield from _verify_foreign(folder, attributes["checksums"])
    own = {METADATA, *(folder.name for folder in groups.values())}
    for stray in in_order(path.iterdir()):
        if stray.name not in own:
            yield Finding(-1, f"{stray} does not belong to the store: move it away")


def _wrong_scores(
    folder: Place, k: int, stated: dict[str, Any], root: dict[str, Any]
) -> Iterator[str]:
    """What the arrays of one dictionary, which can be read, say otherwise than its scores."""
    group = zarr.open_group(open_strict(folder, stated_checksums(stated)), mode="r")
    centroids, count, sse = (
        np.asarray(cast(zarr.Array, group[name])[:]) for name in ("centroids", "count", "sse")
    )
    if not (len(centroids) == len(count) == len(sse) == k):
        yield f"holds {len(centroids)} centroids, {len(count)} counts and {len(sse)} errors"
        return
    if not np.isfinite(centroids).all():
        yield f"holds {np.count_nonzero(~np.isfinite(centroids))} centroid values not finite"
    if (count < 0).any() or count.sum() != root["n_rows"]:
        below = ", some below zero" if (count < 0).any() else ""
        yield f"counts {count.sum()} rows where {root['n_rows']} are stated{below}"
    if np.count_nonzero(count) != stated["live"]:
        yield f"has {np.count_nonzero(count)} live centroids where {stated['live']} are stated"
    mse = sse.sum() / (root["n_rows"] * root["dim"])
    for name, value in (("sse", float(sse.sum())), ("mse", float(mse))):
        if not math.isclose(value, stated[name], rel_tol=SUM_TOLERANCE):
            yield f"has the {name} {value} where {stated[name]} is stated"
    passes = {cast(zarr.Array, group[name]).shape[0] for name in HISTORY}
    if passes != {stated["passes"]}:
        yield f"has a history of {sorted(passes)} passes where {stated['passes']} are stated"


def _verify_foreign(folder: Place, checksums: dict[str, dict[str, str]]) -> Iterator[Finding]:
    for file in foreign_files(folder, checksums):
        yield Finding(-1, f"{file} does not belong to the store: move it away")
