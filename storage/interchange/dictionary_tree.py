"""Dictionaries as xarray hands them out: a tree with one group per K, found by its number too."""

from typing import Any

import numpy as np
import xarray

from storage.dictionary_store import finished_dictionaries, is_preprocessed, remedy_for
from storage.errors import InputError
from storage.integrity import SEALING, stated_checksums
from storage.layout import DICTIONARIES, group_name
from storage.places.place import Place, place_of
from storage.plain_attributes import describe, plain
from storage.strict_store import open_strict


class DictionaryTree(xarray.DataTree):
    """An xarray DataTree of dictionaries, whose groups have a name and are found by their K, too.

    `tree[50]` is `tree["k00050"]`; all else is as xarray has it.
    """

    __slots__ = ()

    @property
    def by_k(self) -> dict[int, xarray.DataTree]:
        """The dictionaries by K, ascending."""
        found = {int(node.attrs["k"]): node for node in self.children.values()}
        return dict(sorted(found.items()))

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, (int, np.integer)):
            return super().__getitem__(key)
        if (name := group_name(int(key))) in self.children:
            return self.children[name]
        sizes = ", ".join(map(str, self.by_k)) or "none: run sweep first"
        raise InputError(f"there is no dictionary of K = {key}: there are {sizes}")

    def __contains__(self, key: object) -> bool:
        return super().__contains__(_named(key))

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_named(key), default)


def _named(key: Any) -> Any:
    """The name of the group of a number."""
    return group_name(int(key)) if isinstance(key, (int, np.integer)) else key


def open_dictionaries(path: str | Place) -> DictionaryTree:
    """Open the dictionaries of an experiment, lazily, as an xarray DataTree with one group per K.

    Args:
        path: the experiment's folder, or the dictionaries.zarr in it; or the URL of one.

    Returns:
        A tree whose groups are found by their K, `tree[50]`, or by their name, `tree["k00050"]`;
        `tree.by_k` has all of them. Attributes are texts and numbers, so that it can be written as
        netCDF and zarr: those that hold several (spec, source, fit, machine, versions) are JSON,
        and what is not known is not there.

    Raises: InputError when there is none; IntegrityError for another schema version, metadata that
        is not what was written, and, when values are read, for damaged chunks.
    """
    path = place_of(path)
    if path.name != DICTIONARIES and (path / DICTIONARIES).exists():
        path = path / DICTIONARIES
    stated: dict[str, str] = {}
    found = finished_dictionaries(path, missing_ok=False)
    for k, attributes in found.items():
        stated |= stated_checksums(attributes, f"{group_name(k)}/")
    # xarray takes zarr's stores, its types do not say so
    store: Any = open_strict(path, stated, remedy_for("GROUP"))
    tree = xarray.open_datatree(store, engine="zarr", consolidated=False)
    # zarr lists groups as the file system does; K ascending is what people expect
    children = {
        group_name(k): xarray.DataTree(handed_out(tree.children[group_name(k)].to_dataset()))
        for k in found
    }
    return DictionaryTree(handed_out(tree.to_dataset()), children=children)


def handed_out(stored: xarray.Dataset) -> xarray.Dataset:
    """A group with coordinates, units, and attributes that every format takes."""
    found = stored.drop_encoding()
    for variable in found.variables.values():
        variable.attrs = {}
    describe(found, {})
    if is_preprocessed(stored.attrs):
        found["centroids"].attrs["units"] = "1"
    found.attrs = plain({name: stored.attrs[name] for name in stored.attrs if name not in SEALING})
    return found
