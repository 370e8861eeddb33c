"""Downloads with pinned hashes; a right file that is already there is never fetched again."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.errors import InputError

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


def find_or_fetch(file: RemoteFile, dataset: str, data_dir: Path) -> Path:
    """Path of the file on disk, downloaded to `data_dir/dataset` if it is not there.

    Looked for in `data_dir` and `data_dir/dataset`; a file with another content is passed over
    (MNIST and Fashion-MNIST share their file names), and nothing in `data_dir` itself is touched.
    Raises: InputError when no mirror gives the right file.
    """
    for folder in (data_dir / dataset, data_dir):
        if _has_digest(folder / file.name, file.digest):
            return folder / file.name
        unpacked = folder / file.name.removesuffix(".gz")
        if file.unpacked_digest and _has_digest(unpacked, file.unpacked_digest):
            return unpacked
    return _fetch(file, data_dir / dataset)


def _fetch(file: RemoteFile, folder: Path) -> Path:
    # Loaded only when something is fetched: pooch brings requests along.
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    reasons = []
    for site in file.sites:
        try:
            return Path(
                pooch.retrieve(
                    site + file.name,
                    known_hash=file.digest,
                    fname=file.name,
                    path=folder,
                    downloader=pooch.HTTPDownloader(progressbar=True, timeout=30),
                )
            )
        except (requests.RequestException, ValueError) as error:
            # pooch raises ValueError for a wrong hash
            reason = "wrong hash" if isinstance(error, ValueError) else type(error).__name__
            reasons.append(f"{site} ({reason})")
    with suppress(OSError):  # not empty: then something of worth is there
        folder.rmdir()
    raise InputError(
        f"cannot download {file.name}: tried {', '.join(reasons)}; fetch it by hand into {folder},"
        f" its {file.digest.replace(':', ' is ', 1)}"
    )


def _has_digest(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    algorithm, _, expected = digest.partition(":")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == expected
