"""A dictionary as a model or an index of other libraries, over rows of d values."""

import io
from importlib import import_module
from typing import Any

import numpy as np
import xarray

from pipeline import sklearn_kmeans
from storage.interchange.dictionary_file import missing_extra
from storage.plain_attributes import parsed


def sklearn_file(dictionary: xarray.Dataset) -> bytes:
    """A fitted KMeans of scikit-learn as joblib writes it, for one that was `described`."""
    facts = parsed(dictionary.attrs)
    rows = np.dtype(facts.get("source", {}).get("dtype", "float64"))
    steps = int(facts.get("passes", 1))
    model = sklearn_kmeans(_rows(dictionary), rows, inertia=facts.get("sse"), n_iter=steps)
    file = io.BytesIO()
    import_module("joblib").dump(model, file)
    return file.getvalue()


def faiss_file(dictionary: xarray.Dataset) -> bytes:
    """An IndexFlatL2 of faiss, whose entries are the centroids in their order.

    Raises: InputError where the library is missing.
    """
    try:
        faiss: Any = import_module("faiss")
    except ImportError as error:
        raise missing_extra("write an index of faiss") from error
    rows = np.ascontiguousarray(_rows(dictionary), np.float32)
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    content: np.ndarray = faiss.serialize_index(index)
    return content.tobytes()


def _rows(dictionary: xarray.Dataset) -> np.ndarray:
    """The centroids, (k, d)."""
    centroids: np.ndarray = dictionary["centroids"].values
    return centroids.reshape(len(centroids), -1)
