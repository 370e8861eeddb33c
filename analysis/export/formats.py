"""The formats of a dictionary that is handed on: how each is written, and what opens it."""

from collections.abc import Callable
from typing import NamedTuple

import xarray

from analysis.export.card import arrays_of
from analysis.export.centroid_table import parquet_file
from analysis.export.models import faiss_file, sklearn_file
from storage.interchange.dictionary_file import npz_file, safetensors_file
from storage.plain_attributes import parsed


class Format(NamedTuple):
    """One format.

    suffix: of its files. content: gives the bytes of a file for a dictionary that was `described`.
    opened: Python that opens it, with PATH for its path. warning: for whoever gets it.
    preprocesses: whether it has room for how patches are preprocessed, or does not need it.
    """

    suffix: str
    content: Callable[[xarray.Dataset], bytes]
    opened: str
    warning: str = ""
    preprocesses: bool = False


def _npz(dictionary: xarray.Dataset) -> bytes:
    return npz_file(arrays_of(dictionary), parsed(dictionary.attrs))


def _safetensors(dictionary: xarray.Dataset) -> bytes:
    return safetensors_file(arrays_of(dictionary), parsed(dictionary.attrs))


def _torch(dictionary: xarray.Dataset) -> bytes:
    from analysis.export.torch_dictionary import torch_file  # torch takes seconds to load

    return torch_file(dictionary)


FORMATS = {
    "npz": Format(
        ".npz",
        _npz,
        "patchdict.load_dictionary(PATH), or numpy.load(PATH)",
        preprocesses=True,
    ),
    "safetensors": Format(
        ".safetensors",
        _safetensors,
        "patchdict.load_dictionary(PATH), or safetensors.numpy.load_file(PATH)",
        preprocesses=True,
    ),
    "sklearn": Format(
        ".joblib",
        sklearn_file,
        "joblib.load(PATH).predict(rows)",
        "this file is a pickle: whoever opens it runs what is in it, so open none that you do not"
        " trust; npz and safetensors are safe",
    ),
    "faiss": Format(".faiss", faiss_file, "faiss.read_index(PATH).search(rows, 1)"),
    "torch": Format(
        ".pt",
        _torch,
        "patchdict.TorchDictionary.load(PATH), or torch.load(PATH, weights_only=True)",
    ),
    "parquet": Format(".parquet", parquet_file, "pandas.read_parquet(PATH)", preprocesses=True),
}
