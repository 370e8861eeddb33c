"""Image sources: named data sets, files and arrays, read part by part."""

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import numpy as np

from storage.errors import InputError, IntegrityError, shortened
from storage.images.array_reader import ArrayReader, checked_images
from storage.images.axes import arranged
from storage.images.datasets import DATASETS, SPLITS, check_split
from storage.images.formats.named import open_named
from storage.images.formats.registry import local_copy, open_path, stem_of
from storage.images.labels import read_labels
from storage.images.options import UNSTATED, ImageOptions
from storage.images.pixel_range import PIXEL_DTYPES, PixelRange
from storage.images.reader import ImageReader, blocks_in_order
from storage.images.views import LabelledImages, SelectedChannels, held_out
from storage.places.place import Place, place_of

_NAME_LETTERS = 40  # with up to four bytes each, a store's name stays below 255


@dataclass(frozen=True)
class ImageSource:
    """A set of images, none of which is read yet.

    Attributes:
        name: begins the names of what is made of them: letters, digits, underscores and dashes.
        split: "train" or "test".
        images: an array, possibly mapped from disk, given in the layout of the options and kept as
            (n, rows, columns[, channels]); or what reads images of any size lazily.
        options: what is stated of them.
    """

    name: str
    split: str
    images: np.ndarray | ImageReader
    options: ImageOptions = UNSTATED

    def __post_init__(self) -> None:
        if not self.name or self.name != _fit_for_names(self.name):
            raise InputError(
                f"images cannot be called {shortened(self.name)}: use up to {_NAME_LETTERS}"
                " letters, digits, underscores and dashes"
            )
        if self.split not in SPLITS:
            raise InputError(f"no split {shortened(self.split)}: use {', '.join(SPLITS)}")
        if isinstance(self.images, np.ndarray):
            what = str(getattr(self.images, "filename", None) or f"the array {self.name}")
            images = arranged(self.images, self.options.layout, what)
            if images.dtype == bool:
                white = self.options.white or 1.0
                object.__setattr__(self, "options", replace(self.options, white=white))
                images = images.view(np.uint8)
            object.__setattr__(self, "images", checked_images(images, what))
        if self.dtype.name not in PIXEL_DTYPES:
            raise InputError(
                f"{self.where} holds {self.dtype.name} where pixels of type"
                f" {', '.join(PIXEL_DTYPES)} are expected: convert it first"
            )
        self.options.check(self.dtype, self.where)

    @cached_property
    def reader(self) -> ImageReader:
        """What reads the images."""
        options, reader = self.options, cast(ImageReader, self.images)
        if isinstance(self.images, np.ndarray):
            reader = ArrayReader(self.images, self.name)
        if options.labels is not None:
            reader = LabelledImages(reader, *read_labels(options.labels, reader))
        if options.channels is not None:
            reader = SelectedChannels(reader, options.channels)
        if options.heldout is not None:
            reader = held_out(reader, options.heldout, self.split == "test")
        return reader

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def where(self) -> str:
        """Names the images in an error, as the path of their file does."""
        return self.reader.where

    @property
    def sizes(self) -> np.ndarray:
        """Rows and columns of each image, (n, 2) int64."""
        return self.reader.sizes

    @cached_property
    def uniform(self) -> bool:
        """Whether all images have one size."""
        return bool((self.sizes == self.sizes[0]).all())

    @cached_property
    def image_shape(self) -> tuple[int, ...]:
        """(rows, columns), or (rows, columns, channels) for colour; the most of each."""
        channels = [self.reader.channels] if self.reader.channels else []
        return (*self.sizes.max(axis=0).tolist(), *channels)

    @property
    def channels(self) -> int:
        """Values of a pixel."""
        return max(1, self.reader.channels)

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels, in native byte order."""
        return self.reader.dtype

    @property
    def resident_bytes(self) -> int:
        """What the images take in a process that opens them; mapped ones nothing."""
        return self.reader.resident_bytes

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the images' classes; empty for none."""
        return getattr(self.reader, "classes", ())

    @property
    def labels(self) -> np.ndarray | None:
        """Class of each image, (n,) int64 numbers into `classes`; None where there are none."""
        return getattr(self.reader, "labels", None)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return int(self.sizes.prod(axis=1).sum()) * self.channels * self.dtype.itemsize

    @property
    def piece_bytes(self) -> int:
        """What is read and decoded at once, at least, in bytes."""
        return math.prod(self.reader.piece) * self.channels_read * self.dtype.itemsize

    @property
    def channels_read(self) -> int:
        """Values of a pixel that are read, of which `channels` may be some."""
        return max(1, getattr(self.reader, "channels_read", self.reader.channels))

    def read(self, which: slice | np.ndarray) -> np.ndarray:
        """A copy of some images of one size, in native byte order."""
        if isinstance(self.reader, ArrayReader):
            return self.reader.read_many(which)
        chosen = np.arange(len(self))[which]
        rows, cols = (slice(0, int(length)) for length in self.sizes[chosen[0]])
        order = np.argsort(chosen, kind="stable").tolist()  # neighbours may lie in one chunk
        images = {place: self.reader.read(int(chosen[place]), rows, cols) for place in order}
        return np.stack([images[place] for place in range(len(chosen))])

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of dtype, shape, pixels, packed or not, and what is stated of them."""
        return self._examined[0]

    @property
    def levels(self) -> PixelRange:
        """What the values of the pixels mean."""
        return self._examined[1]

    @cached_property
    def _examined(self) -> tuple[str, PixelRange]:
        """Fingerprint and range, for which all pixels are read once."""
        return self._examine()

    @property
    def finds_range(self) -> bool:
        """Whether the pixels tell their range, where it is not stated."""
        return self.dtype.kind == "i" or self.dtype.name == "uint16"

    def levels_known(self) -> PixelRange | None:
        """The range where it needs no look at the pixels; None where they decide."""
        stated = self.options.white is not None and (
            self.options.black is not None or self.dtype.kind != "i"
        )
        if self.finds_range and not stated:
            return None
        return PixelRange.found(self.dtype, (), self.options, self.name)

    def examine(self, seen: Callable[[int, int, np.ndarray], None]) -> None:
        """Read all pixels for fingerprint and range, and show `seen` what `blocks_in_order` yields.

        Raises: IntegrityError where they are others than those of `fingerprint`.
        """
        found = self._examine(seen)
        if self.__dict__.setdefault("_examined", found)[0] != found[0]:
            raise IntegrityError(f"{self.where} changed while it was read: run it again")

    def check_mask(self) -> None:
        """Raise IntegrityError where the mask is another than that of `fingerprint`."""
        mask = self.options.mask
        found = open_mask(mask) if mask is not None else None
        if found is not None and found.fingerprint != self._mask_fingerprint:
            raise IntegrityError(f"{mask} changed while patches were cut by it: run it again")

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
        if not self.uniform:
            found["smallest_image"] = self.sizes.min(axis=0).tolist()
        levels, whole = self.levels, PixelRange.of_type(self.dtype)
        if (levels.black, levels.white) != (whole.black, whole.white):
            found["range"] = [levels.black, levels.white]
        if stated := self.options.stated():
            found["stated"] = stated
        return found

    def _examine(
        self, seen: Callable[[int, int, np.ndarray], None] = lambda *_: None
    ) -> tuple[str, PixelRange]:
        options, reach = self.options, list[float]()
        digest = hashlib.sha256(f"{self.dtype.name}{(len(self), *self.image_shape)}".encode())
        if not self.uniform:
            digest.update(self.sizes.astype("<i8").tobytes())
        for first, top, read in blocks_in_order(self.reader):
            block = np.ascontiguousarray(read)
            digest.update(block.data)
            if self.finds_range:
                told = block if options.nodata is None else block[block != options.nodata]
                reach += [int(told.min()), int(told.max())] if told.size else []
                del told
            seen(first, top, block)
            del read, block  # before the next takes as much
        stated = options.stated()
        stated = {name: stated[name] for name in ("black", "white", "nodata") if name in stated}
        if options.mask is not None:
            stated |= {"mask": self._mask_fingerprint, "by": options.mask_by}
        if stated:
            digest.update(json.dumps(stated, sort_keys=True).encode())
        return digest.hexdigest(), PixelRange.found(self.dtype, reach, options, self.name)

    @cached_property
    def _mask_fingerprint(self) -> str:
        return open_mask(self.options.mask or "").fingerprint


def open_images(
    dataset: str,
    split: str = "train",
    data_dir: str | Place | None = "data",
    options: ImageOptions = UNSTATED,
) -> ImageSource:
    """Open the images of a data set, downloading them to `data_dir` if need be.

    Args:
        dataset: "digits" (8×8, inside scikit-learn, its 17 grey levels stretched to 0–255; the
            last 297 images, by other writers, are its test split), "photos" (two of 427×640
            colour pixels, also there), "mnist", "fashion-mnist", "cifar10", or a path: images, a
            folder or glob of them, IDX (or .gz), or an array in .npy, .npz, zarr, HDF5 or NetCDF
            (PATH::NAME), or the URL of such a file or array, of shape (n, rows, columns[,
            channels]) or a stated layout.
        split: "train" or "test"; a path has only "train".
        data_dir: where downloads are kept, a folder or a URL; right files found there are used.
            None: what is behind a URL is kept as long as the process runs.
        options: what is stated of the images.

    Raises: InputError for an unknown data set or split, or files that are missing or damaged.
    """
    check_split(dataset, split, options.heldout)
    data = place_of(data_dir or "data")
    if dataset in DATASETS:
        return ImageSource(dataset, split, open_named(dataset, split, data, options), options)
    images = open_path(local_copy(dataset, None if data_dir is None else data), options)
    return ImageSource(_fit_for_names(stem_of(dataset)) or "images", split, images, options)


def open_mask(path: str) -> ImageSource:
    """The images of a mask; one for all may be an array of rows and columns alone.

    What its file states for no data, often 0, is no fault. Raises: as `open_images`.
    """
    read = partial(open_images, path, data_dir=None)
    try:
        found = read(options=ImageOptions(nodata=0))
    except InputError as error:
        try:
            found = read(options=ImageOptions("HW", nodata=0))
        except InputError:
            raise error from None
    return replace(found, options=replace(found.options, layout=None, nodata=None))


def _fit_for_names(text: str) -> str:
    return re.sub(r"[^\w-]+", "_", text)[:_NAME_LETTERS]
