"""Arrays of zarr, v2 and v3, also in groups and as OME-Zarr, on disk or at a URL.

A chunk that is not there holds the array's fill value: so zarr has it, and these are not our own.
"""

from typing import Any

import numpy as np
import zarr

from storage.errors import InputError, PatchDictError, shortened
from storage.images.axes import letters_of, named_letters
from storage.images.formats.pieces import ChunkedReader, check_packed, reason_of
from storage.images.options import ImageOptions
from storage.places.place import is_url
from storage.places.remote import SCHEMES, RemotePlace
from storage.places.zarr_store import store_at

_SHOWN = 8  # names of arrays in an error


def open_zarr(path: str, name: str | None, options: ImageOptions) -> ChunkedReader:
    """The images of an array.

    Args:
        path: of the array or group, or its URL.
        name: of an array or level in the group, as in "0" or "labels/cells"; None: the only array,
            or the first level.
        options: what is stated of the images; without a layout, axes that have names tell it.

    Raises: InputError: no array, several and no name, or a shape that is likely of another layout.
    """
    where = path if name is None else f"{path}::{name}"
    try:
        node, axes = zarr.open(_store(path), mode="r"), None
        if name is not None:
            if not isinstance(node, zarr.Group):
                raise InputError(f"{path} is one array: leave out ::{name}")
            axes = _axes_of_level(node, name)
            node = _named(node, name, path)
        if isinstance(node, zarr.Group):
            node, axes = _only_array(node, where)
        array: zarr.Array = node
        letters = None
        if options.layout is None:
            letters = named_letters(axes or _dimensions(array))
        if letters is None or len(letters) != array.ndim:
            letters = letters_of(array.shape, options.layout, where)
        notes, chunks = array.attrs.asdict(), array.chunks
        check_packed(where, notes)

        def fetch(place: tuple[slice, ...]) -> np.ndarray:
            return np.asarray(array[place])

        return ChunkedReader(
            where, array.shape, array.dtype, letters, chunks, fetch, notes, options
        )
    except PatchDictError:
        raise
    except Exception as error:  # of zarr, of its codecs, of fsspec
        raise InputError(
            f"cannot open {where} as zarr ({reason_of(error)}): check the path, or fetch it again"
        ) from error


def _store(path: str) -> Any:
    """What zarr opens: a path, a store over a bucket or a server, or a URL that it may know."""
    known = is_url(path) and path.partition(":")[0].lower() in SCHEMES
    return store_at(RemotePlace.of(path), read_only=True) if known else path


def _named(group: zarr.Group, name: str, path: str) -> Any:
    try:
        return group[name]
    except KeyError as error:
        raise InputError(f"no {shortened(name)} in {path}; in it: {_arrays(group)}") from error


def _only_array(group: zarr.Group, where: str) -> tuple[zarr.Array, list[str] | None]:
    """The array of a group, and what its metadata calls the axes."""
    if scales := _scales(group):
        level: Any = group[_levels(scales[0])[0]]
        return level, _axes(scales[0])
    arrays = [array for _, array in group.arrays()]
    if len(arrays) != 1:
        join = "/" if "::" in where else "::"
        raise InputError(
            f"{where} is a group of {len(arrays)} arrays: name one, as in {where}{join}NAME; in it:"
            f" {_arrays(group)}"
        )
    return arrays[0], None


def _scales(group: zarr.Group) -> list[dict[str, Any]]:
    """What OME-Zarr says of the levels in a group; nothing where it is none of that."""
    attributes: dict[str, Any] = group.attrs.asdict()
    ome = attributes.get("ome", attributes)
    told = ome.get("multiscales") if isinstance(ome, dict) else None
    return [scale for scale in told if _levels(scale)] if isinstance(told, list) else []


def _levels(scale: Any) -> list[str]:
    levels = scale.get("datasets") if isinstance(scale, dict) else None
    found = levels if isinstance(levels, list) else []
    return [str(one["path"]) for one in found if isinstance(one, dict) and "path" in one]


def _axes(scale: dict[str, Any]) -> list[str]:
    axes = scale.get("axes")
    named = axes if isinstance(axes, list) else []
    return [str(axis.get("name") if isinstance(axis, dict) else axis) for axis in named]


def _axes_of_level(group: zarr.Group, name: str) -> list[str] | None:
    """What OME-Zarr calls the axes of an array that is named as a level; None for others."""
    above, _, level = name.strip("/").rpartition("/")
    node = group.get(above) if above else group
    for scale in _scales(node) if isinstance(node, zarr.Group) else ():
        if level in _levels(scale):
            return _axes(scale)
    return None


def _dimensions(array: zarr.Array) -> tuple[Any, ...]:
    """Names of the axes; in v2, xarray keeps them in an attribute."""
    attributes: dict[str, Any] = array.attrs.asdict()
    named = getattr(array.metadata, "dimension_names", None)
    return tuple(named or attributes.get("_ARRAY_DIMENSIONS", ()))


def _arrays(group: zarr.Group) -> str:
    found = sorted(name for name, _ in group.members())
    return ", ".join(found[:_SHOWN]) + " …" * (len(found) > _SHOWN) or "nothing"
