"""Downloads with pinned hashes; a right file that is already there is never fetched again."""

import hashlib
import itertools
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import InputError

if TYPE_CHECKING:
    from storage.images.transfer import Transfer

ROUNDS = 4  # times that the mirrors are asked by default
BACKOFF_SECONDS = 1.0  # before the second round, doubled for each after it
_log = logging.getLogger(__name__)  # warnings reach standard error by themselves

FASHION_SITES = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
MNIST_SITES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set.

    name: file name, the same on every mirror and on disk.
    digest: "algorithm:hex" of the file as it is served.
    sites: URL prefixes, tried in order.
    unpacked_digest: "algorithm:hex" of the gunzipped file, accepted under the name without .gz.
    """

    name: str
    digest: str
    sites: tuple[str, ...]
    unpacked_digest: str | None = None


# (data set, split) -> the file of its images
IMAGE_FILES = {
    ("mnist", "train"): RemoteFile(
        "train-images-idx3-ubyte.gz",
        "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        MNIST_SITES,
        "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    ("mnist", "test"): RemoteFile(
        "t10k-images-idx3-ubyte.gz",
        "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        MNIST_SITES,
        "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    ("fashion-mnist", "train"): RemoteFile(
        "train-images-idx3-ubyte.gz", "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d", FASHION_SITES
    ),
    ("fashion-mnist", "test"): RemoteFile(
        "t10k-images-idx3-ubyte.gz", "md5:bef4ecab320f06d8554ea6380940ec79", FASHION_SITES
    ),
}
# (data set, split) -> the file of its images' classes
LABEL_FILES = {
    ("mnist", "train"): RemoteFile(
        "train-labels-idx1-ubyte.gz",
        "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        MNIST_SITES,
        "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    ("mnist", "test"): RemoteFile(
        "t10k-labels-idx1-ubyte.gz",
        "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        MNIST_SITES,
        "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    ("fashion-mnist", "train"): RemoteFile(
        "train-labels-idx1-ubyte.gz", "md5:25c81989df183df01b3e8a0aad5dffbe", FASHION_SITES
    ),
    ("fashion-mnist", "test"): RemoteFile(
        "t10k-labels-idx1-ubyte.gz", "md5:bb300cfdad3c16e7a12a480ee83cd310", FASHION_SITES
    ),
}


def find_or_fetch(file: RemoteFile, dataset: str, data_dir: Path, *, rounds: int = ROUNDS) -> Path:
    """Path of the file on disk, downloaded to `data_dir/dataset` if it is not there.

    Looked for in `data_dir` and `data_dir/dataset`; a file with another content is passed over
    (MNIST and Fashion-MNIST share their file names), and nothing in `data_dir` itself is touched.
    What was there under the file's name in `data_dir/dataset` gets another name once the right
    file is whole. An unfinished download lies beside it, hidden, and the next call goes on with it.
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
        with _sole_fetcher(target):
            # Another process may have fetched it while this one waited.
            if not _has_digest(target, file.digest):
                _fetch(file, target, rounds)
        return target
    except OSError as error:
        raise InputError(
            f"cannot use {error.filename or target.parent}: {error.strerror or error}; make room"
            " or choose another DATA"
        ) from error


def _fetch(file: RemoteFile, target: Path, rounds: int) -> None:
    work = target.with_name(f".{file.name}.unfinished")  # ours alone
    partial = work / "partial"
    work.mkdir(exist_ok=True)
    for left in set(work.iterdir()) - {partial}:  # pooch's, of a process that was killed
        left.unlink()
    try:
        whole = _from_mirrors(file, work, partial, rounds)
    except OSError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    except InputError as error:
        kept = ""
        if partial.exists() and partial.stat().st_size:
            kept = f"; its first {partial.stat().st_size} bytes are kept, run again to go on"
        else:
            work.rmdir()
        if target.exists():
            kept += f"; {target}, which is another file, is as it was"
        raise InputError(f"{error}{kept}") from error
    _set_aside(target)
    whole.replace(target)
    shutil.rmtree(work)


def _from_mirrors(file: RemoteFile, work: Path, partial: Path, rounds: int) -> Path:
    """The right file, in `work`. A fault that may pass is met by the next mirror, then by waiting.

    Raises: InputError when no mirror gave it; OSError when the disk did not take it.
    """
    # Loaded only when something is fetched: requests takes a while.
    from storage.images.transfer import Transfer, TransferError

    transfer = Transfer(partial)
    sites, reasons, wait = list(file.sites), dict.fromkeys(file.sites, ""), 0.0
    for tried in range(rounds):
        if tried:
            time.sleep(max(wait, BACKOFF_SECONDS * 2 ** (tried - 1)))
        wait = 0.0
        for site in tuple(sites):
            try:
                return _from_mirror(site, file, work, transfer)
            except TransferError as error:
                reasons[site] = str(error)
                wait = max(wait, error.wait)
                if not error.transient:
                    sites.remove(site)
        if not sites:
            break
    tries = ", ".join(f"{site} ({reason})" for site, reason in reasons.items())
    raise InputError(
        f"cannot download {file.name}: tried {tries}; fetch it by hand into {work.parent},"
        f" its {file.digest.replace(':', ' is ', 1)}"
    )


def _from_mirror(site: str, file: RemoteFile, work: Path, transfer: "Transfer") -> Path:
    import pooch

    from storage.images.transfer import TransferError

    pooch.get_logger().setLevel("ERROR")
    while True:
        try:
            return Path(
                pooch.retrieve(
                    site + file.name,
                    known_hash=file.digest,
                    fname=file.name,
                    path=work,
                    downloader=transfer,
                )
            )
        except ValueError as error:  # pooch's word for a wrong hash; what came is deleted
            if not transfer.resumed:  # else its beginning may have been of another file
                raise TransferError("wrong hash", transient=False) from error


def _set_aside(path: Path) -> None:
    """Give what has the name of a data set's file another one: it may be of worth to someone."""
    if os.path.lexists(path):
        names = (path.with_name(f"{path.name}.old{number}") for number in itertools.count(1))
        other = next(name for name in names if not os.path.lexists(name))
        path.rename(other)
        _log.warning("%s was not the file of that data set: it is %s now", path, other.name)


@contextmanager
def _sole_fetcher(target: Path) -> Iterator[None]:
    """Holds the lock of one file, and leaves neither it nor an empty folder behind."""
    from filelock import FileLock, Timeout  # this module is loaded by --help

    path = target.with_name(f".{target.name}.lock")
    lock, waits = FileLock(path), False
    while not lock.is_locked:
        target.parent.mkdir(parents=True, exist_ok=True)
        # FileNotFoundError: another process gave up and took the folder away.
        with suppress(FileNotFoundError):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if not waits:
                    _log.warning("waiting: another process fetches %s", target)
                waits = True
                time.sleep(0.2)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open
            path.unlink()
        lock.release()
        with suppress(OSError):  # not empty: then something of worth is there
            target.parent.rmdir()


def _has_digest(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    algorithm, _, expected = digest.partition(":")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == expected
