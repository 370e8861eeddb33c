"""Zarr without silence: absent chunks are errors, and every chunk carries a checksum."""

from typing import Any

from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import LocalStore, WrapperStore

from storage.errors import IntegrityError


class MissingChunkError(IntegrityError):
    """A chunk's file is absent."""


class StrictStore(WrapperStore[LocalStore]):
    """A store in which an absent chunk is an error, never the fill value."""

    async def get(self, key, prototype, byte_range=None):  # type: ignore[no-untyped-def]  # as in zarr
        value = await super().get(key, prototype, byte_range)
        if value is None and "/c/" in key:
            raise MissingChunkError(f"chunk {key} is missing from {self._store.root}")
        return value


def open_strict(path: Any) -> StrictStore:
    """The store at `path`, for reading."""
    return StrictStore(LocalStore(path, read_only=True))


def checked_compressors(typesize: int, **blosc: Any) -> list[Any]:
    """Zstandard level 1 in Blosc, then a CRC32C.

    The checksum comes last: Blosc has none, and returns wrong data silently for most flipped bits.
    """
    return [BloscCodec(cname="zstd", clevel=1, typesize=typesize, **blosc), Crc32cCodec()]
