"""The dictionary store: one zarr v3 group per K inside one tree, each whole or absent.

Layout of the tree: root attributes describe the experiment; group k00100 holds
    centroids (atom, row, col[, channel]) float32     mse     (iteration,) float64
    count     (atom,) int64                           shift   (iteration,) float64
    sse       (atom,) float64                         live, redrawn, rows, seconds (iteration,)
and, as attributes, the scores and the configuration that made it.
"""

import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray
import zarr
from zarr.storage import LocalStore

from storage.errors import InputError, IntegrityError
from storage.strict_store import checked_compressors, open_strict

KIND, SCHEMA = "dictionaries", 1
HISTORY = ("rows", "mse", "shift", "live", "redrawn", "seconds")


@dataclass(frozen=True)
class Dictionary:
    """One learned dictionary with its scores.

    centroids: (k, *patch_shape) float32, pixel levels.
    count: (k,) int64, rows nearest to each centroid.
    sse: (k,) float64, squared pixel levels.
    history: for each name of HISTORY one number per pass; `seconds` is the time of the pass.
    attributes: plain JSON: k, mse, sse, heldout_mse, passes, rows_seen, seconds, live, stopped,
        started_from (the K whose centroids it began with, or null), …
    """

    centroids: np.ndarray
    count: np.ndarray
    sse: np.ndarray
    history: dict[str, list[float]]
    attributes: dict[str, Any] = field(default_factory=dict)

    def to_dataset(self) -> xarray.Dataset:
        """The group as it is stored."""
        axes = ("atom", "row", "col", "channel")[: self.centroids.ndim]
        variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
            "centroids": (axes, self.centroids),
            "count": (("atom",), self.count),
            "sse": (("atom",), self.sse),
        }
        for name in HISTORY:
            dtype = np.int64 if name in ("rows", "live", "redrawn") else np.float64
            variables[name] = (
                ("iteration",),
                np.asarray(self.history[name], dtype),
            )
        return xarray.Dataset(variables, attrs=self.attributes)


def group_name(k: int) -> str:
    """Name of the group of the dictionary with k centroids, as in k00100."""
    return f"k{k:05d}"


def open_dictionaries(path: str | Path) -> xarray.DataTree:
    """Open a dictionary store, lazily, as an xarray DataTree with one group per K.

    Raises: InputError when there is none; IntegrityError for another schema version.
    """
    path = Path(path)
    _open_root(path)
    store: Any = open_strict(path)  # xarray takes zarr's stores, its types do not say so
    tree = xarray.open_datatree(store, engine="zarr", consolidated=False)
    # zarr lists groups as the file system does; K ascending is what people expect
    ascending = sorted(tree.children.items(), key=lambda child: int(child[0][1:]))
    return xarray.DataTree(tree.to_dataset(), children=dict(ascending))


def finished_dictionaries(path: Path) -> dict[int, dict[str, Any]]:
    """Attributes of each stored dictionary by K, ascending; empty where there is no store yet."""
    if not path.exists():
        return {}
    found = [dict(group.attrs) for _, group in _open_root(path).groups()]
    whole = [a for a in found if a.get("complete") is True]
    return {cast(int, a["k"]): a for a in sorted(whole, key=lambda a: cast(int, a["k"]))}


def read_centroids(path: Path, k: int) -> tuple[np.ndarray, float]:
    """Centroids of a stored dictionary, (k, *patch_shape), and their MSE.

    Raises: IntegrityError when they are damaged.
    """
    group = open_dictionaries(path)[group_name(k)]
    return group["centroids"].to_numpy(), float(group.attrs["mse"])


def create_dictionaries(path: Path, attributes: dict[str, Any]) -> None:
    """Make an empty tree that describes its experiment, unless it is there already."""
    if path.exists():
        _open_root(path)
        return
    staging = _staging_beside(path)
    zarr.create_group(
        staging, zarr_format=3, attributes={"kind": KIND, "schema": SCHEMA, **attributes}
    )
    staging.rename(path)


def write_dictionary(path: Path, dictionary: Dictionary) -> Path:
    """Add one dictionary to the tree; it appears whole, and never overwrites another.

    Returns: the path of the new group.
    """
    k = len(dictionary.centroids)
    staging = _staging_beside(path)
    try:
        dataset = dictionary.to_dataset().assign_attrs(complete=True)
        dataset.to_zarr(
            staging,
            mode="w-",
            zarr_format=3,
            consolidated=False,
            write_empty_chunks=True,  # an absent chunk is damage
            encoding={
                name: {"compressors": checked_compressors(variable.dtype.itemsize)}
                for name, variable in dataset.variables.items()
            },
        )
        return staging.rename(path / group_name(k))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _staging_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def _open_root(path: Path) -> zarr.Group:
    """The tree's root, for reading; raises as `open_dictionaries` does."""
    if not (path / "zarr.json").is_file():
        raise InputError(f"no dictionaries at {path}: run sweep first")
    try:
        root = zarr.open_group(LocalStore(path, read_only=True), mode="r")
        schema = root.attrs.get("schema")
    except ValueError as error:
        raise IntegrityError(f"{path} has damaged metadata ({error}): fit it again") from error
    if schema != SCHEMA:
        raise IntegrityError(
            f"{path} has schema version {schema} where {SCHEMA} is expected: fit it again"
        )
    return root
