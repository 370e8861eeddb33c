"""The patch store: one zarr v3 group per (image source, patch spec), built once, then read-only.

Layout of the group:
    patches  (n, d)          rows in the store's order, chunked by rows, checksummed
    offsets  (tiles + 1,)    int64; row at which each tile's patches start
    order    (tiles,)        int64; which tile stands at each place
    images   (tiles,)        int64; the image of each tile; not there where tile i is image i
Attributes: kind, schema, spec, source, n_rows, dim, versions; tile (windows of a tile each way)
where large images are cut into tiles (storage.tiles), else each image is one; set last: `complete`
and the seal (storage.integrity), against which all metadata and every chunk that is read are
checked.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr

from storage.errors import DamageError, InputError, IntegrityError
from storage.integrity import describe, file_fault, file_faults, sealed_attributes, stated_checksums
from storage.layout import METADATA, STORE_SUFFIX, is_being_built
from storage.patch_spec import PatchSpec
from storage.places.place import Place, bytes_below, place_of
from storage.plain_attributes import meaning, plain
from storage.strict_store import open_strict

if TYPE_CHECKING:
    import dask.array
    import xarray

    from storage.interchange.torch_rows import PatchRows

KIND, SCHEMA = "patches", 2
REMEDY = "run the same extract or sweep again, it writes anew what is damaged"


class PatchStore:
    """Read-only view of a complete patch store; rows are read chunk by chunk.

    Attributes:
        path: where it lies.
        array: zarr.Array of shape (n_rows, dim).
        n_rows: number of patches.
        dim: values of a patch.
        dtype: of them, that of the pixels.
        chunk_rows: rows of all chunks but the last.
        n_chunks: number of chunks.
        spec: the `PatchSpec`: how the patches were cut.
        tile: windows of a tile each way, where large images are cut into tiles; else None.
        source: what it was cut from, a dict: name, split, images, image_shape, dtype, fingerprint;
            range where black and white are not the type's; stated where anything was.
        attributes: all that is stored beside the arrays.
        checksums: CRC32C of all chunks by key.
        seal: SHA-256 of the metadata.
    """

    def __init__(self, path: Place, group: zarr.Group, attributes: dict[str, Any]) -> None:
        """Assumes a group that `open_patches` has checked."""
        self.path = path
        self.attributes = attributes
        self.array = cast(zarr.Array, group["patches"])
        self.spec = PatchSpec.from_dict(attributes["spec"])
        self.source = cast(dict[str, Any], attributes["source"])
        self.tile = cast(int | None, attributes.get("tile"))
        self.n_rows, self.dim = self.array.shape
        self.dtype = self.array.dtype
        self.chunk_rows = self.array.chunks[0]
        self.n_chunks = -(-self.n_rows // self.chunk_rows)
        self._group = group

        self.checksums = stated_checksums(attributes)
        self.seal = str(attributes["seal"])

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
        return self.path.name.removesuffix(STORE_SUFFIX)

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """(rows, cols), or (rows, cols, channels) for colour."""
        channels = tuple(self.source["image_shape"][2:])
        return (self.spec.rows, self.spec.cols, *channels)

    @cached_property
    def stored_bytes(self) -> int:
        """Bytes on disk of the whole group."""
        return bytes_below(self.path)

    @property
    def codec(self) -> str:
        """How chunks are packed, as in "zstd, shuffled by 25 bytes"; zarr's metadata state it."""
        stated = cast(Any, self.array.compressors[0]).to_dict()["configuration"]
        shuffled = stated["shuffle"] == "shuffle"
        over = f"shuffled by {stated['typesize']} bytes" if shuffled else "not shuffled"
        return f"{stated['cname']}, {over}"

    def read_chunk(self, index: int) -> np.ndarray:
        """Rows of one chunk, (chunk_rows, dim) or fewer for the last.

        Raises: InputError where there is no such chunk; IntegrityError when it is missing,
            truncated, fails its checksum, or is another's.
        """
        if not 0 <= index < self.n_chunks:
            raise InputError(f"{self.path} has no chunk {index}: use 0 to {self.n_chunks - 1}")
        start = index * self.chunk_rows
        try:
            rows = self.array[start : min(start + self.chunk_rows, self.n_rows)]
        except (ValueError, RuntimeError) as error:  # zarr's codecs, on bytes that are as written
            where = describe(self.path, self.chunk_key(index))
            raise DamageError(f"{where} cannot be decoded ({error}): {REMEDY}") from error
        return np.ascontiguousarray(rows)  # else by columns, where zarr's settings say so

    def chunk_key(self, index: int) -> str:
        """Path of a chunk's file within the store."""
        return f"patches/c/{index}/0"

    def fault(self, key: str) -> str | None:
        """What is wrong with the file of a chunk, without decoding it; None for nothing."""
        return file_fault(self.path / key, self.checksums.get(key, ""))

    def chunk_faults(self) -> Iterator[str | None]:
        """The same of each chunk of patches, in order."""
        keys = map(self.chunk_key, range(self.n_chunks))
        stated = {key: self.checksums.get(key, "") for key in keys}
        return (fault for _, fault in file_faults(self.path, stated))

    def check_index(self) -> None:
        """Raise DamageError where a chunk of offsets or order is damaged."""
        for key in self.checksums:
            if not key.startswith("patches/") and (fault := self.fault(key)):
                raise DamageError(f"{describe(self.path, key)} {fault}: {REMEDY}")

    @property
    def offsets(self) -> np.ndarray:
        """Row at which each tile's patches start, (tiles + 1,) int64."""
        return self._index("offsets")

    @property
    def tile_order(self) -> np.ndarray:
        """Tile at each place of the store's order, (tiles,) int64."""
        return self._index("order")

    @property
    def order(self) -> np.ndarray:
        """Source image at each place of the store's order, (tiles,) int64."""
        tiles = self.tile_order
        return self._index("images")[tiles] if "images" in self._group else tiles

    @property
    def image_order(self) -> np.ndarray:
        """The source images that have a tile, in the order in which they come first, int64."""
        order = self.order
        return order[np.sort(np.unique(order, return_index=True)[1])]

    @cached_property
    def image_counts(self) -> np.ndarray:
        """Kept patches of each source image, (images,) int64."""
        counts = np.zeros(self.source["images"], np.int64)
        np.add.at(counts, self.order, np.diff(self.offsets))
        return counts

    def _index(self, name: str) -> np.ndarray:
        return cast(np.ndarray, cast(zarr.Array, self._group[name])[:])

    def to_dask(self) -> "dask.array.Array":
        """Lazy (n_rows, dim) dask array, one block per chunk; absent chunks raise."""
        import dask.array  # heavy; only this view needs it

        return dask.array.from_array(self.array, chunks=self.array.chunks, name=False)

    def to_xarray(self) -> "xarray.DataArray":
        """Lazy DataArray with dimensions (patch, row, col[, channel])."""
        import xarray

        names = ("patch", "row", "col", "channel")[: 1 + len(self.patch_shape)]
        lazy = self.to_dask().reshape((self.n_rows, *self.patch_shape))
        within = dict(zip(names[1:], self.patch_shape, strict=True))  # not of millions of patches
        return xarray.DataArray(
            lazy,
            {name: (name, np.arange(size), meaning(name)) for name, size in within.items()},
            names,
            name="patches",
            attrs=plain({"spec": self.spec.to_dict(), "source": self.source}) | meaning("patches"),
        )

    def to_torch(
        self, batch_size: int | None = None, *, shuffle: bool = True, seed: int = 0
    ) -> "PatchRows":
        """The rows as an iterable data set of torch, read chunk by chunk.

        For `torch.utils.data.DataLoader`, whose workers share the chunks: each row comes once an
        epoch. The order follows from seed, epoch (`set_epoch`; each one begun adds 1) and number
        of workers: chunks are drawn in any order, and rows within a chunk.

        Args:
            batch_size: rows of a tensor, (batch_size, dim), fewer in the last of each worker, for
                DataLoader(…, batch_size=None), which is fast; None: one row, (dim,), at a time.
            shuffle: whether it is another order in every epoch; else the store's.
            seed: of the order, 0 or more.

        Raises: InputError for a batch without rows, or a negative seed.
        """
        from storage.interchange.torch_rows import PatchRows  # heavy; only this view needs it

        return PatchRows(self, batch_size, shuffle, seed)


def open_patches(path: str | Place) -> PatchStore:
    """Open a complete patch store for reading, in a folder or at a URL.

    Raises: InputError when there is none; IntegrityError when it is unfinished, of another schema
        version, or its metadata is not what was written.
    """
    path = place_of(path)
    if not path.is_dir():
        raise InputError(f"no patch store at {path}: run extract first")
    try:
        attributes = sealed_attributes(path, REMEDY, kind=KIND, schema=SCHEMA)
    except FileNotFoundError:
        if is_being_built(path):
            raise IntegrityError(f"{path} is unfinished: {REMEDY}") from None
        if (path / "patches").is_dir():
            raise DamageError(f"{path} has lost its metadata ({METADATA}): {REMEDY}") from None
        raise InputError(f"{path} is not a patch store: run extract first") from None
    checksums = stated_checksums(attributes)
    try:
        strict = open_strict(path, checksums, REMEDY, keep=True)
        group = zarr.open_group(strict, mode="r", zarr_format=3)
        store = PatchStore(path, group, attributes)
        stated = (attributes["n_rows"], attributes["dim"], attributes["source"]["dtype"])
        found = (*store.shape, store.dtype.name)
        chunks = sum(key.startswith("patches/") for key in checksums)
        agree = stated == found and chunks == store.n_chunks
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DamageError(f"{path} has damaged metadata ({reason}): {REMEDY}") from error
    if not agree:
        raise DamageError(
            f"{path} states rows, columns and type {stated} but holds {found}: {REMEDY}"
        )
    return store


def store_name(source: dict[str, Any], spec: PatchSpec, tile: int | None = None) -> str:
    """Name of a store, with a hash of what it is made of: mnist-train-5x5-s1-t0-1f2e3d4c5b."""
    made_of = [SCHEMA, source["fingerprint"], spec.to_dict()]
    if spec.threshold and "range" in source:  # which patches are kept goes by it
        made_of.append(source["range"])
    if tile is not None:
        made_of.append({"tile": tile})
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:10]
    return store_name_begins(source["name"], source["split"], spec) + digest


def store_name_begins(name: str, split: str, spec: PatchSpec) -> str:
    """The same without the hash, which the pixels decide."""
    return f"{name}-{split}-{spec.label}-"
