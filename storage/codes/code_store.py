"""The stores of codes and of features: one zarr v3 group each, which xarray opens.

    codes   (image, row, col)   the number of the centroid at each position of a patch, uint16 or
                                uint32; the type's largest number where no patch is kept; of
                                several stages (stage, image, row, col)
    stage   (stage,)            int64, from 1 on; of several stages alone
    image   (image,)            int64; number of the image in its source
    row     (row,)              int64; row of the pixel at which the patch of a position begins,
    col     (col,)              and its column; below 0 in a reflected border

    features  (image, feature)  float32; what the patches of a pool say of a centroid
    image   (image,)            as above
    pool    (feature,)          int64; number of the pool, in reading order
    atom    (feature,)          int64; number of the centroid

Attributes of the array are what decoding needs beside the dictionary: k, dictionary (SHA-256 of its
centroids), spec, height, width, channels (0: the images have no such axis), black; of codes
no_code, and of several stages `later`, by number the SHA-256 of the others' centroids; of features
what they are: features (hard, triangle or soft), pool, and more by their kind. Those of the group:
kind, schema, source, dataset (where the images were), white (of those, where it was told),
experiment (the folder of the dictionary), versions; set last, the seal (storage.integrity), against
which all metadata and every chunk that is read are checked.
"""

from typing import Any, cast

import numpy as np
import zarr

from storage.errors import DamageError, InputError, IntegrityError
from storage.integrity import file_faults, sealed_attributes, stated_checksums
from storage.layout import METADATA, is_being_built
from storage.places.place import Place, bytes_below, place_of
from storage.plain_attributes import parsed
from storage.strict_store import open_strict

CODES, FEATURES, SCHEMA = "codes", "features", 1
REMEDY = "run the same encode again, it writes anew what is damaged"
ANEW = "delete it, and run the same encode again"


def code_dtype(k: int) -> np.dtype:
    """Type of the codes of k centroids, which leaves room for `no_code`."""
    return np.dtype(np.uint16 if k < np.iinfo(np.uint16).max else np.uint32)


def no_code(dtype: np.dtype) -> int:
    """The number that stands where no patch is kept."""
    return int(np.iinfo(dtype).max)


class CodeStore:
    """Read-only view of a complete store of codes or features.

    Attributes: path, kind (the array's name), attributes (of the group), decoding (those of the
    array), array (zarr.Array), checksums (of all chunks by key).
    """

    def __init__(self, path: Place, group: zarr.Group, attributes: dict[str, Any]) -> None:
        """Assumes a group that `open_codes` has checked."""
        self.path, self.attributes, self.kind = path, attributes, str(attributes["kind"])
        self.array = cast(zarr.Array, group[self.kind])
        self.decoding = parsed(dict(self.array.attrs))
        self.checksums = stated_checksums(attributes)

    @property
    def stored_bytes(self) -> int:
        """Bytes on disk of the codes, or features, alone: of the chunks that are there."""
        return bytes_below(self.path / self.kind / "c")

    def read(self, *place: slice) -> np.ndarray:
        """Codes of some images at some positions, (n, rows, columns); some features of images.

        Raises: DamageError when a chunk is missing, truncated, fails its checksum, or is another's.
        """
        try:
            return cast(np.ndarray, self.array[cast(Any, (Ellipsis, *place))])
        except (ValueError, RuntimeError) as error:  # zarr's codecs, on bytes that are as written
            raise DamageError(f"{self.path} cannot be decoded ({error}): {REMEDY}") from error

    def damaged(self) -> list[str]:
        """Keys of the chunks that are not as they were written."""
        return [key for key, fault in file_faults(self.path, self.checksums) if fault]


def open_codes(path: str | Place, kind: str = CODES) -> CodeStore:
    """Open a complete store of codes, or of features, for reading.

    Raises: InputError when there is none; IntegrityError when it is unfinished, of another schema
        version, or its metadata is not what was written.
    """
    path = place_of(path)
    try:
        attributes = sealed_attributes(path, ANEW, kind=kind, schema=SCHEMA)
    except (FileNotFoundError, NotADirectoryError):
        if is_being_built(path):
            raise IntegrityError(f"{path} is unfinished: {ANEW}") from None
        if (path / kind).is_dir():
            raise DamageError(f"{path} has lost its metadata ({METADATA}): {ANEW}") from None
        raise InputError(f"no {kind} at {path}: run encode first") from None
    strict = open_strict(path, stated_checksums(attributes), REMEDY)
    try:
        return CodeStore(path, zarr.open_group(strict, mode="r", zarr_format=3), attributes)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DamageError(f"{path} has damaged metadata ({reason}): {ANEW}") from error


def kind_of_codes(path: Place) -> str | None:
    """Whether a folder holds codes, or features, or what is left of them; None: neither."""
    for kind in (CODES, FEATURES):
        if path.name.startswith(f"{kind}-") or (path / kind).is_dir():
            return kind
    return None
