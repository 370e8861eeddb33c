"""The code store: images as codes, one zarr v3 group, which xarray opens.

    codes   (image, row, col)   the number of the centroid at each position of a patch, uint16 or
                                uint32; the type's largest number where no patch is kept
    image   (image,)            int64; number of the image in its source
    row     (row,)              int64; row of the pixel at which the patch of a position begins,
    col     (col,)              and its column; below 0 in a reflected border

Attributes of the array are what decoding needs beside the dictionary: k, dictionary (SHA-256 of its
centroids), spec, height, width, channels (0: the images have no such axis), black, no_code. Those
of the group: kind, schema, source, dataset (where the images were), experiment (the folder of the
dictionary), versions; set last, the seal (storage.integrity), against which all metadata and every
chunk that is read are checked.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr

from storage.errors import DamageError, InputError
from storage.integrity import METADATA, file_fault, sealed_attributes, stated_checksums
from storage.plain_attributes import parsed
from storage.strict_store import open_strict

KIND, SCHEMA = "codes", 1
REMEDY = "run the same encode again, it writes anew what is damaged"
ANEW = "delete it, and run the same encode again"


def code_dtype(k: int) -> np.dtype:
    """Type of the codes of k centroids, which leaves room for `no_code`."""
    return np.dtype(np.uint16 if k < np.iinfo(np.uint16).max else np.uint32)


def no_code(dtype: np.dtype) -> int:
    """The number that stands where no patch is kept."""
    return int(np.iinfo(dtype).max)


class CodeStore:
    """Read-only view of a complete code store.

    Attributes: path, attributes (of the group), decoding (those of the array), array (zarr.Array),
    checksums (of all chunks by key).
    """

    def __init__(self, path: Path, group: zarr.Group, attributes: dict[str, Any]) -> None:
        """Assumes a group that `open_codes` has checked."""
        self.path, self.attributes = path, attributes
        self.array = cast(zarr.Array, group["codes"])
        self.decoding = parsed(dict(self.array.attrs))
        self.checksums = stated_checksums(attributes)

    @property
    def stored_bytes(self) -> int:
        """Bytes on disk of the codes alone."""
        keys = [key for key in self.checksums if key.startswith("codes/")]
        return sum((self.path / key).stat().st_size for key in keys)

    def read(self, images: slice, rows: slice, cols: slice) -> np.ndarray:
        """Codes of some images at some positions, (n, rows, columns).

        Raises: DamageError when a chunk is missing, truncated, fails its checksum, or is another's.
        """
        try:
            return cast(np.ndarray, self.array[images, rows, cols])
        except (ValueError, RuntimeError) as error:  # zarr's codecs, on bytes that are as written
            raise DamageError(f"{self.path} cannot be decoded ({error}): {REMEDY}") from error

    def damaged(self) -> list[str]:
        """Keys of the chunks that are not as they were written."""
        return [
            key for key, stated in self.checksums.items() if file_fault(self.path / key, stated)
        ]


def open_codes(path: str | Path) -> CodeStore:
    """Open a complete code store for reading.

    Raises: InputError when there is none; IntegrityError when it is unfinished, of another schema
        version, or its metadata is not what was written.
    """
    path = Path(path)
    try:
        attributes = sealed_attributes(path, ANEW, kind=KIND, schema=SCHEMA)
    except (FileNotFoundError, NotADirectoryError):
        if (path / "codes").is_dir():
            raise DamageError(f"{path} has lost its metadata ({METADATA}): {ANEW}") from None
        raise InputError(f"no codes at {path}: run encode first") from None
    strict = open_strict(path, stated_checksums(attributes), REMEDY)
    try:
        return CodeStore(path, zarr.open_group(strict, mode="r", zarr_format=3), attributes)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DamageError(f"{path} has damaged metadata ({reason}): {ANEW}") from error


def is_code_store(path: Path) -> bool:
    """Whether a folder holds codes, or what is left of them."""
    return path.name.startswith("codes-") or (path / "codes").is_dir()
