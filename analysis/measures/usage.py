"""How the centroids of a dictionary are used: by how many rows, how evenly, with what error."""

from typing import Any

import numpy as np
import xarray

from analysis.measures.codebook import AnyDictionary, node_of
from analysis.measures.pixel_scale import stored_scale
from storage import InputError
from storage.plain_attributes import describe

USAGE_UNITS = {
    "count": ("rows", "rows nearest to the centroid"),
    "share": ("1", "share of all rows"),
    "sse_share": ("1", "share of the sum of squared errors"),
    "mse": ("squared pixel levels", "mean squared error of the centroid's rows, per pixel"),
    "rank": ("1", "place by rows, 1 for the most used"),
    "live": ("centroids", "centroids with at least one row"),
    "perplexity": ("centroids", "2 to the entropy: as many, evenly used, would be as varied"),
    "entropy": ("bits", "entropy of use"),
    "half": ("centroids", "most used centroids that hold half of the rows"),
    "largest_share": ("1", "share of all rows of the most used centroid"),
    "gini": ("1", "Gini coefficient of rows, 0 for even use"),
}  # name: units, long_name


def usage(dictionary: AnyDictionary) -> xarray.Dataset:
    """How the centroids of one dictionary are used.

    Args:
        dictionary: a node of the tree that `open_dictionaries` returns, its Dataset, or a fitted
            StreamingKMeans.

    Returns:
        A Dataset over `atom` with count, share, sse_share (NaN where the dictionary has no error
        at all), mse (squared pixel levels; NaN for a centroid without rows), rank (int64, from 1;
        of equal counts the lower index first), and the numbers of `usage_of_counts`, which have
        no dimension. Units and names are in the attributes.

    Raises:
        InputError: counts that are all zero.
    """
    dictionary = node_of(dictionary)
    counts, sse = (np.asarray(dictionary[name].values) for name in ("count", "sse"))
    numbers = usage_of_counts(counts)
    k, dim = numbers.pop("k"), dictionary["centroids"].size // len(counts)
    ranks = np.empty(k, np.int64)
    ranks[np.argsort(-counts, kind="stable")] = np.arange(1, k + 1)
    with np.errstate(invalid="ignore"):  # NaN where there is nothing to divide by
        columns = {
            "count": counts,
            "share": counts / counts.sum(),
            "sse_share": sse / sse.sum(),
            "mse": np.where(counts > 0, sse, np.nan) / (np.maximum(counts, 1) * dim),
            "rank": ranks,
        }
    found = xarray.Dataset(
        {name: ("atom", column) for name, column in columns.items()} | numbers, attrs={"k": k}
    )
    describe(found, USAGE_UNITS)
    scale = stored_scale(dictionary)
    if scale:
        found["mse"].attrs["units"] = scale.unit
    return found


def usage_of_counts(counts: np.ndarray) -> dict[str, Any]:
    """Use of centroids by the rows that they were learned from.

    Args:
        counts: (k,) int64, the rows of each.

    Returns:
        k; live: centroids with at least one row;
        entropy: of counts/n, bits; log2 k for even use, 0 for one that has all;
        perplexity: 2 to the entropy; k for even use, 1 for one that has all;
        largest_share: share of all rows that the most used centroid has;
        half: how many of the most used centroids hold half of the rows between them;
        gini: Gini coefficient of the counts, centroids without rows included: with counts
        c_1 ≤ … ≤ c_k it is Σ (2i − k − 1) c_i / (k Σ c_i); 0 for even use, 1 − 1/k for one that
        has all.

    Raises:
        InputError: counts that are all zero.
    """
    k, total = len(counts), int(counts.sum())
    if total == 0:
        raise InputError("no row belongs to any centroid: fit the dictionary again")
    ascending = np.sort(counts) / total
    shares = ascending[ascending > 0]
    entropy = max(0.0, -float(np.sum(shares * np.log2(shares))))
    return {
        "k": k,
        "live": len(shares),
        "entropy": entropy,
        "perplexity": 2**entropy,
        "largest_share": float(shares[-1]),
        "half": int(np.searchsorted(np.cumsum(shares[::-1]), 0.5 - 1e-12)) + 1,
        "gini": float(np.sum((2 * np.arange(1, k + 1) - k - 1) * ascending) / k),
    }
