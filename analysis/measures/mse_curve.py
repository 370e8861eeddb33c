"""MSE against the size of the dictionary: scores of all K, power law, gains, rate and distortion.

Rate and distortion, as in coding: naming one of K centroids takes log2 K bits per patch (`rate`),
or the entropy of their use where frequent ones get short names. For points of d dimensions the best
quantiser's MSE falls as 2^(−2R/d), which is 6.02/d decibels per bit (Zador, "Asymptotic
quantization error of continuous signals and the quantization dimension", IEEE Transactions on
Information Theory, 1982; Gersho, "Asymptotically optimal block quantization", 1979).
"""

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import xarray

from analysis.measures.codebook import scores_in_pixels
from analysis.measures.pixel_scale import stored_scale
from analysis.measures.usage import USAGE_UNITS, usage_of_counts
from storage import InputError
from storage.plain_attributes import describe, parsed

BIT = 20 * math.log10(2)  # 6.02 decibels: what one bit more per dimension takes away
_SCORES = ("mse", "heldout_mse", "variance", "passes", "rows_seen", "seconds", "converged")
_UNITS = USAGE_UNITS | {
    "k": ("centroids", "size of the dictionary"),
    "mse": ("", "mean squared error of the training rows, per pixel"),
    "heldout_mse": ("", "mean squared error of the held-out rows, per pixel"),
    "rmse": ("", "root of the mean squared error"),
    "psnr": ("dB", "peak signal-to-noise ratio, 10 log10(span² / MSE), from black to white"),
    "explained": ("1", "share of the rows' variance that the centroids explain"),
    "rate": ("bits per patch", "log2 K: what naming a centroid takes"),
    "entropy": ("bits per patch", "entropy of use: what naming takes with short names for many"),
    "passes": ("1", "passes of the fit"),
    "rows_seen": ("rows", "rows of all passes"),
    "seconds": ("s", "time of the fit and its scores"),
    "converged": ("1", "whether the fit ended by itself"),
}  # name: units, long_name


def mse_curve(tree: xarray.DataTree) -> xarray.Dataset:
    """Scores of all dictionaries of a tree, by K ascending.

    Args:
        tree: as `open_dictionaries` returns it.

    Returns:
        A Dataset over `k` (int64) with mse and heldout_mse (squared pixel levels; NaN where
        nothing was held out), rmse (pixel levels), psnr (dB; inf for MSE 0), explained (share of
        the variance; NaN where there is none), rate (log2 K, bits per patch), the numbers of
        `usage_of_counts`, passes, rows_seen, seconds, converged. Units and names are in the
        attributes, and the `variance` of the rows. Scores of preprocessed patches are in pixels:
        each keeps its own brightness and contrast.

    Raises:
        InputError: a tree without dictionaries, or that does not say what its pixels are.
    """
    nodes = sorted(tree.children.values(), key=lambda node: cast(int, node.attrs["k"]))
    scale = stored_scale(tree)
    if not nodes or scale is None:
        raise InputError(
            "the tree holds no dictionaries: run sweep first"
            if not nodes
            else "the tree does not say what its pixels are: pass the one that open_dictionaries"
            " returns"
        )
    rows = []
    for node in nodes:
        scores = {name: node.attrs.get(name) for name in _SCORES}
        scores |= scores_in_pixels(parsed(node.attrs))
        if scores["heldout_mse"] is None:
            scores["heldout_mse"] = math.nan
        scores["converged"] = bool(scores["converged"])
        rows.append(scores | usage_of_counts(np.asarray(node["count"].values)))
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    k, mse, variance = columns.pop("k"), columns["mse"], columns.pop("variance")
    with np.errstate(divide="ignore", invalid="ignore"):
        columns |= {
            "rmse": np.sqrt(mse),
            "psnr": 10 * np.log10(scale.span**2 / mse),
            "explained": 1 - mse / variance,
            "rate": np.log2(k),
        }
    curve = xarray.Dataset({name: ("k", values) for name, values in columns.items()}, {"k": k})
    curve.attrs["variance"] = float(variance[0])
    describe(curve, _UNITS)
    for name, unit in (("mse", scale.unit), ("heldout_mse", scale.unit), ("rmse", scale.level)):
        curve[name].attrs["units"] = unit
    return curve


def decibels_per_bit(
    rate: Sequence[float] | np.ndarray | xarray.DataArray,
    mse: Sequence[float] | np.ndarray | xarray.DataArray,
) -> np.ndarray:
    """How steeply the MSE falls with the rate, between each dictionary and the next.

    Args:
        rate: (n,) bits per patch: `rate` or `entropy` of the curve.
        mse: (n,), any unit.

    Returns:
        (n - 1,) dB per bit, positive where the MSE falls; NaN where the rate does not rise or an
        MSE is zero. At high rates 6.02/d for d dimensions: see `dimensions_of_slope`.

    Raises:
        InputError: the two differ in length.

    >>> decibels_per_bit([1.0, 2.0, 4.0], [100.0, 10.0, 1.0])
    array([10.,  5.])
    """
    bits, errors = np.asarray(rate, np.float64), np.asarray(mse, np.float64)
    if bits.shape != errors.shape:
        raise InputError(
            f"{bits.size} rates and {errors.size} scores do not match: give one score each"
        )
    steps = np.where(np.diff(bits) > 0, np.diff(bits), np.nan)
    decibels = 10 * np.log10(np.where(errors > 0, errors, np.nan))
    slopes: np.ndarray = -np.diff(decibels) / steps
    return slopes


def dimensions_of_slope(slope: float) -> float:
    """The number of dimensions d whose high-rate slope is 6.02/d.

    Args:
        slope: dB per bit.

    Returns:
        d; inf for a slope that is not positive.

    >>> round(dimensions_of_slope(0.5), 1)
    12.0
    """
    return BIT / slope if slope > 0 else math.inf


def chord(k: np.ndarray, mse: np.ndarray) -> np.ndarray:
    """The straight line from the curve's first to its last point, at each k (ascending).

    Distances below it are proportional to those of the curve scaled to 0…1.
    """
    return mse[0] + (mse[-1] - mse[0]) * (k - k[0]) / (k[-1] - k[0])


def power_law(k: np.ndarray, mse: np.ndarray) -> tuple[float, float] | None:
    """Exponent and factor of mse ≈ factor · k^exponent: least squares on logarithmic axes.

    None for fewer than two points or a score of zero.
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
