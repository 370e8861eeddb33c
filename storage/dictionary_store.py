"""The dictionary store: one zarr v3 group per K inside one tree, each whole or absent.

Layout of the tree: root attributes describe the experiment; group k00100 holds
    centroids (atom, row, col[, channel]) float32     mse     (iteration,) float64
    count     (atom,) int64                           shift   (iteration,) float64
    sse       (atom,) float64                         live, redrawn, rows, seconds (iteration,)
and, as attributes, the scores and the configuration that made it. The root and each group are
sealed (storage.integrity): their metadata and every chunk that is read are checked.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from storage.atomic import staged_place
from storage.errors import DamageError, InputError, IntegrityError
from storage.images.options import identity_of
from storage.integrity import (
    describe,
    file_faults,
    read_checksums,
    sealed_attributes,
    stated_checksums,
    write_seal,
)
from storage.layout import METADATA, group_folders, group_name
from storage.places.place import Place, each

# zarr loads where arrays are read or written: what a second sweep asks for are attributes.
KIND, SCHEMA = "dictionaries", 2
# what tells one experiment from another, where its attributes have it
IDENTITY = ("digest", "train_store", "test_store", "source", "spec")
HISTORY = ("rows", "mse", "shift", "live", "redrawn", "seconds")
PREPROCESSED = "preprocessing"  # the attribute that says what was done to patches
# By what patches are whitened, and centroids brought back, with the names of their axes.
PREPROCESSING = {
    "feature_mean": ("feature",),
    "whitening": ("feature", "component"),
    "unwhitening": ("component", "feature"),
}
_NAN = "AAAAAAAA+H8="  # as xarray encodes it in an attribute: base64 of a float64


@dataclass(frozen=True)
class Dictionary:
    """One learned dictionary with its scores.

    Attributes:
        centroids: (k, rows, cols[, channels]) float32, pixel levels.
        count: (k,) int64, rows nearest to each centroid.
        sse: (k,) float64, squared pixel levels.
        history: for each name of HISTORY one number per pass; `seconds` is the time of the pass.
        attributes: plain JSON: k, mse, sse, heldout_mse, passes, rows_seen, seconds, live, stopped,
            started_from (the K whose centroids it began with, or null), …
        preprocessing: arrays of PREPROCESSING that patches were whitened by before they met the
            centroids, which are no pixel levels then; none where they were not.
    """

    centroids: np.ndarray
    count: np.ndarray
    sse: np.ndarray
    history: dict[str, list[float]]
    attributes: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, np.ndarray] = field(default_factory=dict)

    def variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Axes and values of each array of the group."""
        arrays = {"centroids": self.centroids, "count": self.count, "sse": self.sse}
        for name in HISTORY:
            dtype = np.int64 if name in ("rows", "live", "redrawn") else np.float64
            arrays[name] = np.asarray(self.history[name], dtype)
        return with_axes(arrays | self.preprocessing)


def with_axes(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """The arrays of a dictionary, each with the names of its axes; other arrays are left out."""
    flat = arrays["centroids"].ndim == 2  # of rows that nobody knows to be patches
    names = ("atom", "feature") if flat else ("atom", "row", "col", "channel")
    axes = {"centroids": names[: arrays["centroids"].ndim]}
    axes |= dict.fromkeys(("count", "sse"), ("atom",)) | dict.fromkeys(HISTORY, ("iteration",))
    axes |= PREPROCESSING
    return {name: (axes[name], array) for name, array in arrays.items() if name in axes}


def is_preprocessed(attributes: Mapping[Any, Any]) -> bool:
    """Whether a dictionary with these attributes is of preprocessed patches."""
    return isinstance(attributes.get(PREPROCESSED), dict)  # cards of others say "none"


def finished_dictionaries(path: Place, *, missing_ok: bool = True) -> dict[int, dict[str, Any]]:
    """Attributes of each stored dictionary by K, ascending; empty where there is no store yet.

    Raises: IntegrityError as `open_dictionaries`; InputError where there is no store and not
        `missing_ok`.
    """
    if missing_ok and not path.exists():
        return {}
    root = root_attributes(path)
    folders = group_folders(path)
    found = each(lambda folder: group_attributes(folder, root), folders.values(), path)
    return dict(zip(folders, found, strict=True))


def read_centroids(path: Place, k: int) -> tuple[np.ndarray, float]:
    """Centroids of a stored dictionary, (k, *patch_shape), and their MSE.

    Raises: IntegrityError when they are damaged.
    """
    attributes, group = _opened(path, k)
    return np.asarray(group["centroids"][:]), float(attributes["mse"])


def read_preprocessing(path: Place, k: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Attributes of a stored dictionary, and those of its arrays that are of PREPROCESSING.

    Raises: IntegrityError when they are damaged.
    """
    attributes, group = _opened(path, k)
    return attributes, {name: np.asarray(group[name][:]) for name in PREPROCESSING if name in group}


def _opened(path: Place, k: int) -> tuple[dict[str, Any], Any]:
    """Attributes and group of a stored dictionary."""
    import zarr

    from storage.strict_store import open_strict

    folder = path / group_name(k)
    attributes = group_attributes(folder, root_attributes(path))
    strict = open_strict(folder, stated_checksums(attributes), remedy_for(folder.name))
    return attributes, zarr.open_group(strict, mode="r")


def dictionary_sum(centroids: np.ndarray) -> str:
    """SHA-256 (hex) of centroids, by which codes and later stages know their dictionary."""
    values = np.ascontiguousarray(centroids, "<f4")
    return hashlib.sha256(f"{values.shape}".encode() + values.data.tobytes()).hexdigest()


def check_dictionaries(path: Place, attributes: dict[str, Any]) -> None:
    """Check that what is stored, if anything, is whole and of the experiment of these attributes.

    Raises: IntegrityError for dictionaries that were fitted on another store or with other options,
        and for every kind of damage.
    """
    if not path.exists():
        return
    try:
        root = root_attributes(path)
    except InputError as error:
        raise IntegrityError(
            f"{path} holds no dictionaries, but has the name of a store of them: move it away"
        ) from error
    _check_identity(path, root, attributes)
    for k, found in finished_dictionaries(path).items():
        folder = path / group_name(k)
        for key, fault in file_faults(folder, stated_checksums(found)):
            if fault:
                raise DamageError(f"{describe(folder, key)} {fault}: {remedy_for(folder.name)}")


def create_dictionaries(path: Place, attributes: dict[str, Any]) -> None:
    """Make an empty tree that describes its experiment, unless it is there already.

    Raises: IntegrityError where one of another experiment is there.
    """
    if path.exists():
        _check_identity(path, root_attributes(path), attributes)
        return
    from storage.strict_store import new_group

    with staged_place(path) as staging:
        new_group(staging, {"kind": KIND, "schema": SCHEMA, **attributes})
        write_seal(staging, {})


def write_dictionary(path: Place, dictionary: Dictionary) -> Place:
    """Add one dictionary to the tree; it appears whole, and never overwrites another.

    Returns: the path of the new group.
    """
    from storage.strict_store import checked_compressors, new_group

    place = path / group_name(len(dictionary.centroids))
    with staged_place(place, beside=path) as staging:
        # As xarray would write it, which takes 70 MiB to load, in a process that has none to spare.
        group = new_group(staging, dictionary.attributes)
        for name, (axes, values) in dictionary.variables().items():
            is_float = values.dtype.kind == "f"
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                compressors=checked_compressors(values.dtype.itemsize),
                fill_value=np.nan if is_float else 0,
                attributes={"_FillValue": _NAN} if is_float else {},
                dimension_names=axes,
                config={"write_empty_chunks": True},  # an absent chunk is damage
            )
            array[...] = values
        write_seal(staging, read_checksums(staging))
    return place


def root_attributes(path: Place) -> dict[str, Any]:
    """Attributes of a tree; raises as `open_dictionaries` does."""
    remedy = "move the folder away and run the same sweep again"
    try:
        return sealed_attributes(path, remedy, kind=KIND, schema=SCHEMA)
    except (FileNotFoundError, NotADirectoryError):
        if group_folders(path):
            raise DamageError(f"{path} has lost its metadata ({METADATA}): {remedy}") from None
        raise InputError(f"no dictionaries at {path}: run sweep first") from None


def group_attributes(folder: Place, root: dict[str, Any]) -> dict[str, Any]:
    """Attributes of one dictionary in the tree with these attributes; raises as above."""
    remedy = remedy_for(folder.name)
    try:
        attributes = sealed_attributes(folder, remedy)
    except FileNotFoundError:
        raise DamageError(f"{folder} has lost its metadata ({METADATA}): {remedy}") from None
    if group_name(attributes["k"]) != folder.name:
        raise IntegrityError(f"{folder} holds {attributes['k']} centroids: {remedy}")
    if attributes.get("digest") != root.get("digest"):
        raise IntegrityError(
            f"{folder} was fitted on another store or with other options (digest"
            f" {attributes.get('digest')} where {root.get('digest')} is expected): {remedy}"
        )
    return attributes


def _check_identity(path: Place, found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in IDENTITY:
        there, wanted = found.get(name), expected.get(name)
        if name == "source" and there and wanted:
            there, wanted = identity_of(there), identity_of(wanted)
        if there != wanted:
            raise IntegrityError(
                f"the dictionaries at {path} were fitted on another store or with other options"
                f" ({name} {found.get(name)} where {expected.get(name)} is expected): move them"
                " away, or choose another OUT"
            )


def remedy_for(group: str) -> str:
    """What to do about a damaged group."""
    return f"delete its folder {group} and run the same sweep again, it learns that one anew"
