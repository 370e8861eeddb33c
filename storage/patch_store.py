"""The patch store: one zarr v3 group per (image source, patch spec), built once, then read-only.

Layout of the group:
    patches  (n, d)          rows in the store's order, chunked by rows, checksummed
    offsets  (images + 1,)   int64; row at which each image's patches start
    order    (images,)       int64; which source image stands at each place
Attributes: schema, spec, source, n_rows, dim, versions, and `complete`, written last.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec
from zarr.errors import GroupNotFoundError
from zarr.storage import LocalStore, WrapperStore

from storage.errors import InputError, IntegrityError
from storage.geometry import PatchSpec, blosc_layout, chunk_rows

if TYPE_CHECKING:
    import dask.array
    import xarray

SCHEMA = 1
_CHUNK_PREFIX = "patches/c/"


class MissingChunkError(IntegrityError):
    """A chunk's file is absent."""


class StrictStore(WrapperStore[LocalStore]):
    """A store in which an absent chunk is an error, never the fill value."""

    async def get(self, key, prototype, byte_range=None):  # type: ignore[no-untyped-def]  # as in zarr
        value = await super().get(key, prototype, byte_range)
        if value is None and "/c/" in key:
            raise MissingChunkError(f"chunk {key} is missing from {self._store.root}")
        return value


class PatchStore:
    """Read-only view of a complete patch store; rows are read chunk by chunk.

    Attributes: path, n_rows, dim, dtype, chunk_rows (rows of all chunks but the last), n_chunks,
    spec (PatchSpec), source (dict: name, split, images, image_shape, dtype, fingerprint),
    array (zarr.Array of shape (n_rows, dim)).
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
        """Assumes a group that `open_patches` has checked."""
        self.path = path
        self.attributes = dict(group.attrs)
        self.array = cast(zarr.Array, group["patches"])
        self.spec = PatchSpec.from_dict(cast(dict[str, Any], self.attributes["spec"]))
        self.source = cast(dict[str, Any], self.attributes["source"])
        self.n_rows, self.dim = self.array.shape
        self.dtype = self.array.dtype
        self.chunk_rows = self.array.chunks[0]
        self.n_chunks = -(-self.n_rows // self.chunk_rows)
        self._group = group

    def __repr__(self) -> str:
        return f"PatchStore({str(self.path)!r}, n_rows={self.n_rows}, dim={self.dim})"

    def __len__(self) -> int:
        return self.n_rows

    @property
    def shape(self) -> tuple[int, int]:
        return self.n_rows, self.dim

    @cached_property
    def name(self) -> str:
        """The store's name, which carries the hash of source and spec."""
        return self.path.name.removesuffix(".zarr")

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """(rows, cols), or (rows, cols, channels) for colour."""
        channels = tuple(self.source["image_shape"][2:])
        return (self.spec.rows, self.spec.cols, *channels)

    @cached_property
    def stored_bytes(self) -> int:
        """Bytes on disk of the whole group."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    def read_chunk(self, index: int) -> np.ndarray:
        """Rows of one chunk, (chunk_rows, dim) or fewer for the last.

        Raises: IntegrityError when the chunk is missing, truncated or fails its checksum.
        """
        start = index * self.chunk_rows
        try:
            rows = self.array[start : min(start + self.chunk_rows, self.n_rows)]
        except MissingChunkError:
            raise IntegrityError(self._damage(index, "is missing")) from None
        except (ValueError, RuntimeError) as error:  # what zarr's codecs raise
            raise IntegrityError(self._damage(index, f"cannot be read ({error})")) from error
        return cast(np.ndarray, rows)

    def _damage(self, index: int, what: str) -> str:
        return (
            f"chunk {index} of {self.path} {what}: delete the store and run the same command again"
        )

    @property
    def offsets(self) -> np.ndarray:
        """Row at which each image's patches start, (images + 1,) int64."""
        return cast(np.ndarray, cast(zarr.Array, self._group["offsets"])[:])

    @property
    def order(self) -> np.ndarray:
        """Source image at each place of the store's order, (images,) int64."""
        return cast(np.ndarray, cast(zarr.Array, self._group["order"])[:])

    def to_dask(self) -> "dask.array.Array":
        """Lazy (n_rows, dim) dask array, one block per chunk; absent chunks raise."""
        import dask.array  # heavy; only this view needs it

        return dask.array.from_array(self.array, chunks=self.array.chunks, name=False)

    def to_xarray(self) -> "xarray.DataArray":
        """Lazy DataArray with dimensions (patch, row, col[, channel])."""
        import xarray

        names = ("patch", "row", "col", "channel")[: 1 + len(self.patch_shape)]
        lazy = self.to_dask().reshape((self.n_rows, *self.patch_shape))
        attributes = {"spec": self.spec.to_dict(), "source": self.source}
        return xarray.DataArray(lazy, dims=names, name="patches", attrs=attributes)


def open_patches(path: str | Path) -> PatchStore:
    """Open a complete patch store for reading.

    Raises: InputError when there is none; IntegrityError when it is unfinished, of another schema
        version, or its parts disagree.
    """
    path = Path(path)
    group = _open_group(path)
    schema = group.attrs.get("schema")
    if schema != SCHEMA:
        raise IntegrityError(
            f"{path} has schema version {schema} where {SCHEMA} is expected: extract it again"
        )
    if group.attrs.get("complete") is not True:
        raise IntegrityError(f"{path} is unfinished: run the same extraction again")
    store = PatchStore(path, group)
    stated = (group.attrs.get("n_rows"), group.attrs.get("dim"))
    if stated != store.shape or store.offsets[-1] != store.n_rows:
        raise IntegrityError(
            f"{path} states {stated} rows and columns but holds {store.shape}: extract it again"
        )
    return store


def _open_group(path: Path) -> zarr.Group:
    if not path.is_dir():
        raise InputError(f"no patch store at {path}: run extract first")
    try:
        return zarr.open_group(StrictStore(LocalStore(path, read_only=True)), mode="r")
    except GroupNotFoundError:
        raise InputError(f"{path} is not a patch store: run extract first") from None
    except (ValueError, KeyError) as error:  # zarr.json that does not parse
        raise IntegrityError(f"{path} has damaged metadata ({error}): extract it again") from error


def store_name(source: dict[str, Any], spec: PatchSpec) -> str:
    """Name of a store, with a hash of what it is made of: mnist-train-5x5-s1-t0-1f2e3d4c5b."""
    made_of = [SCHEMA, source["fingerprint"], spec.to_dict()]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:10]
    return f"{source['name']}-{source['split']}-{spec.label}-{digest}"


# --- writing: used by the extraction alone ------------------------------------------------------


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
    dim, dtype = spec.dim(channels), np.dtype(source["dtype"])
    attributes = {
        "schema": SCHEMA,
        "spec": spec.to_dict(),
        "source": source,
        "n_rows": int(offsets[-1]),
        "dim": dim,
        "versions": {name: version(name) for name in ("zarr", "numcodecs", "numpy")},
    }
    if (staging / "zarr.json").is_file():
        group = zarr.open_group(staging, mode="r")
        if dict(group.attrs) == attributes and "order" in group:
            return present_chunks(staging)
    group = zarr.create_group(staging, zarr_format=3, overwrite=True, attributes=attributes)
    shuffled, typesize, blocksize = blosc_layout(dim, dtype.itemsize)
    shape = (int(offsets[-1]), dim)
    group.create_array(
        "patches",
        shape=shape,
        chunks=(min(chunk_rows(dim, dtype.itemsize), shape[0]), dim),
        dtype=dtype,
        fill_value=0,
        serializer=BytesCodec(endian=None if dtype.itemsize == 1 else "little"),
        compressors=[
            BloscCodec(
                cname="zstd",
                clevel=1,
                shuffle="shuffle" if shuffled else "noshuffle",
                typesize=typesize,
                blocksize=blocksize,
            ),
            Crc32cCodec(),  # last: Blosc returns wrong data silently for most flipped bits
        ],
        dimension_names=("patch", "pixel"),
    )
    for name, values, axis in (("offsets", offsets, "image_edge"), ("order", order, "image")):
        array = group.create_array(
            name,
            shape=values.shape,
            dtype="int64",
            compressors=[BloscCodec(cname="zstd", clevel=1, typesize=8), Crc32cCodec()],
            dimension_names=(axis,),
            config={"write_empty_chunks": True},
        )
        array[:] = values
    return set()


def write_chunk(staging: Path, index: int, rows: np.ndarray) -> None:
    """Write one whole chunk; rows: (chunk_rows, dim), fewer for the last."""
    array = zarr.open_array(
        LocalStore(staging / "patches"), mode="r+", config={"write_empty_chunks": True}
    )
    start = index * array.chunks[0]
    array[start : start + len(rows)] = rows


def present_chunks(path: Path) -> set[int]:
    """Indices of the chunks whose files are there."""
    return {
        int(folder.name)
        for folder in (path / _CHUNK_PREFIX).glob("*")
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


# --- checking -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class BadChunk:
    """A damaged chunk and what is wrong with it."""

    index: int
    reason: str


def verify_chunks(store: PatchStore) -> Iterator[BadChunk | None]:
    """Read every chunk in order; yields None for a good one.

    Checks presence, checksum, number of rows, and that no row is blank.
    """
    for index in range(store.n_chunks):
        try:
            rows = store.read_chunk(index)
        except IntegrityError as error:
            yield BadChunk(index, str(error))
            continue
        blank = int(np.count_nonzero(~rows.any(axis=1)))
        yield BadChunk(index, f"{blank} blank rows") if blank else None
