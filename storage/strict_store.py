"""Chunks through zarr, each whole and in its place, or an error.

They are checked where bytes are read, so that zarr's arrays, Dask, xarray and workers all say the
same; zarr alone would return zeros for an absent chunk and bare ValueErrors for damage.
"""

from typing import Any, Self

import zarr
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import WrapperStore

from storage.errors import DamageError
from storage.integrity import chunk_fault, describe, unreadable
from storage.places.kept import KeptObjects
from storage.places.place import Place
from storage.places.remote import RemotePlace
from storage.places.zarr_store import store_at


class StrictStore(WrapperStore[Store]):
    """A store whose chunks are whole and those that belong there, or an error.

    root: where it lies.
    stated: checksum of each chunk by key, as `checksum_of` gives it; None: not known yet.
    remedy: what the error tells to do; GROUP in it becomes the first part of the chunk's key.
    kept: where chunks that were read are kept, to be read from there; None: nowhere.
    metadata: what was read of other keys, which xarray asks for three times; None: it is not kept.
    """

    kept: KeptObjects | None = None
    metadata: dict[str, Any] | None = None

    def __init__(
        self, store: Store, root: Place, stated: dict[str, str] | None = None, remedy: str = ""
    ) -> None:
        super().__init__(store)
        self.root, self.stated, self.remedy = root, stated, remedy

    def _with_store(self, store: Store) -> Self:
        other = type(self)(store, self.root, self.stated, self.remedy)
        other.kept, other.metadata = self.kept, self.metadata
        return other

    async def get(self, key, prototype, byte_range=None):  # type: ignore[no-untyped-def]  # as in zarr
        if self.kept is not None and _is_chunk(key):
            if (data := self.kept.get(key)) is not None:
                if self._fault(key, data) is None:
                    return prototype.buffer.from_bytes(data)
                self.kept.drop(key)
            value = self._whole(key, await super().get(key, prototype, byte_range))
            self.kept.keep(key, value.to_bytes())
            return value
        if self.metadata is not None and not _is_chunk(key):
            if key not in self.metadata:
                self.metadata[key] = await super().get(key, prototype)
            return self.metadata[key]
        try:
            value = await super().get(key, prototype, byte_range)
        except OSError as error:
            self._refuse(key, unreadable(error), error)
            raise
        return self._whole(key, value)

    def _whole(self, key: str, value: Any) -> Any:
        """The value, checked where it is a chunk's."""
        if _is_chunk(key):
            data = None if value is None else value.as_numpy_array()
            if (fault := self._fault(key, data)) is not None:
                self._refuse(key, fault)
        return value

    def _fault(self, key: str, data: Any) -> str | None:
        return chunk_fault(data, None if self.stated is None else self.stated.get(key, ""))

    def _refuse(self, key: str, fault: str, cause: OSError | None = None) -> None:
        """Raise DamageError where the key is a chunk's."""
        if _is_chunk(key):
            remedy = self.remedy.replace("GROUP", key.split("/")[0])
            raise DamageError(f"{describe(self.root, key)} {fault}: {remedy}") from cause


class StrictFolder(StrictStore):
    """One on disk, which newer zarr reads without its event loop: not by `get`."""

    def get_sync(self, key, *, prototype=None, byte_range=None):  # type: ignore[no-untyped-def]
        store: Any = self._store
        try:
            value = store.get_sync(key, prototype=prototype, byte_range=byte_range)
        except OSError as error:
            self._refuse(key, unreadable(error), error)
            raise
        return self._whole(key, value)


def open_strict(
    path: Place, stated: dict[str, str] | None = None, remedy: str = "", *, keep: bool = False
) -> StrictStore:
    """The store at `path`, for reading; see `StrictStore`.

    keep: whether chunks of one behind a URL are kept on a disk of this machine.
    """
    kind = StrictStore if isinstance(path, RemotePlace) else StrictFolder
    store = kind(store_at(path, read_only=True), path, stated, remedy)
    if isinstance(path, RemotePlace):
        store.metadata, store.kept = {}, KeptObjects() if keep else None
    return store


def _is_chunk(key: str) -> bool:
    return "c" in key.split("/")


def checked_compressors(typesize: int, *, clevel: int = 1, **blosc: Any) -> list[Any]:
    """Zstandard in Blosc, at level 1 where none is given, then a CRC32C.

    The checksum comes last: Blosc has none, and returns wrong data silently for most flipped bits.
    """
    return [BloscCodec(cname="zstd", clevel=clevel, typesize=typesize, **blosc), Crc32cCodec()]


def new_group(place: Place, attributes: dict[str, Any]) -> Any:
    """A group of zarr without arrays, at a place where there is none."""
    return zarr.create_group(store_at(place), zarr_format=3, attributes=attributes)
