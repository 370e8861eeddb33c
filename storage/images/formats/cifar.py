"""Reader for the binary version of CIFAR-10: records of a class and a planar image, 32×32×3.

Format: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from storage.errors import InputError
from storage.images.array_reader import StackReader

_CHANNELS, _SIDE = 3, 32
_RECORD = 1 + _CHANNELS * _SIDE * _SIDE  # bytes


def map_images(paths: Sequence[Path], name: str) -> StackReader:
    """Images of several files, one after the other, (n, 32, 32, 3) uint8; no pixel is read yet."""
    planes = [_records(path)[:, 1:].reshape(-1, _CHANNELS, _SIDE, _SIDE) for path in paths]
    return StackReader([images.transpose(0, 2, 3, 1) for images in planes], name)


def read_classes(paths: Sequence[Path]) -> np.ndarray:
    """Class of each image, (n,) uint8."""
    return np.concatenate([np.array(_records(path)[:, 0]) for path in paths])


def _records(path: Path) -> np.ndarray:
    """Maps (n, 3073) bytes; raises InputError where they are none."""
    try:
        n, rest = divmod(path.stat().st_size, _RECORD)
        if not n or rest:
            raise InputError(
                f"{path} has {n * _RECORD + rest} bytes where records of {_RECORD} are expected:"
                " fetch it again"
            )
        return np.memmap(path, np.uint8, "r", shape=(n, _RECORD))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
