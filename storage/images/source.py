"""Image sources: named data sets and files, opened as one array of images, and their classes."""

import hashlib
import mmap
import re
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from storage.errors import InputError, shortened
from storage.images.download import IMAGE_FILES, LABEL_FILES, ROUNDS, find_or_fetch
from storage.images.idx import read_idx
from storage.images.npy import map_npy

DATASETS = ("digits", "mnist", "fashion-mnist")
SPLITS = ("train", "test")
PIXEL_DTYPES = ("uint8", "uint16", "float32", "float64")
DIGIT_NAMES = tuple("0123456789")
# data set -> names of its classes, in the order of their numbers
CLASS_NAMES = {
    "digits": DIGIT_NAMES,
    "mnist": DIGIT_NAMES,
    "fashion-mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}
DIGITS_TRAIN = 1500  # of 1797 images; the rest is by other writers
_HASH_BLOCK = 1 << 24  # bytes
_PICKED_TOGETHER = 8  # images that lie apart
_NAME_LETTERS = 40  # with up to four bytes each, a store's name stays below 255


@dataclass(frozen=True)
class ImageSource:
    """A set of images of one size.

    name: of the data set, or the file's stem as far as it may stand in a file name: letters,
        digits, underscores and dashes.
    split: "train" or "test".
    images: (n, rows, columns) or (n, rows, columns, channels), possibly mapped from disk.
    """

    name: str
    split: str
    images: np.ndarray

    def read(self, which: slice | np.ndarray) -> np.ndarray:
        """A copy of some images, in native byte order.

        Pages of a mapped file are let go at once: they would count as resident memory. Each image
        that is picked alone may bring some MB of its neighbourhood with it.
        """
        dtype = self.images.dtype.newbyteorder("=")
        if isinstance(which, slice):
            copy = np.asarray(self.images[which].astype(dtype))
            self._let_go()
            return copy
        copy = np.empty((len(which), *self.images.shape[1:]), dtype)
        step = max(1, len(which)) if self._mapping is None else _PICKED_TOGETHER
        for first in range(0, len(which), step):
            part = slice(first, first + step)
            copy[part] = self.images[which[part]]
            self._let_go()
        return copy

    @property
    def _mapping(self) -> mmap.mmap | None:
        return getattr(self.images, "_mmap", None)

    def _let_go(self) -> None:
        if self._mapping is not None and hasattr(mmap, "MADV_DONTNEED"):  # absent on Windows
            self._mapping.madvise(mmap.MADV_DONTNEED)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of dtype, shape and pixels: the same however the file is packed."""
        images = self.images
        digest = hashlib.sha256(f"{images.dtype.name}{images.shape}".encode())
        step = max(1, _HASH_BLOCK // images[0].nbytes)
        for start in range(0, len(images), step):
            digest.update(np.ascontiguousarray(self.read(slice(start, start + step))).data)
        return digest.hexdigest()


def splits_of(dataset: str) -> tuple[str, ...]:
    """The splits a data set has: a file is all training images, a named set has both."""
    return SPLITS if dataset in DATASETS else SPLITS[:1]


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
        return ImageSource(dataset, split, _digits(split))
    if dataset in DATASETS:
        path = find_or_fetch(IMAGE_FILES[dataset, split], dataset, Path(data_dir))
        return ImageSource(dataset, split, _checked(read_idx(path), path))
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
    array = map_npy(path) if path.suffix.lower() == ".npy" else read_idx(path)
    return ImageSource(_name_of(path), split, _checked(array, path))


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
        from sklearn.datasets import load_digits  # heavy; needed for this data set alone

        return _part(load_digits().target.astype(np.int64), split)
    if dataset not in DATASETS:
        return None
    path = find_or_fetch(LABEL_FILES[dataset, split], dataset, Path(data_dir), rounds=rounds)
    labels, names = read_idx(path), CLASS_NAMES[dataset]
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


def class_names(dataset: str) -> tuple[str, ...] | None:
    """Names of a data set's classes, in the order of their numbers; None for a path."""
    return CLASS_NAMES.get(dataset)


def _check_split(dataset: str, split: str) -> None:
    if split not in splits_of(dataset):
        raise InputError(f"{dataset} has no {split} split: use {', '.join(splits_of(dataset))}")


def _name_of(path: Path) -> str:
    stem = re.sub(r"[^\w-]+", "_", path.name.lstrip(".").split(".")[0])
    return stem[:_NAME_LETTERS] or "images"


def _digits(split: str) -> np.ndarray:
    from sklearn.datasets import load_digits  # heavy; needed for this data set alone

    levels = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    return _part(levels, split)


def _part(digits: np.ndarray, split: str) -> np.ndarray:
    return digits[:DIGITS_TRAIN] if split == "train" else digits[DIGITS_TRAIN:]


def _checked(images: np.ndarray, path: Path) -> np.ndarray:
    if images.ndim not in (3, 4) or images.size == 0:
        raise InputError(
            f"{path} has the shape {images.shape} where (images, rows, columns) or"
            " (images, rows, columns, channels) is expected"
        )
    if images.dtype.name not in PIXEL_DTYPES:
        raise InputError(
            f"{path} holds {images.dtype.name} where pixels of type {', '.join(PIXEL_DTYPES)}"
            " are expected: convert it first"
        )
    return images
