"""What the centroids are: flat, edge, corner, stroke, curve, line end, dot, or other.

Of colour patches two more: an edge between colours that are equally bright, and a slow change of
colour in a patch that is flat otherwise.

The rule (`RULE` says it for readers) looks at a centroid's brightness; for a colour patch, at its
levels along the direction of colour in which its pixels differ most. It uses three numbers:
    swings:      how many times brightness falls and rises again by SWING of the patch's range on a
                 walk around the border. It is the number of bright arms that reach the border, and
                 of dark ones; light on dark and dark on light count alike.
    direction:   |Σ g| / Σ |g| of the gradients g between neighbouring pixels: 1 where all point the
                 same way, as across one straight boundary; 0.71 for a right angle; less where
                 boundaries face each other.
    orientation: the same with doubled angles, so that opposite gradients agree: 1 for a straight
                 line with both sides in view, 0.64 for one that turns by 90°.
Source of the doubled angles: Bigün and Granlund, "Optimal orientation detection of linear
symmetry", ICCV 1987.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import xarray

from analysis.measures.codebook import AnyDictionary, node_of, pixel_centroids
from analysis.measures.pixel_scale import shown_scale
from storage import InputError
from storage.plain_attributes import describe

FLAT = 0.06  # standard deviation, of the largest level
SWING = 0.25  # of the patch's own range
ONE_WAY = 0.65  # direction
STRAIGHT = 0.75  # orientation
TINTED = 0.015  # standard deviation of what is left of colours without their brightness
MEANINGS = {
    "flat": "nearly even areas",
    "edge": "edges: dark meets light along one straight line",
    "corner": "corners: dark meets light along one line that bends",
    "stroke": "strokes: straight bright or dark lines through the patch, with both sides in view",
    "curve": "curves: lines through the patch that bend",
    "line end": "line ends: a bright or dark line comes in from one side and stops",
    "dot": "dots: a bright or dark spot that does not reach the border",
    "other": "others: three or more lines meet, or cross the patch side by side",
    "colour edge": "edges of colour: two colours meet that are about equally bright",
    "colour gradient": "gradients of colour: it changes slowly one way over an even area",
}
OF_COLOUR = ("colour edge", "colour gradient")  # of patches with channels alone
KINDS: tuple[str, ...] = tuple(MEANINGS)
RULE = (
    f"A centroid is flat when the standard deviation of its pixels is below {FLAT:.0%} of the"
    " largest level. Of any other, a walk around the border counts how often brightness falls and"
    f" rises again by {SWING:.0%} of the patch's own range: never for a dot, once for an edge, a"
    " corner or a line end, twice for a stroke or a curve, more often for what is called other."
    f" It is a line end, no edge or corner, when less than {ONE_WAY:.0%} of the change between"
    " neighbouring pixels points one way; and straight (edge, stroke), not bent (corner, curve),"
    f" when at least {STRAIGHT:.0%} of the change lies along one axis."
).replace("%", " %")
COLOUR_RULE = (
    " In colour, brightness stands for the levels along the direction of colour in which the pixels"
    " of the centroid differ most. An edge or a corner is a colour edge when the mean of its"
    f" channels alone would be flat; a flat centroid is a colour gradient when its colours without"
    f" their brightness have a standard deviation of at least {TINTED:.1%} of the largest level,"
    f" and {ONE_WAY:.0%} of their change points one way."
).replace("%", " %")


def rule_of(shape: Sequence[int]) -> str:
    """The rule for readers; shape: of a patch, (rows, cols[, channels])."""
    return RULE + COLOUR_RULE if math.prod(shape[2:]) > 1 else RULE


_UNITS = {
    "of_centroids": ("1", "share of the centroids"),
    "of_patches": ("1", "share of the patches"),
    "k": ("centroids", "size of the dictionary"),
    "kind": ("1", "kind of centroid"),
}  # name: units, long_name


def plural(kind: str) -> str:
    """Name of many of a kind, as in edges."""
    return kind if kind in ("flat", "other") else f"{kind}s"


def centroid_kinds(
    dictionaries: AnyDictionary, *, largest: float | None = None
) -> xarray.DataArray | xarray.Dataset:
    """What the centroids of one dictionary are, or the shares of each kind in all of a tree.

    Args:
        dictionaries: a node of the tree that `open_dictionaries` returns, its Dataset, or a fitted
            StreamingKMeans; or the whole tree.
        largest: the level of white; needed only where the dictionary does not carry it, as a
            Dataset taken out of its tree.

    Returns:
        For one dictionary a DataArray over `atom`, names of KINDS; for a tree a Dataset over `k`
        and `kind` with of_centroids and of_patches, shares from 0 to 1.

    Raises:
        InputError: an empty tree, or the level of white is not known.
    """
    dictionaries = node_of(dictionaries, whole=True)
    if largest is None:
        scale = shown_scale(dictionaries)
        if scale is None:
            raise InputError(
                "the dictionary does not say which level is white: pass a node of the tree that"
                " open_dictionaries returns, or largest=255"
            )
        largest = scale.span
    if "centroids" in dictionaries:
        centroids = pixel_centroids(dictionaries)
        names = np.array(KINDS)[kinds_of(centroids, largest)]
        found = xarray.DataArray(
            names, dims="atom", name="kind", attrs={"rule": rule_of(centroids.shape[1:])}
        )
        describe(found, _UNITS)
        return found.assign_attrs(units="1", long_name="kind of centroid")
    if isinstance(dictionaries, xarray.Dataset) or not dictionaries.children:
        raise InputError("there are no dictionaries in it: run sweep first")
    nodes = [node.to_dataset() for node in dictionaries.children.values()]
    nodes.sort(key=lambda node: node.sizes["atom"])
    return shares_of_kinds(
        {node.sizes["atom"]: kinds_of(pixel_centroids(node), largest) for node in nodes},
        {node.sizes["atom"]: node["count"].values for node in nodes},
    )


def kinds_of(centroids: np.ndarray, largest: float) -> np.ndarray:
    """Kind of each centroid.

    Args:
        centroids: (k, rows, cols[, channels]), pixel levels.
        largest: from black to white, in levels.

    Returns:
        (k,) int64 indices into KINDS. Memory: a few times the centroids in float64.
    """
    levels = centroids.astype(np.float64)
    grey = _brightness(levels)
    swings = _swings(_border(grey), SWING * np.ptp(grey, axis=(1, 2)))
    direction, orientation = _agreement(grey)
    even = grey.std(axis=(1, 2)) < FLAT * largest
    rules = {
        "flat": even,
        "dot": swings == 0,
        "line end": (swings == 1) & (direction < ONE_WAY),
        "edge": (swings == 1) & (orientation >= STRAIGHT),
        "corner": swings == 1,
        "stroke": (swings == 2) & (orientation >= STRAIGHT),
        "curve": swings == 2,
    }  # the first that holds
    if levels.ndim == 4:
        rules = _of_colour(levels, rules, largest) | rules
    indices = [KINDS.index(kind) for kind in rules]
    return np.select(list(rules.values()), indices, KINDS.index("other")).astype(np.int64)


def _of_colour(
    levels: np.ndarray, rules: Mapping[str, np.ndarray], largest: float
) -> dict[str, np.ndarray]:
    """Which are of OF_COLOUR; levels: (k, rows, cols, channels), rules: kind -> (k,) bool."""
    brightness = levels.mean(axis=3, keepdims=True)
    tints = levels - brightness
    spread = np.sqrt(tints.var(axis=(1, 2)).mean(axis=1))
    as_bright = brightness.std(axis=(1, 2, 3)) < FLAT * largest
    edges = (rules["edge"] | rules["corner"]) & ~(rules["flat"] | rules["dot"] | rules["line end"])
    one_way = _agreement(_brightness(tints))[0] >= ONE_WAY
    return {
        "colour edge": edges & as_bright,
        "colour gradient": rules["flat"] & (spread >= TINTED * largest) & one_way,
    }


def shares_of_kinds(
    kinds: Mapping[int, np.ndarray], counts: Mapping[int, np.ndarray]
) -> xarray.Dataset:
    """Shares of each kind, as `centroid_kinds` gives them for a tree.

    kinds: K -> (k,) indices into KINDS, as `kinds_of` returns them. counts: K -> (k,) rows of each
    centroid.
    """
    of_centroids = [np.bincount(one, minlength=len(KINDS)) / k for k, one in kinds.items()]
    of_patches = [
        np.bincount(one, weights=counts[k], minlength=len(KINDS)) / counts[k].sum()
        for k, one in kinds.items()
    ]
    axes = ("k", "kind")
    found = xarray.Dataset(
        {"of_centroids": (axes, of_centroids), "of_patches": (axes, of_patches)},
        {"k": list(kinds), "kind": list(KINDS)},
        {"rule": RULE + COLOUR_RULE},
    )
    describe(found, _UNITS)
    return found


def _brightness(levels: np.ndarray) -> np.ndarray:
    """One level for each pixel; (k, rows, cols[, channels]) -> (k, rows, cols)."""
    if levels.ndim == 3:
        return levels
    # For grey colours the grey level. Its sign is arbitrary for others: no rule depends on it.
    colours = levels.reshape(len(levels), -1, levels.shape[3])
    colours = colours - colours.mean(axis=1, keepdims=True)
    directions = np.linalg.eigh(colours.transpose(0, 2, 1) @ colours)[1][:, :, -1]
    along = np.einsum("kpc,kc->kp", colours, directions) / np.sqrt(levels.shape[3])
    return along.reshape(levels.shape[:3])


def _border(grey: np.ndarray) -> np.ndarray:
    """The pixels on the border of each patch, once around; (k, rows, cols) -> (k, border)."""
    if 1 in grey.shape[1:]:
        line = grey.reshape(len(grey), -1)  # there and back
        return np.concatenate([line, line[:, -2:0:-1]], axis=1)
    top, right = grey[:, 0], grey[:, 1:, -1]
    bottom, left = grey[:, -1, -2::-1], grey[:, -2:0:-1, 0]
    return np.concatenate([top, right, bottom, left], axis=1)


def _swings(border: np.ndarray, height: np.ndarray) -> np.ndarray:
    """How often each closed walk falls by `height` and rises again; (k, border), (k,) -> (k,)."""
    k, length = border.shape  # walked from the brightest pixel on
    steps = (border.argmax(axis=1)[:, np.newaxis] + np.arange(length + 1)) % length
    walk = np.take_along_axis(border, steps, axis=1)
    extreme, falling = walk[:, 0].copy(), np.ones(k, bool)
    swings = np.zeros(k, np.int64)
    for level in walk.T[1:]:
        extreme = np.where(falling, np.minimum(extreme, level), np.maximum(extreme, level))
        turned = np.abs(level - extreme) >= height
        swings += turned & falling
        extreme[turned] = level[turned]
        falling ^= turned
    return swings


def _agreement(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the gradients agree, by direction and by orientation; (k, rows, cols) -> 2 × (k,)."""
    gradients = _gradients(grey)
    lengths = np.abs(gradients)
    total = np.maximum(lengths.sum(axis=1), np.finfo(float).tiny)
    doubled = gradients**2 / np.maximum(lengths, np.finfo(float).tiny)
    return np.abs(gradients.sum(axis=1)) / total, np.abs(doubled.sum(axis=1)) / total


def _gradients(grey: np.ndarray) -> np.ndarray:
    """Differences across + i down, each in the middle of 2×2 pixels; (k, rows, cols) -> (k, n)."""
    _, rows, cols = grey.shape
    if rows == 1 or cols == 1:  # they point one way only
        return np.diff(grey.reshape(len(grey), -1), axis=1).astype(np.complex128)
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    across = (across[:, 1:] + across[:, :-1]) / 2
    down = (down[:, :, 1:] + down[:, :, :-1]) / 2
    return (across + 1j * down).reshape(len(grey), -1)
