"""Chunks through zarr, each whole and in its place, or an error.

They are checked where bytes are read, so that zarr's arrays, Dask, xarray and workers all say the
same; zarr alone would return zeros for an absent chunk and bare ValueErrors for damage.
"""

from pathlib import Path
from typing import Any

from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import LocalStore, WrapperStore

from storage.errors import DamageError
from storage.integrity import chunk_fault, describe, unreadable


class StrictStore(WrapperStore[LocalStore]):
    """A store whose chunks are whole and those that belong there, or an error.

    stated: checksum of each chunk by key, as `checksum_of` gives it; None: not known yet.
    remedy: what the error tells to do; GROUP in it becomes the first part of the chunk's key.
    """

    def __init__(
        self, store: LocalStore, stated: dict[str, str] | None = None, remedy: str = ""
    ) -> None:
        super().__init__(store)
        self.stated, self.remedy = stated, remedy

    def _with_store(self, store: LocalStore) -> "StrictStore":
        return StrictStore(store, self.stated, self.remedy)

    async def get(self, key, prototype, byte_range=None):  # type: ignore[no-untyped-def]  # as in zarr
        try:
            value = await super().get(key, prototype, byte_range)
        except OSError as error:
            self._refuse(key, unreadable(error), error)
            raise
        return self._whole(key, value)

    # What zarr reads without its event loop does not pass by `get`.
    def get_sync(self, key, *, prototype=None, byte_range=None):  # type: ignore[no-untyped-def]
        try:
            value = self._store.get_sync(key, prototype=prototype, byte_range=byte_range)
        except OSError as error:
            self._refuse(key, unreadable(error), error)
            raise
        return self._whole(key, value)

    def _whole(self, key: str, value: Any) -> Any:
        """The value, checked where it is a chunk's."""
        if _is_chunk(key):
            data = None if value is None else value.as_numpy_array()
            fault = chunk_fault(data, None if self.stated is None else self.stated.get(key, ""))
            if fault is not None:
                self._refuse(key, fault)
        return value

    def _refuse(self, key: str, fault: str, cause: OSError | None = None) -> None:
        """Raise DamageError where the key is a chunk's."""
        if _is_chunk(key):
            remedy = self.remedy.replace("GROUP", key.split("/")[0])
            raise DamageError(f"{describe(self._store.root, key)} {fault}: {remedy}") from cause


def open_strict(path: Path, stated: dict[str, str] | None = None, remedy: str = "") -> StrictStore:
    """The store at `path`, for reading; see `StrictStore`."""
    return StrictStore(LocalStore(path, read_only=True), stated, remedy)


def _is_chunk(key: str) -> bool:
    return "c" in key.split("/")


def checked_compressors(typesize: int, *, clevel: int = 1, **blosc: Any) -> list[Any]:
    """Zstandard in Blosc, at level 1 where none is given, then a CRC32C.

    The checksum comes last: Blosc has none, and returns wrong data silently for most flipped bits.
    """
    return [BloscCodec(cname="zstd", clevel=clevel, typesize=typesize, **blosc), Crc32cCodec()]
