"""Reader for IDX, the format of MNIST: a big-endian header, then the raw array.

Format: http://yann.lecun.com/exdb/mnist/ (two zero bytes, a type code, the number of
dimensions, each dimension as uint32, the data).
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from storage.errors import InputError
from storage.images.formats.packed import read_packed

IDX_DTYPES: dict[int, np.dtype] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
MAX_DIMENSIONS = 4  # images, rows, columns, channels
GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file, plain or gzipped.

    A plain file is mapped into memory (its size does not count), a gzipped one is unpacked as
    `read_packed` does. Type, dimensions and length are checked before anything is allocated.

    Returns: the array, of the file's shape and dtype (big-endian where it has more than one byte).
    Raises: InputError when the file is missing, not IDX, truncated, or longer than its header says.
    """
    try:
        with path.open("rb") as file:
            gzipped = file.read(2) == GZIP_MAGIC
        return _read_gzipped(path) if gzipped else _map_plain(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path} is a damaged gzip file ({error}): delete it or fetch it again"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _map_plain(path: Path) -> np.ndarray:
    size = path.stat().st_size
    with path.open("rb") as file:
        dtype, shape, header = _read_header(path, file)
    expected = header + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise InputError(
            f"{path} has {size} bytes where its header says {expected}: fetch it again"
        )
    return np.memmap(path, dtype=dtype, mode="r", offset=header, shape=shape)


def _read_gzipped(path: Path) -> np.ndarray:
    with gzip.open(path, "rb") as stream:
        file = cast(BinaryIO, stream)
        dtype, shape, _ = _read_header(path, file)
        try:
            return read_packed(str(path), file, path.stat().st_size, dtype, shape)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{path} is not a whole IDX file ({error}): fetch it again") from error


def _read_header(path: Path, file: BinaryIO) -> tuple[np.dtype, tuple[int, ...], int]:
    """Returns dtype, shape and length of the header in bytes."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_DTYPES:
        raise InputError(
            f"{path} is not an IDX file: it starts with {magic.hex(' ') or 'nothing'} where two"
            " zero bytes and a type code (08, 09, 0b, 0c, 0d, 0e) are expected"
        )
    dimensions = magic[3]
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise InputError(
            f"{path} claims {dimensions} dimensions where 1 to {MAX_DIMENSIONS} are expected"
        )
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise InputError(f"{path} ends within its header: fetch it again")
    shape: tuple[int, ...] = struct.unpack(f">{dimensions}I", sizes)
    if 0 in shape:
        raise InputError(f"{path} claims the shape {shape}, which holds nothing")
    return IDX_DTYPES[magic[2]], shape, 4 + 4 * dimensions
