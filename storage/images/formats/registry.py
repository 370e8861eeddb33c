"""Which reader takes which path: one row for each kind of file.

Other packages add kinds by an entry point of the group `patchdict.sources`: its name is the ending
of the files, without the dot, and it loads a function of (path, name or None, ImageOptions) that
returns an `ImageReader`, or an array to be arranged by the layout of the options.
"""

import itertools
import os
import stat
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NamedTuple

import numpy as np

from storage.errors import InputError, shortened
from storage.images.datasets import DATASETS, meant
from storage.images.formats import folder, hdf5, npz, raster, tiff
from storage.images.formats.idx import GZIP_MAGIC, read_idx
from storage.images.formats.npy import map_npy
from storage.images.formats.pieces import reason_of
from storage.images.options import ImageOptions
from storage.images.reader import ImageReader
from storage.places.place import Place, is_url

GROUP = "patchdict.sources"
TAKEN = (
    "an IDX, .npy, .npz, HDF5 or NetCDF file, images (PNG, JPEG, TIFF, BMP, WebP), a folder or glob"
    " of them, or a zarr array"
)
Images = np.ndarray | ImageReader


class Format(NamedTuple):
    """A kind of file.

    suffixes: endings of its files, in lower case.
    magic: what its files begin with; none where others begin so too.
    open: reads (path, name in the file or None, options).
    named: whether a file holds arrays that have names.
    laid_out: whether the layout of the options is of any use.
    """

    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...]
    open: Callable[[str, str | None, ImageOptions], Images]
    named: bool = False
    laid_out: bool = True


def _zarr(path: str, name: str | None, options: ImageOptions) -> Images:
    from storage.images.formats.zarr_array import open_zarr  # zarr takes a while to import

    return open_zarr(path, name, options)


def _tiff(path: str, name: str | None, options: ImageOptions) -> Images:
    return tiff.open_tiff(path, name, options) or folder.open_file(path, options)


# In this order: what a suffix says, then entry points, then how a file begins.
FORMATS = (
    Format((".npy",), (), lambda path, name, options: map_npy(Path(path))),
    Format((".npz",), (), lambda path, name, options: npz.read_npz(path, name), named=True),
    Format((".npy.gz",), (), lambda path, name, options: npz.read_npy_gz(path)),
    Format(
        raster.SUFFIXES,
        tuple(magic for magic, kind in raster.MAGIC.items() if kind != "Tiff"),
        lambda path, name, options: folder.open_file(path),
        laid_out=False,
    ),
    Format(
        raster.TIFF_SUFFIXES,
        tuple(magic for magic, kind in raster.MAGIC.items() if kind == "Tiff"),
        _tiff,
        named=True,
        laid_out=False,
    ),
    Format(hdf5.SUFFIXES, hdf5.MAGIC, hdf5.open_hdf5, named=True),
    Format((".gz",), (b"\0\0", GZIP_MAGIC), lambda path, name, options: read_idx(Path(path))),
)
_FOLDER = Format((), (), lambda path, _, how: folder.open_folder(path, how), laid_out=False)
_GLOB = Format((), (), lambda path, _, how: folder.open_glob(path, how), laid_out=False)
_ZARR_MARKS = ("zarr.json", ".zarray", ".zgroup")  # files that make a folder zarr's
_ZARR = Format((".zarr",), (), _zarr, named=True)


def open_path(text: str, options: ImageOptions) -> Images:
    """The images of a path, as a reader or as an array that is still to be arranged.

    Args:
        text: of a file, a folder, a glob, or the URL of a zarr array; PATH::NAME names an array in
            it.
        options: what is stated of the images.

    Raises: InputError: nothing there, of no known kind, or damaged.
    """
    path, name = split_name(text)
    form = _format_of(path)
    if name is not None and not form.named:
        raise InputError(f"{path} holds no arrays that have names: leave out ::{name}")
    if options.layout is not None and not form.laid_out:
        raise InputError(f"{path} tells the order of its axes itself: leave out layout")
    return form.open(path, name, options)


def local_copy(text: str, data: Place | None) -> str:
    """What a text names, where it is no array of zarr: a file behind a URL as it is in `data`; see
    `storage.places.fetched`.

    Raises: InputError, RemoteError: it cannot be had.
    """
    path, name = split_name(text)
    if not is_url(path) or os.path.lexists(path) or not _is_file_name(path):
        return text
    from storage.places.fetched import fetched  # needs a package that folders do without

    copy = str(fetched(path, data))
    return copy if name is None else f"{copy}::{name}"


def _is_file_name(path: str) -> bool:
    """Whether a URL ends as files of images do, and not as folders of zarr."""
    known = [form.suffixes for form in FORMATS]
    foreign = (f".{entry.name.lower()}" for entry in entry_points(group=GROUP))
    endings = (*itertools.chain(*known), *foreign, "-ubyte")
    return path.lower().endswith(endings)


def has_layout(text: str) -> bool:
    """Whether images are in a file whose layout may be stated; raises as `open_path` does."""
    return text not in DATASETS and _format_of(split_name(text)[0]).laid_out


def split_name(text: str) -> tuple[str, str | None]:
    """A path, or URL, and the name of an array in it, which follows two colons."""
    path, colons, name = text.rpartition("::")
    if not colons or "://" in name or os.path.lexists(text):
        return text, None
    return path, name


def stem_of(text: str) -> str:
    """What the images at a path may be called: the last part of the path without its endings.

    Of a glob: the last folder before the pattern.
    """
    parts = [part for part in split_name(text)[0].split("/") if part]
    if not os.path.lexists(text):
        parts = [part for part in parts if not folder.PATTERN.search(part)]
    return parts[-1].lstrip(".").split(".")[0] if parts else ""


def _format_of(path: str) -> Format:
    if "://" in path and not os.path.lexists(path):
        return _ZARR
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        if folder.PATTERN.search(path) and not os.path.lexists(path) and "\0" not in path:
            return _GLOB
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"no data set {shortened(path)}: {meant(path)}use {', '.join(DATASETS)}, or the path of"
            f" {TAKEN} ({reason})"
        ) from error
    if stat.S_ISDIR(mode):
        marks = (os.path.lexists(os.path.join(path, mark)) for mark in _ZARR_MARKS)
        return _ZARR if path.endswith(".zarr") or any(marks) else _FOLDER
    if not stat.S_ISREG(mode):  # a pipe would be waited for
        raise InputError(f"{path} is not a file: give {TAKEN}")
    lower = path.lower()
    for form in FORMATS:
        if lower.endswith(form.suffixes):
            return form
    for entry in entry_points(group=GROUP):
        if lower.endswith(f".{entry.name.lower()}"):
            return _loaded(entry)
    return _by_magic(path)


def _by_magic(path: str) -> Format:
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    raster.check_kind(path, start)
    for form in FORMATS:
        if start.startswith(form.magic):
            return form
    raise InputError(f"{path} starts with {start[:4].hex(' ') or 'nothing'}: give {TAKEN}")


def _loaded(entry: EntryPoint) -> Format:
    """The format that another package brings."""

    def open_foreign(path: str, name: str | None, options: ImageOptions) -> Images:
        try:
            found = entry.load()(path, name, options)
            if not isinstance(found, (np.ndarray, ImageReader)):
                raise TypeError(f"it gave a {type(found).__name__}, which is no ImageReader")
            return found
        except InputError:
            raise
        except Exception as error:  # of others
            raise InputError(
                f"the source {entry.name} ({entry.value}) cannot open {path}:"
                f" {type(error).__name__}: {reason_of(error)}"
            ) from error

    return Format((f".{entry.name}",), (), open_foreign, named=True)
