"""Zarr without silence: a chunk that is absent, damaged or another's is an error for every reader.

The check stands where bytes are read, so that zarr's arrays, Dask, xarray and workers all say the
same; zarr alone would return zeros for an absent chunk and bare ValueErrors for damage.
"""

import re
from pathlib import Path
from typing import Any

import google_crc32c
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import LocalStore, WrapperStore

from storage.errors import DamageError

CHECKSUM_BYTES = 4  # at the end of every chunk


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
        if "c" not in key.split("/"):
            return await super().get(key, prototype, byte_range)
        value, fault = None, None
        try:
            value = await super().get(key, prototype, byte_range)
        except OSError as error:
            fault = unreadable(error)
        if fault is None:
            data = None if value is None else value.as_numpy_array()
            fault = chunk_fault(data, None if self.stated is None else self.stated.get(key, ""))
        if fault is not None:
            remedy = self.remedy.replace("GROUP", key.split("/")[0])
            raise DamageError(f"{describe(self._store.root, key)} {fault}: {remedy}")
        return value


def open_strict(path: Path, stated: dict[str, str] | None = None, remedy: str = "") -> StrictStore:
    """The store at `path`, for reading; see `StrictStore`."""
    return StrictStore(LocalStore(path, read_only=True), stated, remedy)


def describe(root: Path, key: str) -> str:
    """Words for a chunk, as in: chunk 3 of runs/patches/NAME.zarr/patches."""
    array, _, place = f"/{key}".rpartition("/c/")
    return f"chunk {re.sub('(/0)+$', '', place)} of {root}{array}"


def checksum_of(data: Any) -> str:
    """The CRC32C at the end of a chunk's bytes, 8 hex digits."""
    return bytes(data[-CHECKSUM_BYTES:]).hex()


def chunk_fault(data: Any, stated: str | None) -> str | None:
    """What is wrong with the bytes of a chunk, None for nothing.

    data: bytes or (n,) uint8; None: there are none. stated: the checksum that the store states for
    it, "" if it states none; None: any.
    """
    if data is None:
        return "is missing"
    if len(data) <= CHECKSUM_BYTES:
        return f"is truncated to {len(data)} bytes" if len(data) else "is empty"
    found = google_crc32c.value(data[:-CHECKSUM_BYTES]).to_bytes(CHECKSUM_BYTES, "little")
    if found != bytes(data[-CHECKSUM_BYTES:]):
        return "fails its checksum"
    if stated is not None and stated != checksum_of(data):
        return "is not the one that was written there"
    return None


def file_fault(path: Path, stated: str | None) -> str | None:
    """`chunk_fault` of a chunk's file."""
    try:
        return chunk_fault(path.read_bytes(), stated)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return chunk_fault(None, stated)
    except OSError as error:
        return unreadable(error)


def unreadable(error: OSError) -> str:
    """What is wrong with a file that the system cannot read, as from a bad sector."""
    return f"cannot be read ({error.strerror})"


def checked_compressors(typesize: int, **blosc: Any) -> list[Any]:
    """Zstandard level 1 in Blosc, then a CRC32C.

    The checksum comes last: Blosc has none, and returns wrong data silently for most flipped bits.
    """
    return [BloscCodec(cname="zstd", clevel=1, typesize=typesize, **blosc), Crc32cCodec()]
