"""The named data sets: one row each. Their files are listed with where they are served and hashes.

A new one needs a row here and, where its files are neither IDX nor CIFAR's, a reader in
`storage.images.formats.named`.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from storage.errors import InputError

SPLITS = ("train", "test")
LIKE = 0.7  # as difflib has it: so alike that a name was meant


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set.

    name: file name, the same on every mirror and on disk.
    digest: "algorithm:hex" of the file as it is served.
    sites: URL prefixes, tried in order; none of what lies in an archive.
    unpacked_digest: "algorithm:hex" of the gunzipped file, accepted under the name without .gz.
    """

    name: str
    digest: str
    sites: tuple[str, ...] = ()
    unpacked_digest: str | None = None


@dataclass(frozen=True)
class NamedSet:
    """A data set that has a name.

    class_names: names of its classes, in the order of their numbers.
    images, labels: by split, the files of its images and of their classes; none where another
        package holds them.
    batches: by split, files of images with their classes, as CIFAR has them.
    archive: in which the batches lie.
    splits: that it has.
    licence: of its images, as those who publish them state it; empty where they state none.
    """

    class_names: tuple[str, ...]
    images: Mapping[str, RemoteFile] = field(default_factory=dict)
    labels: Mapping[str, RemoteFile] = field(default_factory=dict)
    batches: Mapping[str, tuple[RemoteFile, ...]] = field(default_factory=dict)
    archive: RemoteFile | None = None
    splits: tuple[str, ...] = SPLITS
    licence: str = ""


def _idx_set(
    class_names: tuple[str, ...],
    licence: str,
    sites: tuple[str, ...],
    served: tuple[str, ...],
    unpacked: tuple[str | None, ...] = (None, None, None, None),
) -> NamedSet:
    """A set in files as MNIST has them; digests: of the images of both splits, of the classes."""
    kinds = ("train-images-idx3", "t10k-images-idx3", "train-labels-idx1", "t10k-labels-idx1")
    files = [
        RemoteFile(f"{kind}-ubyte.gz", digest, sites, plain)
        for kind, digest, plain in zip(kinds, served, unpacked, strict=True)
    ]
    images, labels = (dict(zip(SPLITS, part, strict=True)) for part in (files[:2], files[2:]))
    return NamedSet(class_names, images, labels, licence=licence)


_DIGIT_NAMES = tuple("0123456789")
_CLOTHES_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_CIFAR_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_CIFAR_BATCHES = (
    ("data_batch_1", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    ("data_batch_2", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    ("data_batch_3", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    ("data_batch_4", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    ("data_batch_5", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ("test_batch", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
)
_CIFAR_FILES = tuple(RemoteFile(f"{name}.bin", f"sha256:{own}") for name, own in _CIFAR_BATCHES)
_FASHION_SITES = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
_MNIST_SITES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

DATASETS: dict[str, NamedSet] = {
    # inside scikit-learn, from the UCI repository, which states the licence
    "digits": NamedSet(_DIGIT_NAMES, licence="CC BY 4.0"),
    "photos": NamedSet((), splits=SPLITS[:1], licence="CC BY 2.0"),  # scikit-learn states it
    "mnist": _idx_set(
        _DIGIT_NAMES,
        "CC BY-SA 3.0",
        _MNIST_SITES,
        (
            "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        (
            "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": _idx_set(
        _CLOTHES_NAMES,
        "MIT",
        _FASHION_SITES,
        (
            "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "md5:bef4ecab320f06d8554ea6380940ec79",
            "md5:25c81989df183df01b3e8a0aad5dffbe",
            "md5:bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "cifar10": NamedSet(
        _CIFAR_NAMES,
        batches={"train": _CIFAR_FILES[:5], "test": _CIFAR_FILES[5:]},
        archive=RemoteFile(
            "cifar-10-binary.tar.gz",
            "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ("https://www.cs.toronto.edu/~kriz/",),
        ),
    ),
}


def meant(text: str) -> str:
    """Begins the words on a text that names no set: with the one that was meant, if any."""
    close = difflib.get_close_matches(text.lower(), DATASETS, 1, LIKE)
    return f"did you mean {close[0]}? Or " if close else ""


def class_names(dataset: str) -> tuple[str, ...] | None:
    """Names of a data set's classes, in the order of their numbers; None where there are none."""
    return (DATASETS[dataset].class_names or None) if dataset in DATASETS else None


def licence_of(dataset: str) -> str | None:
    """Licence of a named set's images; None where it is not known, as of all files."""
    return (DATASETS[dataset].licence or None) if dataset in DATASETS else None


def splits_of(dataset: str) -> tuple[str, ...]:
    """The splits a data set has: a file is all training images, most named sets have both."""
    return DATASETS[dataset].splits if dataset in DATASETS else SPLITS[:1]


def check_split(dataset: str, split: str, heldout: float | None = None) -> None:
    """Raise InputError for a split that a data set has not.

    heldout: share that is held out of a file's images, if any.
    """
    own = splits_of(dataset)
    if heldout is not None and own == SPLITS:
        raise InputError(f"{dataset} has test images of its own: hold none out")
    if split not in (SPLITS if heldout is not None else own):
        more = "" if own == SPLITS else ", or hold some out (heldout=0.1)"
        raise InputError(f"{dataset} has no {split} split: use {', '.join(own)}{more}")
