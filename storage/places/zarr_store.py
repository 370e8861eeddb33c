"""Stores of zarr at places: zarr's own for folders, one over obstore behind URLs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.storage import LocalStore, ObjectStore

from storage.places.client import telling
from storage.places.place import Place
from storage.places.remote import RemotePlace


class RemoteStore(ObjectStore[Any]):
    """The objects of a folder behind a URL; what the bucket refuses is a RemoteError."""

    def __init__(self, place: RemotePlace, *, read_only: bool = False) -> None:
        super().__init__(place.client, read_only=read_only)
        self.place = place

    def with_read_only(self, read_only: bool = False) -> "RemoteStore":
        return RemoteStore(self.place, read_only=read_only)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RemoteStore):
            return False
        return (self.place, self.read_only) == (other.place, other.read_only)

    def __str__(self) -> str:
        return str(self.place)

    def __getstate__(self) -> dict[Any, Any]:
        return {"place": self.place, "read_only": self.read_only}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        RemoteStore.__init__(self, state["place"], read_only=state["read_only"])

    async def get(self, key, prototype, byte_range=None):  # type: ignore[no-untyped-def]  # as in zarr
        place = self.place / key
        with telling("read", place):
            return await super().get(place.key, prototype, byte_range)

    async def get_partial_values(self, prototype, key_ranges):  # type: ignore[no-untyped-def]
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    async def exists(self, key: str) -> bool:
        place = self.place / key
        with telling("read", place):
            return await super().exists(place.key)

    async def set(self, key, value):  # type: ignore[no-untyped-def]
        place = self.place / key
        with telling("write", place):
            await super().set(place.key, value)

    async def set_if_not_exists(self, key, value):  # type: ignore[no-untyped-def]
        place = self.place / key
        with telling("write", place):
            await super().set_if_not_exists(place.key, value)

    async def delete(self, key: str) -> None:
        place = self.place / key
        with telling("delete", place):
            await super().delete(place.key)

    async def delete_dir(self, prefix: str) -> None:
        keys = [key async for key in self.list_prefix(prefix)]
        await asyncio.gather(*map(self.delete, keys))

    def list(self) -> AsyncIterator[str]:  # type: ignore[override]
        return self.list_prefix("")

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:  # type: ignore[override]
        folder = self.place / prefix.strip("/") if prefix.strip("/") else self.place
        with telling("list", folder):
            async for key in super().list_prefix(f"{folder.key}/" if folder.key else ""):
                yield RemotePlace(self.place.root, key).relative_key(self.place)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:  # type: ignore[override]
        folder = self.place / prefix.strip("/") if prefix.strip("/") else self.place
        with telling("list", folder):
            async for name in super().list_dir(f"{folder.key}/" if folder.key else ""):
                yield name

    async def getsize(self, key: str) -> int:
        place = self.place / key
        with telling("read", place):
            return await super().getsize(place.key)


def store_at(place: Place, *, read_only: bool = False) -> Store:
    """The store of a folder, which need not be there yet."""
    if isinstance(place, Path):
        return LocalStore(place, read_only=read_only)
    return RemoteStore(place, read_only=read_only)
