"""How evenly the centroids of a dictionary are used."""

from dataclasses import dataclass

import numpy as np
import xarray

from storage import InputError


@dataclass(frozen=True)
class Usage:
    """Use of a dictionary's centroids by the rows they were learned from.

    k: number of centroids.
    live: centroids with at least one row.
    perplexity: exp of the entropy (natural logarithm) of counts/n; k for even use, 1 for one.
    largest_share: share of all rows that the most used centroid has.
    half: how many of the most used centroids hold half of the rows between them.
    """

    k: int
    live: int
    perplexity: float
    largest_share: float
    half: int


def usage(dictionary: xarray.DataTree | xarray.Dataset) -> Usage:
    """Use of the centroids of one dictionary: a node of its tree, or its Dataset.

    Raises: InputError for counts that are all zero.
    """
    dataset = dictionary.to_dataset() if isinstance(dictionary, xarray.DataTree) else dictionary
    return usage_of_counts(dataset["count"].values)


def usage_of_counts(counts: np.ndarray) -> Usage:
    """Use from the rows of each centroid; counts: (k,) int64."""
    total = int(counts.sum())
    if total == 0:
        raise InputError("no row belongs to any centroid: fit the dictionary again")
    shares = counts[counts > 0] / total
    ranked = np.sort(shares)[::-1]
    return Usage(
        k=len(counts),
        live=len(shares),
        perplexity=float(np.exp(-np.sum(shares * np.log(shares)))),
        largest_share=float(ranked[0]),
        half=int(np.searchsorted(np.cumsum(ranked), 0.5 - 1e-12)) + 1,
    )
