"""Whole or not at all, and one process at a time.

Bytes are written under another name beside their place, reach the disk, and are then given their
name in one step, so that neither a kill nor a power cut leaves half of anything under it.
"""

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from storage.errors import BusyError, InputError
from storage.layout import METADATA, PARTIAL
from storage.places.lease import holder, holds, lease_holder, leased
from storage.places.place import Place, each, files_below
from storage.places.remote import RemotePlace, in_memory

ORPHANED_SECONDS = 3600  # without a change, after which what is half-written is nobody's
GLANCE_SECONDS = 0.2  # more than `held_by` has a lock for


def sync_tree(path: Path) -> None:
    """Flush a file, or a folder with all that lies under it, to the disk."""
    if path.is_dir():
        for folder, _, files in os.walk(path, topdown=False):
            for name in files:
                _sync(Path(folder, name))
            _sync(Path(folder))
    else:
        _sync(path)


def replace_durably(staging: Path, path: Path) -> None:
    """Move a finished file or folder to its name, in one step, its content flushed before.

    A file of that name is replaced; so is a folder that is empty.
    Raises: OSError where the name is that of a folder with content.
    """
    sync_tree(staging)
    os.replace(staging, path)
    _sync(path.parent)


@contextmanager
def staged(path: Path, *, beside: Path | None = None) -> Iterator[Path]:
    """A hidden name to write a file or folder under, which is moved to `path` at the end.

    Where the context ends by an exception, what was written is removed, and `path` stays as it
    was.

    Args:
        path: the name it gets; see `replace_durably`.
        beside: gives the hidden name its folder and its beginning; None: `path`.
    """
    with scratch(beside or path) as staging:
        yield staging
        replace_durably(staging, path)


@contextmanager
def staged_place(place: Place, *, beside: Place | None = None) -> Iterator[Place]:
    """The same at any place.

    Behind a URL it is in memory, and put at the end: the metadata of a group last, and only if
    there is none, as another process has then written the same.
    """
    if isinstance(place, RemotePlace):
        with in_memory() as memory:
            yield memory / place.name
            _put_all(memory / place.name, place)
    else:
        assert not isinstance(beside, RemotePlace)
        with staged(place, beside=beside) as staging:
            yield staging


def _put_all(staging: RemotePlace, place: RemotePlace) -> None:
    """Put what is in memory at its place."""
    if staging.is_file():
        place.write_bytes(staging.read_bytes())
        return
    if (place / METADATA).is_file():  # another process has written it: its chunks stay, too
        return
    files = dict(files_below(staging))
    last = files.pop(METADATA)
    for _ in each(lambda key: (place / key).write_bytes(files[key].read_bytes()), files, place):
        pass
    (place / METADATA).put_new(last.read_bytes())


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` for a file or folder, which is removed at the end.

    What a killed run leaves of it `remove_orphans` removes.
    """
    place = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    try:
        yield place
    finally:
        remove(place)


def write_whole(path: Place, content: bytes) -> None:
    """Write a file whole or not at all."""
    if isinstance(path, RemotePlace):
        path.write_bytes(content)
        return
    with staged(path) as staging:
        staging.write_bytes(content)


def check_vacant(path: Path) -> None:
    """Raise InputError where a new file or folder cannot be called `path`."""
    if os.path.lexists(path):
        raise InputError(f"{path} is there already: move it away, or choose another name")
    check_folder(path)


def check_folder(path: Path) -> None:
    """Raise InputError where there is no folder for a file or folder called `path`."""
    if not path.parent.is_dir():
        raise InputError(f"no folder {path.parent} to write {path.name} into: make it first")


def check_file_name(path: Path) -> None:
    """Raise InputError where no file can be called `path`, be there one of that name or not."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file")
    check_folder(path)


def remove_orphans(path: Place) -> None:
    """Remove what killed runs left beside `path` when they were writing it.

    What changed within ORPHANED_SECONDS may be another process's work and stays.
    """
    if isinstance(path, RemotePlace):  # objects are whole or absent
        return
    for orphan in path.parent.glob(f".{path.name}.*{PARTIAL}"):
        if time.time() - _changed(orphan) > ORPHANED_SECONDS:
            remove(orphan)


def remove(path: Place) -> None:
    """Remove a file, or a folder as far as it can be, or nothing."""
    if isinstance(path, RemotePlace):
        path.remove_tree()
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def exclusive(
    lock: Place, what: str, *, wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold a lock file, whose folder is made if need be.

    The lock is the operating system's, so that it ends with the process that holds it, however
    that ends. Beside it lies a note of who holds it and since when; the note alone may be left
    behind, and is overwritten by the next holder. Behind a URL it is a lease, see
    `storage.places.lease`.

    Args:
        lock: the file.
        what: is done with it, as in "building runs/patches/digits.zarr", for those who come second.
        wait: is told so there, and they wait; None: they are refused.

    Raises: BusyError where another process holds it.
    """
    if isinstance(lock, RemotePlace):
        with leased(lock, what, wait):
            yield
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = FileLock(lock)
    note = lock.with_name(lock.name + ".json")
    try:
        file.acquire(timeout=GLANCE_SECONDS)
    except Timeout:
        told = f"{_holder(note)} is {what}"
        if wait is None:
            raise BusyError(f"{told}: wait until it is done, or choose another OUT") from None
        wait(f"waiting: {told}")
        file.acquire()
    try:
        note.write_text(json.dumps(holds()))
        yield
    finally:
        note.unlink(missing_ok=True)
        file.release()


def held_by(lock: Place) -> str | None:
    """Words for who holds a lock file now, as far as can be seen; None: nobody does.

    What a killed process left is nobody's. Where no lock may be taken, its note is believed.
    """
    if isinstance(lock, RemotePlace):
        return lease_holder(lock)
    note = lock.with_name(lock.name + ".json")
    if not note.exists():  # so that no lock is taken for a moment that others need
        return None
    file = FileLock(lock)
    try:
        file.acquire(timeout=0)
    except (Timeout, OSError):
        return _holder(note)
    file.release()
    return None


def _holder(note: Path) -> str:
    """Words for who wrote the note, which may not be there yet."""
    try:
        return holder(note.read_bytes())
    except OSError:
        return holder(b"")


def _changed(path: Path) -> float:
    """When a file, or anything in a folder, changed last."""
    times = [inner.stat().st_mtime for inner in path.rglob("*")] if path.is_dir() else []
    return max([path.stat().st_mtime, *times])


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders, nor need it
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
