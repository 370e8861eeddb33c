"""The patch store: one zarr v3 group per (image source, patch spec), built once, then read-only.

Layout of the group:
    patches  (n, d)          rows in the store's order, chunked by rows, checksummed
    offsets  (images + 1,)   int64; row at which each image's patches start
    order    (images,)       int64; which source image stands at each place
Attributes: kind, schema, spec, source, n_rows, dim, versions, and `complete`, set last.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr
from zarr.errors import GroupNotFoundError

from storage.errors import InputError, IntegrityError
from storage.geometry import PatchSpec
from storage.strict_store import MissingChunkError, open_strict

if TYPE_CHECKING:
    import dask.array
    import xarray

KIND, SCHEMA = "patches", 1
CHUNKS = "patches/c"


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
    if group.attrs.get("kind") != KIND:
        raise InputError(f"{path} is not a patch store: give one that extract made")
    schema = group.attrs.get("schema")
    if schema != SCHEMA:
        raise IntegrityError(
            f"{path} has schema version {schema} where {SCHEMA} is expected: extract it again"
        )
    if group.attrs.get("complete") is not True:
        raise IntegrityError(f"{path} is unfinished: run the same extraction again")
    try:
        store = PatchStore(path, group)
        stated = (group.attrs.get("n_rows"), group.attrs.get("dim"))
        agree = stated == store.shape and store.offsets[-1] == store.n_rows
    except (ValueError, KeyError, RuntimeError) as error:
        raise IntegrityError(
            f"{path} is damaged ({type(error).__name__}: {error}): delete it and extract it again"
        ) from error
    if not agree:
        raise IntegrityError(
            f"{path} states {stated} rows and columns but holds {store.shape}: delete it and"
            " extract it again"
        )
    return store


def _open_group(path: Path) -> zarr.Group:
    if not path.is_dir():
        raise InputError(f"no patch store at {path}: run extract first")
    try:
        return zarr.open_group(open_strict(path), mode="r")
    except GroupNotFoundError:
        raise InputError(f"{path} is not a patch store: run extract first") from None
    except (ValueError, KeyError) as error:  # zarr.json that does not parse
        raise IntegrityError(f"{path} has damaged metadata ({error}): extract it again") from error


def store_name(source: dict[str, Any], spec: PatchSpec) -> str:
    """Name of a store, with a hash of what it is made of: mnist-train-5x5-s1-t0-1f2e3d4c5b."""
    made_of = [SCHEMA, source["fingerprint"], spec.to_dict()]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:10]
    return f"{source['name']}-{source['split']}-{spec.label}-{digest}"


@dataclass(frozen=True)
class BadChunk:
    """A damaged chunk and what is wrong with it; index -1 stands for offsets or order."""

    index: int
    reason: str


def verify_chunks(store: PatchStore) -> Iterator[BadChunk | None]:
    """Read every chunk in order; yields None for a good one.

    Checks presence, checksum, number of rows, and that no row is blank; first that `order` is a
    permutation of the images and that `offsets` never falls, which yields a BadChunk only if not.
    """
    try:
        order, offsets = store.order, store.offsets
        whole = np.array_equal(np.sort(order), np.arange(store.source["images"]))
        whole = whole and offsets[0] == 0 and bool((np.diff(offsets) >= 0).all())
        reason = "order or offsets do not fit the images"
    except (ValueError, KeyError, RuntimeError, IntegrityError) as error:
        whole, reason = False, f"order or offsets cannot be read ({error})"
    if not whole:
        yield BadChunk(-1, reason)
    for index in range(store.n_chunks):
        try:
            rows = store.read_chunk(index)
        except IntegrityError as error:
            yield BadChunk(index, str(error))
            continue
        blank = int(np.count_nonzero(~rows.any(axis=1)))
        yield BadChunk(index, f"chunk {index} holds {blank} blank rows") if blank else None
