"""MSE against the size of the dictionary: the curve, its elbow, its slope."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import cast

import numpy as np
import xarray

from analysis.use import usage
from storage import InputError

MIN_POINTS = 3  # an elbow lies between two others
_SCORES = ("mse", "heldout_mse", "passes", "rows_seen", "seconds", "converged")


def mse_curve(tree: xarray.DataTree) -> xarray.Dataset:
    """Scores of all dictionaries of a tree, by K ascending.

    Returns: a Dataset over `k` (int64) with mse and heldout_mse (squared pixel levels; NaN where
        nothing was held out), live, perplexity, largest_share, half (see `Usage`), passes,
        rows_seen, seconds, converged.
    Raises: InputError for a tree without dictionaries.
    """
    nodes = sorted(tree.children.values(), key=lambda node: cast(int, node.attrs["k"]))
    if not nodes:
        raise InputError("the tree holds no dictionaries: run sweep first")
    rows = []
    for node in nodes:
        scores = {name: node.attrs[name] for name in _SCORES}
        if scores["heldout_mse"] is None:
            scores["heldout_mse"] = math.nan
        rows.append(scores | asdict(usage(node)))
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    k = columns.pop("k")
    return xarray.Dataset({name: ("k", values) for name, values in columns.items()}, {"k": k})


def elbow(k: Sequence[int] | np.ndarray, mse: Sequence[float] | np.ndarray) -> int | None:
    """The K at which a falling curve bends most: where it lies farthest below its chord.

    Both axes are scaled to 0…1 and the chord joins the first and the last point; without
    smoothing. The result depends on the range of K: every curve has such a point.
    Source: Satopää, Albrecht, Irwin, Raghavan, "Finding a 'Kneedle' in a Haystack", 2011.

    Args:
        k: sizes, in any order.
        mse: the score of each.

    Returns: one of `k`; None for fewer than 3 points, or a curve that is nowhere below its chord.
    Raises: InputError where the two differ in length.
    """
    if len(k) != len(mse):
        raise InputError(f"{len(k)} sizes and {len(mse)} scores do not match: give one score each")
    if len(k) < MIN_POINTS:
        return None
    order = np.argsort(k)
    sizes = np.asarray(k, np.float64)[order]
    depth = chord(sizes, np.asarray(mse, np.float64)[order]) - np.asarray(mse)[order]
    deepest = int(np.argmax(depth))
    # Rounding leaves a straight line a hair off its own chord.
    if depth[deepest] <= 1e-9 * float(np.ptp(mse)):
        return None
    return int(sizes[deepest])


def chord(k: np.ndarray, mse: np.ndarray) -> np.ndarray:
    """The straight line from the curve's first to its last point, at each k (ascending).

    Distances below it are proportional to those of the curve scaled to 0…1.
    """
    return mse[0] + (mse[-1] - mse[0]) * (k - k[0]) / (k[-1] - k[0])


def power_law(k: np.ndarray, mse: np.ndarray) -> tuple[float, float] | None:
    """Least-squares line through log mse against log k.

    Returns: (exponent, factor) of mse ≈ factor · k^exponent; None for fewer than 2 points or a
        score of zero.
    """
    if len(k) < 2 or np.min(mse) <= 0:
        return None
    exponent, intercept = np.polyfit(np.log(k), np.log(mse), 1)
    return float(exponent), float(np.exp(intercept))


def gains_per_doubling(k: Sequence[int], mse: Sequence[float]) -> list[float]:
    """Share of the MSE that a doubling of K takes away, between each K and the next.

    k: ascending. Steps that are not doublings are scaled to one, as on a log-log curve.
    """
    return [
        1 - (after / before) ** (1 / math.log2(larger / smaller))
        for smaller, larger, before, after in zip(k, k[1:], mse, mse[1:], strict=False)
    ]
