"""Image sources: named data sets, files and arrays, read part by part; and their classes."""

import hashlib
import math
import re
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import InputError, IntegrityError, shortened
from storage.images.datasets import DATASETS, SPLITS, splits_of
from storage.images.digits import read_digits
from storage.images.download import ROUNDS, find_or_fetch
from storage.images.idx import read_idx
from storage.images.npy import map_npy
from storage.mapped_files import let_go

PIXEL_DTYPES = ("uint8", "uint16", "float32", "float64")
_HASH_BLOCK = 1 << 24  # bytes
_PICKED_TOGETHER = 8  # images that lie apart
_NAME_LETTERS = 40  # with up to four bytes each, a store's name stays below 255


@dataclass(frozen=True)
class ImageSource:
    """A set of images of one size.

    name: begins the names of what is made of them: letters, digits, underscores and dashes.
    split: "train" or "test".
    images: (n, rows, columns) or (n, rows, columns, channels), possibly mapped from disk.
    """

    name: str
    split: str
    images: np.ndarray

    def __post_init__(self) -> None:
        if not self.name or self.name != _fit_for_names(self.name):
            raise InputError(
                f"images cannot be called {shortened(self.name)}: use up to {_NAME_LETTERS}"
                " letters, digits, underscores and dashes"
            )
        if self.split not in SPLITS:
            raise InputError(f"no split {shortened(self.split)}: use {', '.join(SPLITS)}")
        _check_images(self.images, f"the array {self.name}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(rows, columns), or (rows, columns, channels) for colour."""
        return self.images.shape[1:]

    @property
    def channels(self) -> int:
        """Values of a pixel."""
        return math.prod(self.image_shape[2:])

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels, in native byte order."""
        return self.images.dtype.newbyteorder("=")

    @property
    def resident_bytes(self) -> int:
        """What the images take in a process that opens them; mapped ones nothing."""
        return 0 if isinstance(self.images, np.memmap) else self.images.nbytes

    def read(self, which: slice | np.ndarray) -> np.ndarray:
        """A copy of some images, in native byte order.

        Pages of a mapped file are let go at once: they would count as resident memory. Each image
        that is picked alone may bring some MB of its neighbourhood with it.
        """
        if isinstance(which, slice):
            copy = np.asarray(self.images[which].astype(self.dtype))
            let_go(self.images)
            return copy
        copy = np.empty((len(which), *self.image_shape), self.dtype)
        mapped = isinstance(self.images, np.memmap)
        step = _PICKED_TOGETHER if mapped else max(1, len(which))
        for first in range(0, len(which), step):
            part = slice(first, first + step)
            copy[part] = self.images[which[part]]
            let_go(self.images)
        return copy

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of dtype, shape and pixels: the same however the file is packed."""
        return self._digest()

    def check_unchanged(self) -> None:
        """Raise IntegrityError where the pixels are others than those of `fingerprint`."""
        now = self._digest()
        if now != self.fingerprint:
            raise IntegrityError(
                f"{getattr(self.images, 'filename', None) or self.name} changed while patches were"
                f" cut from it (SHA-256 {now[:10]}… where {self.fingerprint[:10]}… was): run it"
                " again"
            )

    def describe(self) -> dict[str, Any]:
        """What a store records of its images: plain JSON."""
        return {
            "name": self.name,
            "split": self.split,
            "images": len(self),
            "image_shape": list(self.image_shape),
            "dtype": self.dtype.name,
            "fingerprint": self.fingerprint,
        }

    def _digest(self) -> str:
        images = self.images
        digest = hashlib.sha256(f"{images.dtype.name}{images.shape}".encode())
        step = max(1, _HASH_BLOCK // images[0].nbytes)
        for start in range(0, len(images), step):
            digest.update(np.ascontiguousarray(self.read(slice(start, start + step))).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class ImageReference:
    """Images by what `open_images` is told: small enough to be sent to every worker.

    fingerprint: of the images that are meant; a file may change, or be another elsewhere.
    """

    dataset: str
    split: str
    data_dir: Path
    fingerprint: str

    def open(self) -> ImageSource:
        """The images; raises IntegrityError where they are others."""
        found = open_images(self.dataset, self.split, self.data_dir)
        if found.fingerprint != self.fingerprint:
            raise IntegrityError(
                f"{self.dataset} is not the same on all workers, or changed: run it again"
            )
        return found


def open_images(dataset: str, split: str = "train", data_dir: str | Path = "data") -> ImageSource:
    """Open the images of a data set, downloading them to `data_dir` if need be.

    Args:
        dataset: "digits" (8×8, inside scikit-learn, its 17 grey levels stretched to 0–255; the
            last 297 images, by other writers, are its test split), "mnist", "fashion-mnist", or
            a path to an IDX file (plain or .gz) or a .npy file of shape (n, rows, columns) or
            (n, rows, columns, channels).
        split: "train" or "test"; a path has only "train".
        data_dir: where downloads are kept; right files found there are used.

    Raises: InputError for an unknown data set or split, and for files that are missing, damaged,
        or not images.
    """
    _check_split(dataset, split)
    if dataset == "digits":
        return ImageSource(dataset, split, read_digits(split)[0])
    if dataset in DATASETS:
        path = find_or_fetch(DATASETS[dataset].images[split], dataset, Path(data_dir))
        images = read_idx(path)
        _check_images(images, str(path))
        return ImageSource(dataset, split, images)
    path = Path(dataset)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(
            f"no data set {shortened(dataset)}: use {', '.join(DATASETS)}, or the path of an"
            f" existing IDX or .npy file ({getattr(error, 'strerror', None) or error})"
        ) from error
    if not stat.S_ISREG(mode):  # a pipe would be waited for
        raise InputError(f"{path} is not a file: give an IDX or .npy file")
    images = map_npy(path) if path.suffix.lower() == ".npy" else read_idx(path)
    _check_images(images, str(path))
    return ImageSource(_name_of(path), split, images)


def open_labels(
    dataset: str, split: str = "train", data_dir: str | Path = "data", *, rounds: int = ROUNDS
) -> np.ndarray | None:
    """The class of each image of a data set, in the order of `open_images`.

    Args:
        dataset: as for `open_images`.
        split: "train" or "test"; a path has only "train".
        data_dir: where downloads are kept; right files found there are used.
        rounds: how often the mirrors are asked for a file that is not there.

    Returns: (images,) int64, numbers into `class_names`; None for a path, whose classes nobody
        knows.
    Raises: InputError for an unknown split, and for a file that is neither there nor to be had.
    """
    _check_split(dataset, split)
    if dataset == "digits":
        return read_digits(split)[1]
    if dataset not in DATASETS:
        return None
    named = DATASETS[dataset]
    path = find_or_fetch(named.labels[split], dataset, Path(data_dir), rounds=rounds)
    labels, names = read_idx(path), named.class_names
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise InputError(
            f"{path} holds {labels.dtype.name} of shape {labels.shape} where whole numbers of shape"
            " (images,) are expected: fetch it again"
        )
    if not 0 <= labels.min() <= labels.max() < len(names):
        raise InputError(
            f"{path} holds classes from {labels.min()} to {labels.max()} where 0 to"
            f" {len(names) - 1} are expected: fetch it again"
        )
    return labels.astype(np.int64)


def _check_split(dataset: str, split: str) -> None:
    if split not in splits_of(dataset):
        raise InputError(f"{dataset} has no {split} split: use {', '.join(splits_of(dataset))}")


def _name_of(path: Path) -> str:
    """A file's stem, as far as it may stand in a name."""
    return _fit_for_names(path.name.lstrip(".").split(".")[0]) or "images"


def _fit_for_names(text: str) -> str:
    return re.sub(r"[^\w-]+", "_", text)[:_NAME_LETTERS]


def _check_images(images: np.ndarray, what: str) -> None:
    """Raise InputError for an array that holds no images."""
    if images.ndim not in (3, 4) or images.size == 0:
        raise InputError(
            f"{what} has the shape {images.shape} where (images, rows, columns) or"
            " (images, rows, columns, channels) is expected"
        )
    if images.dtype.name not in PIXEL_DTYPES:
        raise InputError(
            f"{what} holds {images.dtype.name} where pixels of type {', '.join(PIXEL_DTYPES)}"
            " are expected: "
            + (
                "add an offset, as in (images - images.min()).astype('uint16')"
                if images.dtype.kind == "i"
                else "convert it first"
            )
        )
