"""A dictionary as a table, one row for each centroid: what it is, and how it is used."""

import io
import json
from importlib import import_module
from typing import Any

import numpy as np
import xarray

from analysis.measures.codebook import pixel_centroids
from analysis.measures.kinds import centroid_kinds
from analysis.measures.pixel_scale import stored_scale
from analysis.measures.usage import usage
from storage.interchange.dictionary_file import missing_extra
from storage.plain_attributes import parsed


def parquet_file(dictionary: xarray.Dataset) -> bytes:
    """The content of a .parquet file for a dictionary that was `described`.

    Columns: atom, centroid (a list of d levels, of its rows, columns and channels in this order),
    count, sse, the columns of `usage`, kind; those that are known. The card is in its metadata.
    Raises: InputError where the library is missing.
    """
    try:
        arrow: Any = import_module("pyarrow")
        write_table: Any = import_module("pyarrow.parquet").write_table
    except ImportError as error:
        raise missing_extra("write parquet") from error
    centroids = pixel_centroids(dictionary)
    rows = centroids.reshape(len(centroids), -1)
    columns: dict[str, Any] = {"atom": np.arange(len(rows))}
    columns["centroid"] = arrow.FixedSizeListArray.from_arrays(rows.ravel(), rows.shape[1])
    if "count" in dictionary and "sse" in dictionary:
        columns["sse"] = dictionary["sse"].values
        found = usage(dictionary)
        columns |= {str(name): found[name].values for name in found if found[name].ndim}
    if centroids.ndim > 2 and stored_scale(dictionary):
        columns["kind"] = centroid_kinds(dictionary).values
    table = arrow.table(
        {name: arrow.array(column, from_pandas=True) for name, column in columns.items()},
        metadata={"card": json.dumps(parsed(dictionary.attrs))},
    )  # NaN becomes null, which others leave out
    file = io.BytesIO()
    write_table(table, file)
    return file.getvalue()
