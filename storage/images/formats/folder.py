"""Image files as one source: of a folder and those in it, of a glob, or a single one."""

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property

import numpy as np

from storage.errors import InputError
from storage.images.formats.pieces import PieceCache
from storage.images.formats.raster import SUFFIXES, TIFF_SUFFIXES, Picture
from storage.images.formats.tiff import decode, examine
from storage.images.options import UNSTATED, ImageOptions
from storage.images.reader import window_bounds

PATTERN = re.compile(r"[*?\[]")  # what makes a path a glob
_BLOCK = 256  # headers that a thread reads one after another
_SYNOLOGY = "@eaDir"  # folder of its thumbnails
_THREADS = 8  # that wait for headers
_SHOWN = 3  # names in a warning
_ANY_PIXELS = ImageOptions(nodata=0)  # none are refused
_log = logging.getLogger(__name__)


class FolderReader:
    """Images in files of their own, one in each: an `ImageReader`.

    Attributes beside the protocol's:
        skipped: files beside the images that are hidden or of another kind.
        unreadable: names of images that are left out, with on_error="skip".
        classes: names of the folders in which all images lie; empty where some lie in none.
        labels: (n,) int64, class of each image; None without classes.
    """

    def __init__(
        self,
        where: str,
        root: str,
        names: Iterable[str],
        skipped: int = 0,
        options: ImageOptions = UNSTATED,
    ) -> None:
        """Reads all headers; to leave out what is unreadable, all pixels.

        Args:
            where: names the images in an error.
            root: path that the names are relative to.
            names: paths of the files, in the order of the images.
            skipped: files that were passed over.
            options: what is stated of the images.

        Raises: InputError: an image that is refused, images of several kinds, or none.
        """
        self.where, self.skipped, self._root, self._options = where, skipped, root, options
        self.unreadable = list[str]()
        self._set_names(names)
        skips = options.on_error == "skip"
        self._examine(_examine_whole if skips else examine, options.on_error)
        if not len(self.sizes):
            raise InputError(
                f"no images in {where} ({skipped + len(self.unreadable)} other files): PNG, JPEG,"
                " TIFF, BMP and WebP are taken, convert others to PNG or TIFF"
            )
        if skipped or self.unreadable:
            told = ", ".join(self.unreadable[:_SHOWN])
            _log.warning(
                f"{where}: {skipped} hidden or other files are no images"
                + f"; {len(self.unreadable)} images cannot be read: {told}" * bool(told)
            )
        rows, cols = (int(side) for side in self.sizes.max(axis=0))
        self.piece = (rows, cols)
        largest = rows * cols * max(1, self.channels) * self.dtype.itemsize
        room = min(2, len(self.sizes)) * largest
        self._cache = PieceCache(room)
        lists = (self.sizes, self._stamps, self._ends)
        self.resident_bytes = room + len(self._names) + sum(array.nbytes for array in lists)

    in_files = True

    def name(self, index: int) -> str:
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self._names[start : int(self._ends[index])])

    def read(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        window = window_bounds(rows, cols, self.sizes[index])
        top, bottom, left, right = window
        if window == (0, self.sizes[index, 0], 0, self.sizes[index, 1]):
            return np.ascontiguousarray(self._decoded(index))
        image = self._cache.get(index, lambda: self._decoded(index))
        return image[top:bottom, left:right].copy()

    @cached_property
    def classes(self) -> tuple[str, ...]:
        if not self._root:  # the folder of one file tells nothing
            return ()
        found = {os.path.dirname(self.name(index)) for index in range(len(self.sizes))}
        return () if "" in found else tuple(sorted(found))

    @cached_property
    def labels(self) -> np.ndarray | None:
        if not self.classes:
            return None
        numbers = {name: number for number, name in enumerate(self.classes)}
        folders = (os.path.dirname(self.name(index)) for index in range(len(self.sizes)))
        return np.fromiter((numbers[folder] for folder in folders), np.int64, len(self.sizes))

    def _path(self, index: int) -> str:
        return os.path.join(self._root, self.name(index)) if self._root else self.name(index)

    def _decoded(self, index: int) -> np.ndarray:
        path = self._path(index)
        unchanged = _stamp(path) == tuple(self._stamps[index])
        pixels = decode(path, self._options)
        channels = pixels.shape[2] if pixels.ndim > 2 else 0
        kind = pixels.shape[:2], channels, pixels.dtype
        if not unchanged or kind != (tuple(self.sizes[index]), self.channels, self.dtype):
            raise InputError(f"{path} changed since its header was read: run it again")
        return pixels

    def _set_names(self, names: Iterable[str]) -> None:
        """All names as one: a list of strings would take three times the memory."""
        parts = [os.fsencode(name) for name in names]
        self._names = b"".join(parts)
        self._ends = np.cumsum([len(part) for part in parts], dtype=np.int64)

    def _examine(self, header_of: Callable[[str], Picture], on_error: str) -> None:
        """Set sizes, channels, type and stamps from the headers of all files."""
        total = len(self._ends)
        sizes, stamps = np.empty((total, 2), np.int64), np.empty((total, 2), np.int64)
        kinds = np.full(total, -1, np.int16)
        known: dict[tuple[int, np.dtype], int] = {}

        def examine_block(first: int) -> None:
            for index in range(first, min(total, first + _BLOCK)):
                path = self._path(index)
                try:
                    stamps[index] = _stamp(path)
                    picture = header_of(path)
                except InputError:
                    if on_error == "refuse":
                        raise
                    continue
                sizes[index] = picture.rows, picture.cols
                kinds[index] = known.setdefault((picture.channels, picture.dtype), len(known))

        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                for _ in pool.map(examine_block, range(0, total, _BLOCK)):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        left = np.flatnonzero(kinds >= 0)
        if len(left) < total:
            self.unreadable = [self.name(index) for index in np.flatnonzero(kinds < 0).tolist()]
            self._set_names([self.name(index) for index in left.tolist()])
        self.sizes, self._stamps = sizes[left], stamps[left]
        if len(left):
            self.channels, self.dtype = self._only_kind(kinds[left], list(known))

    def _only_kind(
        self, kinds: np.ndarray, known: Sequence[tuple[int, np.dtype]]
    ) -> tuple[int, np.dtype]:
        """Channels and type of all images; raises InputError where they differ."""
        counts = Counter(kinds.tolist())
        usual = max(counts, key=lambda kind: (counts[kind], -kind))
        if len(counts) > 1:
            odd = np.flatnonzero(kinds != usual)
            raise InputError(
                f"{self.where} holds images of several kinds: {_shown(known[usual])}, but"
                f" {len(odd)} of {len(kinds)} not, the first {self.name(int(odd[0]))}"
                f" ({_shown(known[kinds[odd[0]]])}): put each kind into a folder of its own, or"
                " convert them"
            )
        return known[usual]


def open_file(path: str, options: ImageOptions = UNSTATED) -> FolderReader:
    """The image of one file."""
    return FolderReader(path, "", [path], options=replace(options, on_error="refuse"))


def open_folder(path: str, options: ImageOptions = UNSTATED) -> FolderReader:
    """The images of a folder and of the folders in it, in natural order (2 before 10)."""
    skipped = Counter[str]()
    names = list(_walk(path, "", skipped, set()))
    return FolderReader(path, path, names, skipped.total(), options)


def open_glob(pattern: str, options: ImageOptions = UNSTATED) -> FolderReader:
    """The images that match a pattern of the shell's kind, `**` for any folders."""
    fixed, rest = [], pattern.split("/")
    while not PATTERN.search(rest[0]):
        fixed.append(rest.pop(0))
    root = "/".join(fixed) + "/" * bool(fixed)
    found = glob.iglob("/".join(rest), root_dir=root or None, recursive=True)
    files = [name for name in found if not os.path.isdir(os.path.join(root, name))]
    meant = _SYNOLOGY in pattern
    images = (
        name
        for name in files
        if _is_image(name)
        and (meant or f"/{_SYNOLOGY}" not in f"/{name}")
        and os.path.isfile(os.path.join(root, name))
    )
    names = sorted(images, key=natural_order)
    return FolderReader(pattern, root, names, len(files) - len(names), options)


def natural_order(name: str) -> tuple[str, str]:
    """A key that puts numbers in names in their order: 2 before 10."""
    return re.sub(r"\d+", lambda digits: f"{len(digits[0].lstrip('0')):04}{digits[0]}", name), name


def _walk(
    root: str, inside: str, skipped: Counter[str], seen: set[tuple[int, int]]
) -> Iterator[str]:
    """Paths of images below root/inside, relative to root; each folder once, links or not."""
    folder = os.path.join(root, inside)
    try:
        known = os.stat(folder)
        if (known.st_dev, known.st_ino) in seen:
            return
        seen.add((known.st_dev, known.st_ino))
        with os.scandir(folder) as found:
            entries = sorted(
                (natural_order(entry.name), entry.name, entry.is_dir(), entry.is_file())
                for entry in found
            )
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror or error}") from error
    for _, name, is_folder, is_file in entries:
        # a pipe would be waited for
        if name.startswith((".", _SYNOLOGY)) or not (is_folder or (is_file and _is_image(name))):
            skipped["files"] += 1
        elif is_folder:
            yield from _walk(root, os.path.join(inside, name), skipped, seen)
        else:
            yield os.path.join(inside, name)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES + TIFF_SUFFIXES


def _stamp(path: str) -> tuple[int, int]:
    """Time of the last change and size of a file."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    return found.st_mtime_ns, found.st_size


def _examine_whole(path: str) -> Picture:
    """As `examine`, its pixels decoded too: a header may be whole where they are not."""
    pixels = decode(path, _ANY_PIXELS)
    rows, cols, *channels = pixels.shape
    return Picture(rows, cols, channels[0] if channels else 0, pixels.dtype)


def _shown(kind: tuple[int, np.dtype]) -> str:
    return f"{kind[1].name}, {f'{kind[0]} channels' if kind[0] else 'grey'}"
