"""Arrays in .npz archives, and gzipped .npy files; nothing is unpickled."""

import gzip
import math
import zipfile
from pathlib import Path
from typing import IO, Literal, cast

import numpy as np

from storage.errors import InputError, shortened
from storage.images.formats.npy import MAX_HEADER_BYTES
from storage.images.formats.packed import read_packed
from storage.images.formats.pieces import reason_of

_LOCAL_HEADER = 30  # bytes before the name, as zip has them


def read_npz(path: str, name: str | None) -> np.ndarray:
    """An array of an archive: mapped where it is not compressed, else unpacked.

    Args:
        path: of the archive.
        name: of the array; None: the only one.

    Raises: InputError: no such array, several and no name, or a file that is damaged.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            member = members[_chosen(path, name, list(members))]
            if member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1:
                return _mapped(path, file, member)
            with archive.open(member) as stream:
                return _unpacked(path, stream, member.compress_size)
    except InputError:
        raise
    except Exception as error:  # zip's own, zlib's, and those of numpy's headers
        raise _damaged(path, error) from error


def read_npy_gz(path: str) -> np.ndarray:
    """The array of a gzipped .npy file, unpacked. Raises: InputError."""
    try:
        with gzip.open(path, "rb") as stream:
            return _unpacked(path, cast(IO[bytes], stream), Path(path).stat().st_size)
    except InputError:
        raise
    except Exception as error:  # gzip's, zlib's, and those of numpy's headers
        raise _damaged(path, error) from error


def _chosen(path: str, name: str | None, members: list[str]) -> str:
    arrays = [member for member in members if member.endswith(".npy")]
    if name is not None and f"{name}.npy" in arrays:
        return f"{name}.npy"
    if name is None and len(arrays) == 1:
        return arrays[0]
    told = ", ".join(member.removesuffix(".npy") for member in arrays[:8]) or "none"
    asked = f"no array {shortened(name)} in {path}" if name else f"{path} holds {len(arrays)}"
    example = arrays[0].removesuffix(".npy") if arrays else "NAME"
    raise InputError(f"{asked}; arrays in it: {told}; name one, as in {path}::{example}")


def _mapped(path: str, file: IO[bytes], member: zipfile.ZipInfo) -> np.ndarray:
    """The array of a member that is stored as it is."""
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER)
    if header[:4] != b"PK\3\4" or len(header) < _LOCAL_HEADER:
        raise ValueError(f"{member.filename} is not where the archive says")
    lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    start = member.header_offset + _LOCAL_HEADER + sum(lengths)
    file.seek(start)
    shape, order, dtype = _header(file)
    length = file.tell() - start + math.prod(shape) * dtype.itemsize
    if length != member.file_size:
        raise ValueError(f"{member.filename} has {member.file_size} bytes where its header says"
                         f" {length}")  # fmt: skip
    return np.memmap(path, dtype, "r", file.tell(), shape, order)


def _unpacked(path: str, stream: IO[bytes], packed: int) -> np.ndarray:
    """The array of a stream; packed: bytes of what it unpacks."""
    shape, order, dtype = _header(stream)
    return read_packed(path, stream, packed, dtype, shape, order)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype]:
    """Shape, order ("C" or "F") and type of an array that holds no objects."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):  # newer ones are of fields with names
        raise ValueError(f"version {version} of .npy")
    read = np.lib.format.read_array_header_1_0
    if version == (2, 0):
        read = np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream, max_header_size=MAX_HEADER_BYTES)
    if dtype.hasobject or 0 in shape or dtype.itemsize == 0:
        raise ValueError(f"it holds {dtype} of shape {shape}")
    return shape, "F" if fortran else "C", dtype


def _damaged(path: str, error: Exception) -> InputError:
    return InputError(
        f"{path} is not a whole archive of arrays ({reason_of(error)}): fetch it again"
    )
