"""Image sources: named data sets, files and arrays, read part by part."""

import hashlib
import json
import math
import re
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import InputError, IntegrityError, shortened
from storage.images.axes import arranged
from storage.images.datasets import DATASETS, SPLITS, check_split
from storage.images.digits import read_digits
from storage.images.download import find_or_fetch
from storage.images.idx import read_idx
from storage.images.npy import map_npy
from storage.images.options import UNSTATED, ImageOptions
from storage.images.pixel_range import PIXEL_DTYPES, PixelRange
from storage.mapped_files import let_go

_HASH_BLOCK = 1 << 24  # bytes
_PICKED_TOGETHER = 8  # images that lie apart
_NAME_LETTERS = 40  # with up to four bytes each, a store's name stays below 255


@dataclass(frozen=True)
class ImageSource:
    """A set of images of one size.

    name: begins the names of what is made of them: letters, digits, underscores and dashes.
    split: "train" or "test".
    images: given in the layout of the options, possibly mapped from disk; kept as (n, rows,
        columns) or (n, rows, columns, channels).
    options: what is stated of them.
    """

    name: str
    split: str
    images: np.ndarray
    options: ImageOptions = UNSTATED

    def __post_init__(self) -> None:
        if not self.name or self.name != _fit_for_names(self.name):
            raise InputError(
                f"images cannot be called {shortened(self.name)}: use up to {_NAME_LETTERS}"
                " letters, digits, underscores and dashes"
            )
        if self.split not in SPLITS:
            raise InputError(f"no split {shortened(self.split)}: use {', '.join(SPLITS)}")
        what = str(getattr(self.images, "filename", None) or f"the array {self.name}")
        object.__setattr__(self, "images", arranged(self.images, self.options.layout, what))
        _check_images(self.images, what)
        self.options.check(self.images.dtype, what)

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

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of dtype, shape, pixels, and what is stated of these (white, nodata).

        The same however the file is packed.
        """
        return self._examined[0]

    @property
    def levels(self) -> PixelRange:
        """What the values of the pixels mean."""
        return self._examined[1]

    @cached_property
    def _examined(self) -> tuple[str, PixelRange]:
        """Fingerprint and range, for which all pixels are read once."""
        return self._examine()

    def check_unchanged(self) -> None:
        """Raise IntegrityError where the pixels are others than those of `fingerprint`."""
        now = self._examine()[0]
        if now != self.fingerprint:
            raise IntegrityError(
                f"{getattr(self.images, 'filename', None) or self.name} changed while patches were"
                f" cut from it (SHA-256 {now[:10]}… where {self.fingerprint[:10]}… was): run it"
                " again"
            )

    def describe(self) -> dict[str, Any]:
        """What a store records of its images: plain JSON."""
        found = {
            "name": self.name,
            "split": self.split,
            "images": len(self),
            "image_shape": list(self.image_shape),
            "dtype": self.dtype.name,
            "fingerprint": self.fingerprint,
        }
        levels, whole = self.levels, PixelRange.of_type(self.dtype)
        if (levels.black, levels.white) != (whole.black, whole.white):
            found["range"] = [levels.black, levels.white]
        if stated := self.options.stated():
            found["stated"] = stated
        return found

    def _examine(self) -> tuple[str, PixelRange]:
        images, options = self.images, self.options
        digest = hashlib.sha256(f"{images.dtype.name}{images.shape}".encode())
        step = max(1, _HASH_BLOCK // images[0].nbytes)
        reach = list[float]()
        for start in range(0, len(images), step):
            block = np.ascontiguousarray(self.read(slice(start, start + step)))
            digest.update(block.data)
            if block.dtype.kind == "i" or block.dtype.name == "uint16":
                told = block if options.nodata is None else block[block != options.nodata]
                reach += [int(told.min()), int(told.max())] if told.size else []
        stated = {name: value for name, value in options.stated().items() if name != "layout"}
        if stated:
            digest.update(json.dumps(stated, sort_keys=True).encode())
        lowest, highest = min(reach, default=0), max(reach, default=0)
        levels = PixelRange.found(self.dtype, lowest, highest, options.white, options.nodata)
        if levels.span <= 0:
            raise InputError(
                f"white {levels.white:g} is not above black, {levels.black:g} in {self.name}: give"
                " a larger one"
            )
        return digest.hexdigest(), levels


@dataclass(frozen=True)
class ImageReference:
    """Images by what `open_images` is told: small enough to be sent to every worker.

    fingerprint: of the images that are meant; a file may change, or be another elsewhere.
    """

    dataset: str
    split: str
    data_dir: Path
    options: ImageOptions
    fingerprint: str

    def open(self) -> ImageSource:
        """The images; raises IntegrityError where they are others."""
        found = open_images(self.dataset, self.split, self.data_dir, self.options)
        if found.fingerprint != self.fingerprint:
            raise IntegrityError(
                f"{self.dataset} is not the same on all workers, or changed: run it again"
            )
        return found


def open_images(
    dataset: str,
    split: str = "train",
    data_dir: str | Path = "data",
    options: ImageOptions = UNSTATED,
) -> ImageSource:
    """Open the images of a data set, downloading them to `data_dir` if need be.

    Args:
        dataset: "digits" (8×8, inside scikit-learn, its 17 grey levels stretched to 0–255; the
            last 297 images, by other writers, are its test split), "mnist", "fashion-mnist", or
            a path to an IDX file (plain or .gz) or a .npy file of shape (n, rows, columns) or
            (n, rows, columns, channels), or of the layout that the options state.
        split: "train" or "test"; a path has only "train".
        data_dir: where downloads are kept; right files found there are used.
        options: what is stated of the images.

    Raises: InputError for an unknown data set or split, and for files that are missing, damaged,
        or not images.
    """
    check_split(dataset, split)
    if dataset == "digits":
        return ImageSource(dataset, split, read_digits(split)[0], options)
    if dataset in DATASETS:
        path = find_or_fetch(DATASETS[dataset].images[split], dataset, Path(data_dir))
        return ImageSource(dataset, split, read_idx(path), options)
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
    return ImageSource(_name_of(path), split, images, options)


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
            " are expected: convert it first"
        )
