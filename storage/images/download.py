"""Downloads with pinned hashes; a right file that is already there is never fetched again."""

import hashlib
import itertools
import logging
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from storage.atomic import remove_orphans, staged
from storage.errors import InputError
from storage.images.datasets import RemoteFile

ROUNDS = 3  # times that the mirrors are asked by default
BACKOFF_SECONDS = 1.0  # before the second round, doubled for each after it
SILENCE_SECONDS = 20.0  # without a byte, after which a mirror is left
_log = logging.getLogger(__name__)  # warnings reach standard error by themselves


def find_or_fetch(file: RemoteFile, dataset: str, data_dir: Path, *, rounds: int = ROUNDS) -> Path:
    """Path of the file on disk, downloaded to `data_dir/dataset` if it is not there.

    Looked for in `data_dir` and `data_dir/dataset`; a file with another content is passed over
    (MNIST and Fashion-MNIST share their file names), and nothing in `data_dir` itself is touched.
    What was there under the file's name in `data_dir/dataset` gets another name once the right
    file is whole.

    Args:
        file: what it is called, its hash, and its mirrors.
        dataset: names the folder in `data_dir`.
        data_dir: folder of downloads.
        rounds: how often the mirrors are asked, one after another.

    Raises: InputError when no mirror gives the right file, or the disk does not take it.
    """
    target = data_dir / dataset / file.name
    try:
        for folder in (target.parent, data_dir):
            if _has_digest(folder / file.name, file.digest):
                return folder / file.name
            unpacked = folder / file.name.removesuffix(".gz")
            if file.unpacked_digest and _has_digest(unpacked, file.unpacked_digest):
                return unpacked
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_orphans(target)
        try:
            _fetch(file, target, rounds)
        finally:
            with suppress(OSError):  # not empty
                target.parent.rmdir()
        return target
    except OSError as error:
        raise InputError(
            f"cannot use {error.filename or target.parent}: {error.strerror or error}; make room"
            " or choose another DATA"
        ) from error


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
    tries = ", ".join(f"{site} ({reason})" for site, reason in reasons.items())
    kept = f"; {target}, which is another file, is as it was" if target.exists() else ""
    raise InputError(
        f"cannot download {file.name}: tried {tries}; fetch it by hand into {target.parent},"
        f" its {file.digest.replace(':', ' is ', 1)}{kept}"
    )


def _fetch_from(url: str, digest: str, target: Path) -> str:
    """Fetch from one mirror; why it failed, "" if it did not."""
    import pooch  # slow to load, as requests is; needed only where something is fetched
    import requests

    terminal = sys.stderr.isatty()
    if not terminal:
        print(f"fetching {url}", file=sys.stderr)
    download = pooch.HTTPDownloader(
        progressbar=terminal,
        timeout=SILENCE_SECONDS,
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
        return type(error).__name__
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


def _has_digest(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    algorithm, _, expected = digest.partition(":")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == expected
