"""Places behind URLs: what `pathlib.Path` is to files, for the objects of a bucket.

An object appears whole or not at all, and may be put only where there is none, or only where it is
still the one that was read; folders are what keys have in common. Credentials and endpoints come
from the usual variables of the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL,
GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME, …) in each process by itself.
"""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from storage.errors import InputError, RemoteError, shortened
from storage.places.client import client_of, forget, library, require_library, telling

WRITABLE = ("s3", "gs", "az", "memory")
SCHEMES = (*WRITABLE, "http", "https")
TAKEN = ", ".join(f"{scheme}://" for scheme in WRITABLE[:3])
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]+)/?(.*)", re.DOTALL)
_BLOCK_BYTES = 8 << 20  # of a large object that are held at once


class Stat(NamedTuple):
    """What is known of an object: bytes, and when it was put, in seconds since 1970."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True, order=True)
class RemotePlace:
    """An object, or a folder of objects, with the methods of `pathlib.Path` that stores use.

    root: scheme and bucket, as in s3://bucket. key: within it, its parts joined by /.
    Methods raise FileNotFoundError as Path's do, and RemoteError where the bucket refuses or does
    not answer, after some tries.
    """

    root: str
    key: str

    @classmethod
    def of(cls, url: str) -> "RemotePlace":
        """The place of a URL. Raises: InputError for one that is none, or without obstore."""
        found = _URL.fullmatch(url)
        scheme = found[1].lower() if found else ""
        if found is None or scheme not in SCHEMES:
            raise InputError(f"no place {shortened(url)}: use a folder, {TAKEN} or https://")
        if scheme in ("http", "https") and re.search("[?#]", found[3]):
            raise InputError(f"{shortened(url)} has a query: fetch it, and give the file")
        parts = [part for part in found[3].split("/") if part not in ("", ".")]
        if ".." in parts:
            raise InputError(f"{shortened(url)} leads out of itself: leave out the ..")
        require_library(f"{scheme}://{found[2]}")
        key = "/".join(parts)
        return cls(f"{scheme}://{found[2]}", unquote(key) if scheme.startswith("http") else key)

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __truediv__(self, name: str) -> "RemotePlace":
        return RemotePlace(self.root, f"{self.key}/{name}" if self.key else name)

    @property
    def scheme(self) -> str:
        """s3, gs, az, http, https, or memory."""
        return self.root.partition(":")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        begins, dot, _ = self.name.rpartition(".")
        return begins if dot and begins else self.name

    @property
    def suffix(self) -> str:
        return self.name[len(self.stem) :]

    @property
    def parent(self) -> "RemotePlace":
        return RemotePlace(self.root, self.key.rpartition("/")[0])

    def with_name(self, name: str) -> "RemotePlace":
        return self.parent / name

    def resolve(self) -> "RemotePlace":
        return self

    def absolute(self) -> "RemotePlace":
        return self

    def relative_key(self, folder: "RemotePlace") -> str:
        """What follows a folder in the key of a place that lies in it."""
        return self.key[len(folder.key) :].lstrip("/")

    @property
    def client(self) -> Any:
        """What reaches the bucket, one in each process."""
        return client_of(self.root)

    # What there is

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        folders, objects = self._children()
        return bool(folders or objects)

    def stat(self) -> Stat:
        return _stat_of(self.head())

    def head(self) -> dict[str, Any]:
        """What the bucket tells of an object: size, e_tag, last_modified."""
        with telling("read", self):
            return dict(library().head(self.client, self._object_key()))

    def iterdir(self) -> Iterator["RemotePlace"]:
        folders, objects = self._children()
        yield from sorted(folders + objects)

    def glob(self, pattern: str) -> Iterator["RemotePlace"]:
        """As Path's, without **."""
        first, _, rest = pattern.partition("/")
        if not re.search(r"[*?\[]", first):
            place = self / first
            if rest:
                yield from place.glob(rest)
            elif place.exists():
                yield place
            return
        folders, objects = self._children()
        for place in sorted(folders if rest else folders + objects):
            if fnmatchcase(place.name, first):
                yield from place.glob(rest) if rest else [place]

    def files(self) -> list[tuple["RemotePlace", Stat]]:
        """All objects below a folder, by key."""
        with telling("list", self):
            found = library().list(self.client, self._prefix()).collect()
        return sorted((RemotePlace(self.root, one["path"]), _stat_of(one)) for one in found)

    def _children(self) -> tuple[list["RemotePlace"], list["RemotePlace"]]:
        """Folders and objects of a folder."""
        with telling("list", self):
            found = library().list_with_delimiter(self.client, self._prefix())
        return (
            [RemotePlace(self.root, key.rstrip("/")) for key in found["common_prefixes"]],
            [RemotePlace(self.root, one["path"]) for one in found["objects"]],
        )

    def _prefix(self) -> str | None:
        return f"{self.key}/" if self.key else None

    def _object_key(self) -> str:
        if not self.key:  # a bucket is no object
            raise FileNotFoundError(str(self))
        return self.key

    # Reading

    def read_bytes(self) -> bytes:
        return self.read_tagged()[0]

    def read_tagged(self) -> tuple[bytes, str]:
        """The bytes of an object, and its tag, by which `put_over` knows whether it is the same."""
        with telling("read", self):
            found = library().get(self.client, self._object_key())
            content = bytes(found.bytes())
        self._check_whole(len(content), found.meta["size"])
        return content, found.meta["e_tag"] or ""

    def fetch(self, path: Path) -> dict[str, Any]:
        """Write an object into a file, block by block. Returns: as `head`."""
        written = 0
        with telling("read", self), path.open("wb") as file:
            found = library().get(self.client, self._object_key())
            for block in found.stream(min_chunk_size=_BLOCK_BYTES):
                written += file.write(block)
        self._check_whole(written, found.meta["size"])
        return dict(found.meta)

    def _check_whole(self, read: int, size: int) -> None:
        if read != size:
            raise RemoteError(f"{self} broke off after {read} of {size} bytes: run it again")

    def read_start(self, most: int) -> bytes:
        """Its first bytes, so many at most."""
        size = self.stat().st_size
        if not size:
            return b""
        with telling("read", self):
            return bytes(library().get_range(self.client, self.key, start=0, end=min(size, most)))

    # Writing

    def write_bytes(self, content: bytes) -> str:
        """Put an object, whatever was there. Returns: its tag."""
        return self._put(content, "overwrite")

    def put_new(self, content: bytes) -> str | None:
        """Put an object where there is none. Returns: its tag; None: there is another one."""
        return self._put_if(content, "create")

    def put_over(self, content: bytes, tag: str) -> str | None:
        """Put an object over that of this tag. Returns: its tag; None: it is no longer that one."""
        return self._put_if(content, {"e_tag": tag})

    def _put_if(self, content: bytes, mode: Any) -> str | None:
        try:
            return self._put(content, mode)
        except (library().exceptions.AlreadyExistsError, library().exceptions.PreconditionError):
            return self._mine(content)

    def _put(self, content: bytes, mode: Any) -> str:
        with telling("write", self):
            put = library().put(
                self.client, self._object_key(), content, mode=mode, use_multipart=False
            )
        return put["e_tag"] or ""

    def _mine(self, content: bytes) -> str | None:
        """The tag where the object holds just this: an answer was lost, and it was put again."""
        try:
            found, tag = self.read_tagged()
        except FileNotFoundError:
            return None
        return tag if found == content else None

    def mkdir(self, **_: bool) -> None:
        """Nothing: folders are there with what lies in them."""

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with telling("delete", self):
                library().delete(self.client, self._object_key())
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """Delete an object, and all that lies below it."""
        keys = [place.key for place, _ in self.files()]
        with telling("delete", self):
            if keys:
                library().delete(self.client, keys)
        if self.key:
            self.unlink(missing_ok=True)


@contextmanager
def in_memory() -> Iterator[RemotePlace]:
    """A place that nobody else sees, and that goes with the context."""
    place = RemotePlace(f"memory://{uuid.uuid4().hex}", "")
    try:
        yield place
    finally:
        forget(place.root)


def _stat_of(meta: Any) -> Stat:
    return Stat(meta["size"], meta["last_modified"].timestamp())
