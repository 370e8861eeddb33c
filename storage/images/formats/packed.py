"""Arrays that are packed in files: small ones are unpacked into memory, others into a file."""

import errno
import math
import shutil
from collections.abc import Iterator
from typing import IO, BinaryIO, Literal

import numpy as np

from storage.errors import InputError
from storage.mapped_files import scratch_array, scratch_folder

# Deflate cannot expand further (zlib's technical notes), so a longer claim is a lie.
MAX_GZIP_RATIO = 1032
MOST_IN_MEMORY = 64 << 20  # bytes of an array that is held unpacked; MNIST has 47 MB
_STEP = 1 << 20  # bytes that are unpacked at once
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def read_packed(
    path: str,
    stream: IO[bytes],
    packed: int,
    dtype: np.dtype,
    shape: tuple[int, ...],
    order: Literal["C", "F"] = "C",
) -> np.ndarray:
    """The array whose bytes are the rest of a stream.

    One of more than MOST_IN_MEMORY is mapped from a scratch file, in the system's folder for them,
    which is gone with the array or the process: it takes no memory.

    Args:
        path: names the file in an error.
        stream: unpacks as it is read.
        packed: bytes of what it unpacks, at most.
        dtype: of the array.
        shape: of the array.
        order: of the array.

    Raises:
        ValueError: there are fewer bytes, or more, or more are claimed than there can be.
        InputError: the disk of the scratch file is full.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > packed * MAX_GZIP_RATIO:
        raise ValueError(f"its header claims {nbytes} bytes, more than {packed} packed ones hold")
    if nbytes > MOST_IN_MEMORY:
        return _in_a_file(path, stream, dtype, shape, order)
    array = np.empty(shape, dtype, order)
    view, done = array.reshape(-1, order="A").view(np.uint8).data, 0
    for part in _parts(stream, nbytes):
        view[done : done + len(part)] = part
        done += len(part)
    return array


def _in_a_file(
    path: str,
    stream: IO[bytes],
    dtype: np.dtype,
    shape: tuple[int, ...],
    order: Literal["C", "F"],
) -> np.ndarray:
    nbytes = math.prod(shape) * dtype.itemsize

    def write(file: BinaryIO) -> None:
        for part in _parts(stream, nbytes):
            file.write(part)

    try:
        if shutil.disk_usage(scratch_folder()).free < nbytes:
            raise OSError(errno.ENOSPC, "No space left")
        array = scratch_array(write, dtype, shape, order)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise InputError(
            f"no room in {scratch_folder()} to unpack the {nbytes} bytes of {path}: set TMPDIR to a"
            " folder with room, or unpack it yourself"
        ) from error
    array.filename = path  # which names it in errors
    return array


def _parts(stream: IO[bytes], nbytes: int) -> Iterator[bytes]:
    """The rest of a stream, which is to have so many bytes."""
    done = 0
    while done < nbytes:
        part = stream.read(min(_STEP, nbytes - done))
        if not part:
            raise ValueError(f"it ends after {done} of {nbytes} bytes of data")
        done += len(part)
        yield part
    if stream.read(1):
        raise ValueError(f"it goes on after its {nbytes} bytes of data")
