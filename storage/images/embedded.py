"""Images that lie inside scikit-learn, read without importing it: digits, two photographs."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from storage.errors import InputError
from storage.images.formats.folder import FolderReader

TRAIN = 1500  # of 1797 images; the rest is by other writers
_DIGITS = Path("datasets", "data", "digits.csv.gz")  # within the package
_PHOTOS = Path("datasets", "images")


def read_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The images of a split, (n, 8, 8) uint8, and their classes, (n,) int64.

    Their 17 grey levels are stretched to 0…255.
    Raises: InputError where scikit-learn is not installed, or lacks the file.
    """
    part = slice(TRAIN) if split == "train" else slice(TRAIN, None)
    table = _table()[part]
    levels = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return levels, table[:, -1].astype(np.int64)


def read_photos() -> np.ndarray:
    """The two photographs, (2, 427, 640, 3) uint8.

    Raises: InputError where scikit-learn is not installed, or lacks the files.
    """
    folder = str(_within_sklearn(_PHOTOS))
    photos = FolderReader(folder, folder, ["china.jpg", "flower.jpg"])
    sizes = photos.sizes.tolist()
    return np.stack([photos.read(i, slice(0, h), slice(0, w)) for i, (h, w) in enumerate(sizes)])


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """(1797, 65) float64: the pixels of an image, and its class."""
    path = _within_sklearn(_DIGITS)
    try:
        return np.loadtxt(path, delimiter=",")
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the digits from {path} ({error}): install scikit-learn anew"
        ) from error


def _within_sklearn(place: Path) -> Path:
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise InputError("these images lie inside scikit-learn, which is missing: install it")
    return Path(package.submodule_search_locations[0]) / place
