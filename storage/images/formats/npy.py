"""Reader for .npy: maps the array, and takes nothing on trust that the header says.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import tokenize
import warnings
from pathlib import Path

import numpy as np

from storage.errors import InputError

MAX_HEADER_BYTES = 10_000  # numpy's own limit, which it applies after reading
_MAGIC = b"\x93NUMPY"
# What numpy and Python's parser raise for headers that are not as numpy writes them.
_BAD_HEADER = (
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
    MemoryError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
)


def map_npy(path: Path) -> np.ndarray:
    """Map a .npy file into memory; its size does not count. Nothing is unpickled.

    Returns: the array, of the file's shape, order and dtype.
    Raises: InputError when the file is missing, not .npy, truncated, longer than its header says,
        or holds Python objects.
    """
    try:
        _check_header_length(path)
        with warnings.catch_warnings():
            # of numpy about Python 2, of Python about escapes in the header, of wrapped products
            warnings.simplefilter("ignore")
            # not np.load, which opens zip archives and pickles too
            array = np.lib.format.open_memmap(path, mode="r")
        expected = array.offset + array.nbytes
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except _BAD_HEADER as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path} is not a whole .npy array ({reason}): fetch it again") from error
    if path.stat().st_size != expected:
        raise InputError(
            f"{path} has {path.stat().st_size} bytes where its header says {expected}: fetch it"
            " again"
        )
    return array


def _check_header_length(path: Path) -> None:
    """Raises ValueError before numpy makes room for what the header claims to be long."""
    with path.open("rb") as file:
        start = file.read(12)
    if start[:6] != _MAGIC:
        raise ValueError(f"it starts with {start[:6].hex(' ') or 'nothing'}")
    length = int.from_bytes(start[8:10] if start[6:7] == b"\1" else start[8:12], "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header claims {length} bytes, more than {MAX_HEADER_BYTES}")
