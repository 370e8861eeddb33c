"""The formats of a dictionary that is handed on: how each is written, and what opens it."""

from collections.abc import Callable
from typing import NamedTuple

import xarray

from analysis.export.card import arrays_of
from storage.interchange.dictionary_file import npz_file, safetensors_file
from storage.plain_attributes import parsed


class Format(NamedTuple):
    """One format.

    suffix: of its files. content: gives the bytes of a file for a dictionary that was `described`.
    opened: Python that opens it, with PATH for its path. warning: for whoever gets it.
    """

    suffix: str
    content: Callable[[xarray.Dataset], bytes]
    opened: str
    warning: str = ""


def _npz(dictionary: xarray.Dataset) -> bytes:
    return npz_file(arrays_of(dictionary), parsed(dictionary.attrs))


def _safetensors(dictionary: xarray.Dataset) -> bytes:
    return safetensors_file(arrays_of(dictionary), parsed(dictionary.attrs))


FORMATS = {
    "npz": Format(".npz", _npz, "patchdict.load_dictionary(PATH), or numpy.load(PATH)"),
    "safetensors": Format(
        ".safetensors",
        _safetensors,
        "patchdict.load_dictionary(PATH), or safetensors.numpy.load_file(PATH)",
    ),
}
