"""The handwritten digits that lie inside scikit-learn, read without importing it."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from storage.errors import InputError

TRAIN = 1500  # of 1797 images; the rest is by other writers
_FILE = Path("datasets", "data", "digits.csv.gz")  # within the package


def read_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The images of a split, (n, 8, 8) uint8, and their classes, (n,) int64.

    Their 17 grey levels are stretched to 0…255.
    Raises: InputError where scikit-learn is not installed, or lacks the file.
    """
    part = slice(TRAIN) if split == "train" else slice(TRAIN, None)
    table = _table()[part]
    levels = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return levels, table[:, -1].astype(np.int64)


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """(1797, 65) float64: the pixels of an image, and its class."""
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise InputError("the digits lie inside scikit-learn, which is missing: install it")
    path = Path(package.submodule_search_locations[0]) / _FILE
    try:
        return np.loadtxt(path, delimiter=",")
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the digits from {path} ({error}): install scikit-learn anew"
        ) from error
