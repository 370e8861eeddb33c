"""Places: a folder or file of this machine, or one behind a URL; what differs between the two."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from storage.errors import InputError
from storage.places.remote import WRITABLE, RemotePlace, Stat

Place = Path | RemotePlace
AT_ONCE = 8  # requests under way where many objects are read: 50 ms each are 6 ms then
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(text: str) -> bool:
    """Whether a text names a place behind a URL, of a kind that is known or not."""
    return bool(_SCHEME.match(text))


def place_of(text: str | Place) -> Place:
    """The place that a text names. Raises: InputError for URLs of another kind."""
    if isinstance(text, RemotePlace):
        return text
    return RemotePlace.of(text) if isinstance(text, str) and is_url(text) else Path(text)


def writable(place: Place) -> Place:
    """The place. Raises: InputError where nothing can be written."""
    if isinstance(place, RemotePlace) and place.scheme not in WRITABLE:
        raise InputError(f"{place} can only be read: use a folder, or a bucket as in s3://NAME/…")
    return place


def local(place: str | Place, what: str) -> Path:
    """The folder or file. Raises: InputError where it lies behind a URL; what: writes it."""
    place = place_of(place)
    if isinstance(place, RemotePlace):
        raise InputError(
            f"{place} is behind a URL, where {what} does not write: name a file or folder of this"
            " machine (--out), and copy it there"
        )
    return place


def in_order(places: Iterable[Place]) -> list[Place]:
    """Sorted by the names of their folders, then by their own."""
    return sorted(places, key=lambda place: str(place).split("/"))


def files_below(folder: Place) -> Iterator[tuple[str, Place]]:
    """All files in a folder and those in it: path within it, and place; in order."""
    if isinstance(folder, RemotePlace):
        for place, _ in folder.files():
            yield place.relative_key(folder), place
    else:
        for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
            yield path.relative_to(folder).as_posix(), path


def stats_below(folder: Place) -> dict[str, Stat]:
    """Bytes and time of all files in a folder and those in it, by the path within it."""
    if isinstance(folder, RemotePlace):
        return {place.relative_key(folder): stat for place, stat in folder.files()}
    found = {}
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with suppress(OSError):  # it went meanwhile, as walk passes over folders that do
                stat = path.stat()
                found[path.relative_to(folder).as_posix()] = Stat(stat.st_size, stat.st_mtime)
    return found


def bytes_below(folder: Place) -> int:
    """What all files in a folder and those in it take."""
    return sum(stat.st_size for stat in stats_below(folder).values())


def read_start(place: Place, most: int) -> bytes:
    """The first bytes of a file, so many at most."""
    if isinstance(place, RemotePlace):
        return place.read_start(most)
    with place.open("rb") as file:
        return file.read(most)


def each(
    work: Callable[[_Item], _Result], items: Iterable[_Item], where: Place
) -> Iterator[_Result]:
    """Results of reading each item, in order; of objects behind a URL some at once.

    work: may be called by several threads. where: the items lie.
    """
    if isinstance(where, Path):
        yield from map(work, items)
        return
    waiting: deque[Future[_Result]] = deque()
    order = iter(items)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="read") as pool:
        waiting.extend(pool.submit(work, item) for item in islice(order, AT_ONCE))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(order, 1))
        finally:
            pool.shutdown(cancel_futures=True)
