"""Downloads with pinned hashes; a right file that is already there is never fetched again."""

import gzip
import hashlib
import itertools
import logging
import os
import re
import shutil
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.atomic import remove_orphans, staged
from storage.errors import InputError
from storage.images.datasets import RemoteFile
from storage.images.formats.idx import GZIP_MAGIC
from storage.places.fetched import own_folder
from storage.places.place import Place
from storage.places.remote import RemotePlace

ROUNDS = 3  # times that the mirrors are asked by default
BACKOFF_SECONDS = 1.0  # before the second round, doubled for each after it
CONNECT_SECONDS = 5.0  # until a mirror answers at all
SILENCE_SECONDS = 20.0  # without a byte, after which a mirror is left
OFFLINE = ", no connection"  # ends the reason of a mirror that was not reached
DEEPEST = 4  # folders below DATA in which files are looked for
_IDX_NAME = re.compile("idx|ubyte", re.IGNORECASE)
_log = logging.getLogger(__name__)  # warnings reach standard error by themselves


def find_or_fetch(file: RemoteFile, dataset: str, data_dir: Place, *, rounds: int = ROUNDS) -> Path:
    """Path of the file on disk, downloaded to `data_dir/dataset` if it is not there.

    Looked for in `data_dir` and the folders in it, also under the names that other tools give it
    (train-images.idx3-ubyte, MNIST/raw/…), packed or not: its content tells. A file with another
    one is passed over (MNIST and Fashion-MNIST share their file names), and nothing outside of
    `data_dir/dataset` is touched.
    What was there under the file's name in `data_dir/dataset` gets another name once the right
    file is whole.

    Args:
        file: what it is called, its hash, and its mirrors.
        dataset: names the folder in `data_dir`.
        data_dir: folder of downloads; at a URL it holds the file, too, and a scratch folder of this
            process what is read.
        rounds: how often the mirrors are asked, one after another.

    Raises: InputError when no mirror gives the right file, or the disk does not take it.
    """
    if isinstance(data_dir, RemotePlace):
        return _find_behind(data_dir / dataset / file.name, file, dataset, rounds)
    target = data_dir / dataset / file.name
    with _naming(target.parent):
        if (found := _find(file, target)) is not None:
            return found
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_orphans(target)
        try:
            _fetch(file, target, rounds)
        finally:
            with suppress(OSError):  # not empty
                target.parent.rmdir()
        return target


def find_or_unpack(
    files: Sequence[RemoteFile],
    archive: RemoteFile,
    dataset: str,
    data_dir: Place,
    *,
    rounds: int = ROUNDS,
) -> list[Path]:
    """Paths of files of an archive (.tar.gz); those that are not there are unpacked beside it.

    Args:
        files: that are wanted; each is looked for as `find_or_fetch` does.
        archive: in which they lie; looked for, or fetched, only where one of them is not there.
        dataset: names the folder in `data_dir`.
        data_dir: folder of downloads.
        rounds: how often the mirrors are asked, one after another.

    Raises: InputError as `find_or_fetch` does.
    """
    if isinstance(data_dir, RemotePlace):
        find_or_fetch(archive, dataset, data_dir, rounds=rounds)
        data_dir = own_folder()
    folder = data_dir / dataset
    with _naming(folder):
        places = [_find(file, folder / file.name) for file in files]
        missing = [file for file, place in zip(files, places, strict=True) if place is None]
        if missing:
            packed = find_or_fetch(archive, dataset, data_dir, rounds=rounds)
            folder.mkdir(parents=True, exist_ok=True)
            _unpack(packed, missing, folder)
        return [place or folder / file.name for file, place in zip(files, places, strict=True)]


def _find_behind(place: RemotePlace, file: RemoteFile, dataset: str, rounds: int) -> Path:
    """The file in the folder of this process, from a place, or from a mirror and put there."""
    target = own_folder() / dataset / file.name
    if not _is(target, file):
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError), staged(target) as staging:
            place.fetch(staging)
    if not _is(target, file):
        target.unlink(missing_ok=True)
        find_or_fetch(file, dataset, own_folder(), rounds=rounds)
        place.write_bytes(target.read_bytes())
    return target


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """What the system refuses is an InputError that names the file, or the folder."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot use {error.filename or folder}: {error.strerror or error}; make room or choose"
            " another DATA"
        ) from error


def _find(file: RemoteFile, target: Path) -> Path | None:
    """Where the file is; target: its place in the folder of its data set, in that of downloads."""
    data_dir = target.parent.parent
    for folder in (target.parent, data_dir):
        for place in (folder / file.name, folder / file.name.removesuffix(".gz")):
            if _is(place, file):
                return place
    for place in _alike(data_dir, file.name):
        with suppress(OSError):  # it may be another's
            if _is(place, file):
                return place
    return None


def _unpack(archive: Path, files: Sequence[RemoteFile], folder: Path) -> None:
    """Unpack files of an archive, in whatever folders of it they lie; each whole or not at all."""
    wanted = {file.name: file for file in files}
    try:
        with tarfile.open(archive, "r|gz") as members:
            for member in members:
                file = wanted.get(Path(member.name).name)
                if file is None or (stream := members.extractfile(member)) is None:
                    continue
                target = folder / file.name
                remove_orphans(target)
                with staged(target) as staging:
                    with staging.open("wb") as unpacked:
                        shutil.copyfileobj(stream, unpacked)
                    if not _has_digest(staging, file.digest):
                        raise tarfile.ReadError(f"it holds another {file.name}")
                    _set_aside(target)
                del wanted[file.name]
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{archive} is damaged ({error}): delete it or fetch it again") from error
    if wanted:
        raise InputError(f"{archive} lacks {', '.join(wanted)}: delete it or fetch it again")


def _alike(folder: Path, name: str) -> list[Path]:
    """Files that may be the one of this name under another, those that are called alike first."""
    wanted, found = _letters(name), list[Path]()
    idx = _IDX_NAME.search if _IDX_NAME.search(name) else lambda _: None
    for place, folders, names in os.walk(folder):
        if len(Path(place).relative_to(folder).parts) == DEEPEST:
            folders.clear()
        found += [Path(place, other) for other in names if other == name or idx(other)]
    return sorted(found, key=lambda path: (_letters(path.name) != wanted, path))


def _letters(name: str) -> str:
    """What names of the same file have in common."""
    return re.sub(r"[\W_]", "", name.lower().removesuffix(".gz"))


def _fetch(file: RemoteFile, target: Path, rounds: int) -> None:
    """Ask the mirrors in rounds, one after another, until one gives the file."""
    reasons: dict[str, str] = {}
    for tried in range(rounds):
        if tried:
            time.sleep(BACKOFF_SECONDS * 2 ** (tried - 1))
        for site in file.sites:
            reasons[site] = _fetch_from(site + file.name, file.digest, target)
            if not reasons[site]:
                return
        if all(reason.endswith(OFFLINE) for reason in reasons.values()):
            break
    tries = ", ".join(f"{site} ({reason})" for site, reason in reasons.items())
    kept = f"; {target}, which is another file, is as it was" if target.exists() else ""
    other = file.unpacked_digest
    unpacked = f", unpacked its {other.replace(':', ' is ', 1)}" if other else ""
    raise InputError(
        f"cannot download {file.name}: tried {tries}; fetch it by hand into {target.parent},"
        f" its {file.digest.replace(':', ' is ', 1)}{unpacked}{kept}"
    )


def _fetch_from(url: str, digest: str, target: Path) -> str:
    """Fetch from one mirror; why it failed, "" if it did not."""
    import pooch  # slow to load, as requests is; needed only where something is fetched
    import requests
    import urllib3

    terminal = sys.stderr.isatty()
    if not terminal:
        print(f"fetching {url}", file=sys.stderr)
    download = pooch.HTTPDownloader(
        progressbar=terminal,
        timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
        headers={"Accept-Encoding": "identity"},  # unpacked on the way it has another hash
    )
    try:
        with staged(target) as staging:
            download(url, str(staging), None)
            if not _has_digest(staging, digest):
                raise ValueError("wrong hash")
            _set_aside(target)
    except requests.HTTPError as error:
        return f"HTTP {getattr(error.response, 'status_code', 0)}"
    except requests.RequestException as error:
        reason = getattr(error.args[0] if error.args else None, "reason", None)
        # of a connection that never was, unlike one that was lost
        offline = isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError)
        offline |= isinstance(reason, urllib3.exceptions.NewConnectionError)
        return type(error).__name__ + OFFLINE * offline
    except ValueError as error:
        return str(error)
    return ""


def _set_aside(path: Path) -> None:
    """Give what has the name of a data set's file another one: it may be of worth to someone."""
    if os.path.lexists(path):
        names = (path.with_name(f"{path.name}.old{number}") for number in itertools.count(1))
        other = next(name for name in names if not os.path.lexists(name))
        path.rename(other)
        _log.warning("%s was not the file of that data set: it is %s now", path, other.name)


def _is(path: Path, file: RemoteFile) -> bool:
    """Whether the content is the file's, as it is served, unpacked, or packed anew."""
    if _has_digest(path, file.digest):
        return True
    if not file.unpacked_digest or not path.is_file():
        return False
    with path.open("rb") as stream:
        packed = stream.read(2) == GZIP_MAGIC
    if not packed:
        return _has_digest(path, file.unpacked_digest)
    try:
        with gzip.open(path) as unpacked:
            algorithm, _, expected = file.unpacked_digest.partition(":")
            digest = hashlib.new(algorithm)
            while block := unpacked.read(1 << 20):
                digest.update(block)
            return digest.hexdigest() == expected
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False


def _has_digest(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    algorithm, _, expected = digest.partition(":")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == expected
