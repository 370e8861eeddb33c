"""Arrays in HDF5 and NetCDF files."""

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from storage.errors import InputError, PatchDictError, shortened
from storage.images.axes import letters_of, named_letters
from storage.images.formats.pieces import ChunkedReader, check_packed, reason_of, rows_together
from storage.images.options import ImageOptions
from storage.images.pixel_range import PIXEL_DTYPES
from storage.mapped_files import let_go

SUFFIXES = (".h5", ".hdf5", ".he5", ".nc", ".nc4", ".cdf")
MAGIC = (b"\x89HDF\r\n\x1a\n", b"CDF")
_SHOWN = 8  # names of arrays in an error


@dataclass(frozen=True)
class _Array:
    """An array in a file.

    shape, dtype: of it.
    chunks: shape of what is read at once; None where it lies in rows.
    dims: names of its axes, as far as they have some.
    notes: its attributes.
    read: gives a part of it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None
    dims: Sequence[str]
    notes: Mapping[str, Any]
    read: Callable[[tuple[slice, ...]], np.ndarray]


def open_hdf5(path: str, name: str | None, options: ImageOptions) -> ChunkedReader:
    """The images of an array in a file.

    Args:
        path: of an HDF5 file, or a NetCDF one, of version 3 (classic) or 4.
        name: of the array, as in "images" or "group/images"; None: the only one of images.
        options: what is stated of the images; without a layout, dimensions that have names tell it.

    Raises: InputError: damaged, no such array, or a shape that is likely of another layout. Pixels
        of the value that the array states for no data are refused as they are read, where the
        options state none.
    """
    where = path if name is None else f"{path}::{name}"
    try:
        with open(path, "rb") as file:
            classic = file.read(3) == MAGIC[1]
        return (_open_classic if classic else _open_modern)(path, where, name, options)
    except PatchDictError:
        raise
    except ImportError as error:
        raise InputError(
            f"cannot open {where}: install what reads it: pip install 'patchdict[hdf5]'"
        ) from error
    except Exception as error:  # libraries raise of all kinds
        raise InputError(
            f"{path} is no whole HDF5 or NetCDF file ({reason_of(error)}): fetch it again"
        ) from error


def _open_modern(path: str, where: str, name: str | None, options: ImageOptions) -> ChunkedReader:
    """Through h5py, whose own lock lets one thread in at a time."""
    h5py, found = import_module("h5py"), dict[str, Any]()

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            found[name] = node

    file = h5py.File(path, "r")
    try:
        file.visititems(note)
        chosen = found[_chosen(path, name, {key: (n.shape, n.dtype) for key, n in found.items()})]
        _check_parts(path, chosen)
        dims, notes = dimension_names(chosen), dict(chosen.attrs)
        array = _Array(chosen.shape, chosen.dtype, chosen.chunks, dims, notes, chosen.__getitem__)
        reader = _reader(where, array, options)
    except BaseException:
        file.close()
        raise
    weakref.finalize(reader, file.close)
    return reader


def dimension_names(dataset: Any) -> tuple[str, ...]:
    """Names of the axes of a dataset of h5py, as far as they have some."""
    return tuple(
        dim.label or (dim[0].name.rpartition("/")[2] if len(dim) else "") for dim in dataset.dims
    )


def _check_parts(path: str, dataset: Any) -> None:
    """Raise InputError where a virtual dataset lacks a file: HDF5 would give its fill value."""
    if not dataset.is_virtual:
        return
    # HDF5 looks there, too, beside the file that a link leads to, and for what lay elsewhere.
    folders = (os.path.dirname(path), os.path.dirname(os.path.realpath(path)))
    prefix = os.environ.get("HDF5_VDS_PREFIX", "")
    for name in dict.fromkeys(part.file_name for part in dataset.virtual_sources()):
        names = [name, *(os.path.join(folder, name) for folder in (*folders, prefix))]
        if os.path.isabs(name):
            names += [os.path.join(folder, os.path.basename(name)) for folder in folders]
        if name != "." and "%b" not in name and not any(map(os.path.isfile, names)):
            raise InputError(
                f"{path} is put together from other files, of which {name} is not there: put it"
                " back"
            )


def _open_classic(path: str, where: str, name: str | None, options: ImageOptions) -> ChunkedReader:
    """SciPy reads the header; the pixels are mapped here, for its own maps cannot be closed."""
    file = import_module("scipy.io").netcdf_file(path, "r", mmap=True)
    try:
        found = {key: (one.data.shape, one.data.dtype) for key, one in file.variables.items()}
        chosen = file.variables[_chosen(path, name, found)]
        data, dims, notes = chosen.data, chosen.dimensions, dict(chosen._attributes)
        start = data.ctypes.data - np.frombuffer(file._mm, np.uint8).ctypes.data
        shape, dtype, strides = data.shape, data.dtype, data.strides
        del data, chosen
    finally:
        file.close()
    whole = np.memmap(path, np.uint8, "r")
    pixels = np.ndarray(shape, dtype, whole, start, strides)

    def read(place: tuple[slice, ...]) -> np.ndarray:
        copy = np.array(pixels[place])
        let_go(whole)
        return copy

    return _reader(where, _Array(shape, dtype, None, dims, notes, read), options)


def _chosen(
    path: str, name: str | None, arrays: Mapping[str, tuple[tuple[int, ...], np.dtype]]
) -> str:
    """The name of the array that is asked for, or that alone can be of images."""
    if name is not None:
        if name.strip("/") in arrays:
            return name.strip("/")
        raise InputError(f"no array {shortened(name)} in {path}; in it: {_names(arrays)}")
    images = [
        key
        for key, (shape, dtype) in arrays.items()
        if len(shape) > 1 and 0 not in shape and dtype.newbyteorder("=").name in PIXEL_DTYPES
    ]
    stacks = [key for key in images if len(arrays[key][0]) > 2] or images
    if len(stacks) != 1:
        raise InputError(
            f"{path} holds {len(stacks)} arrays of images: name one, as in {path}::NAME; in it:"
            f" {_names(stacks or arrays)}"
        )
    return stacks[0]


def _names(arrays: Sequence[str] | Mapping[str, Any]) -> str:
    found = sorted(arrays)
    return ", ".join(found[:_SHOWN]) + " …" * (len(found) > _SHOWN) or "nothing"


def _reader(where: str, array: _Array, options: ImageOptions) -> ChunkedReader:
    letters = named_letters(array.dims) if options.layout is None else None
    letters = letters or letters_of(array.shape, options.layout, where)
    if not {"H", "W"} <= set(letters) or len(letters) != len(array.shape):
        raise InputError(
            f"{where} has the shape {array.shape} where (images, rows, columns[, channels]) is"
            " expected: give its layout"
        )
    check_packed(where, array.notes)
    chunks = array.chunks or rows_together(array.shape, letters, array.dtype)
    return ChunkedReader(
        where, array.shape, array.dtype, letters, chunks, array.read, array.notes, options
    )
