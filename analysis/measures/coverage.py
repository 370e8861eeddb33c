"""How near the patches are to the centroids: shares within a distance, and the worst of them."""

from typing import Any

import numpy as np
import xarray

from analysis.measures.codebook import (
    AnyDictionary,
    node_of,
    preprocessing_of,
    rebuilt_patches,
)
from analysis.measures.farthest_rows import Farthest
from analysis.measures.patch_sample import PatchSample
from analysis.measures.pixel_scale import PixelUnit, shown_scale
from pipeline import (
    USUAL_MEMORY,
    MemoryOptions,
    NearestCentroids,
    Preprocessing,
    RowSource,
    as_source,
    check_budget,
    read_ahead,
)
from storage import InputError, PatchStore
from storage.images.pixel_range import PIXEL_DTYPES
from storage.plain_attributes import LEVEL, SQUARED, describe

TOLD_ERRORS = 5  # of all values of epsilon, that are told of
NEARLY_ALL = 0.995  # of the patches: where all K have reached it, larger errors tell nothing new
EPSILON_STEPS = 256  # for bytes every level
BINS = 1 << 16  # of the histogram that quantiles are read from
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
PIECE_ROWS = 1 << 13  # rows whose differences are taken at once, in a core's cache; fewer if long
PIECE_VALUES = 25 * PIECE_ROWS
_UNITS = {
    "within": ("1", "share of the patches with RMSE up to epsilon"),
    "epsilon": (LEVEL, "RMSE per pixel"),
    "rmse_quantile": (LEVEL, "quantile of the RMSE per pixel"),
    "quantile": ("1", "share of the patches"),
    "rows": ("rows", "patches that were measured"),
    "mse": (SQUARED, "mean squared error"),
    "worst": ("1", "place, the largest RMSE first"),
    "worst_patch": (LEVEL, "patch that is far from any centroid"),
    "worst_centroid": (LEVEL, "its nearest centroid"),
    "worst_index": ("1", "number of that centroid"),
    "worst_rmse": (LEVEL, "their RMSE per pixel"),
    "worst_row": ("1", "row of the patch"),
    "worst_image": ("1", "number of the image of the patch"),
    "pixel": ("1", "number of the pixel"),
}  # name: units, long_name
BLOCKS_AT_WORK = 4  # one read, one waiting, one worked on, one for the allocator


def coverage(
    dictionary: AnyDictionary | np.ndarray,
    patches: Any,
    *,
    rows: int | None = None,
    worst: int = 16,
    white: float | None = None,
    memory: int | str = USUAL_MEMORY,
) -> xarray.Dataset:
    """How far patches are from their nearest centroids (RMSE per pixel, in float64), streamed.

    Args:
        dictionary: as for `reconstruct`; or centroids, (k, row, col[, channel]) or (k, d).
            Preprocessed patches keep brightness and contrast.
        patches: a PatchStore, a PatchSample, or an array of numpy, dask, zarr or xarray, (n, d) or
            (n, row, col[, channel]), in the data set's own dtype.
        rows: only the first so many, of many small images in a store a sample; None: all.
        worst: how many of the patches that are farthest from any centroid.
        white: the patches' level of white, where they are in another unit than the dictionary's
            images: they are brought to the range and type of these.
        memory: cap on the resident memory of the process, as in "1GiB".

    Returns:
        A Dataset of
        within (epsilon): share of the rows with RMSE ≤ epsilon, counted one by one; epsilon goes
        in 255 equal steps from 0 to the range that pictures show, from black to white;
        rmse_quantile (quantile): of a histogram, up to 1/65536 of all levels too high, never low;
        rows, mse: number of rows, and their mean squared error in squared pixel levels;
        worst_patch, worst_centroid (worst, row, col[, channel]), or (worst, pixel) where the
        patch's shape is not known, worst_index (the centroid's), worst_rmse, worst_row, largest
        RMSE first: of each image of a store only the worst, so that they differ; where it holds
        fewer images than are asked for, of each tile of these. With a store also worst_image, the
        number of the source image. Fewer where there are fewer.

    Raises:
        InputError: shapes that do not fit, no rows, and pixels of another type or range.
        IntegrityError: damaged chunks.
        MemoryBudgetError: it does not fit under the cap; both numbers are in the message.
    """
    if worst < 0:
        raise InputError(f"the worst {worst} patches cannot be given: ask for 0 or more")
    node, centroids, preprocessing = _opened(dictionary)
    pixels = PixelUnit.of(patches.dtype, node, white)
    known = patches if isinstance(patches, PatchStore | PatchSample) else None
    source = _row_source(patches, rows, centroids, memory, preprocessed=preprocessing is not None)
    shown = shown_scale(node) or pixels.levels
    tally, farthest = _Tally(pixels.levels.span, shown.span), _farthest(worst, known)
    flat = centroids.reshape(len(centroids), -1)
    _measure(source, pixels, flat, preprocessing, tally, farthest)
    if known is None:
        pixels.check_reach()
    shape = centroids.shape[1:] if known is None else known.patch_shape
    tiles = rebuilt_patches(farthest.patches(pixels.dtype), flat, farthest.labels, preprocessing)
    found = tally.to_dataset(source.dim).assign(farthest.variables(tiles, shape, pixels.dtype))
    if known is not None:
        found["worst_image"] = ("worst", known.order[farthest.places])
    if isinstance(known, PatchSample):
        found["worst_row"] = ("worst", known.numbers[found["worst_row"].values])
    describe(found, _UNITS)
    return found


def _opened(
    dictionary: AnyDictionary | np.ndarray,
) -> tuple[xarray.DataTree | xarray.Dataset | None, np.ndarray, Preprocessing | None]:
    """The node if it is one, its centroids, and how patches are preprocessed that meet them."""
    if isinstance(dictionary, np.ndarray):
        return None, dictionary, None
    node = node_of(dictionary)
    return node, np.asarray(node["centroids"]), preprocessing_of(node)


def _farthest(worst: int, known: PatchStore | PatchSample | None) -> Farthest:
    """What looks for the worst rows: of each image one, or where these are few of each tile."""
    if known is None:
        return Farthest(worst, None)
    images = known.order
    by_image = len(np.unique(images)) >= worst
    return Farthest(worst, known.offsets, images if by_image else None)


def _row_source(
    patches: Any, rows: int | None, centroids: np.ndarray, memory: int | str, *, preprocessed: bool
) -> RowSource:
    """The patches, checked to fit the centroids and, with all it takes, under a cap."""
    dtype, dim = np.dtype(patches.dtype), centroids[0].size
    if dtype.name not in PIXEL_DTYPES:
        raise InputError(
            f"the patches hold {dtype.name} where {', '.join(PIXEL_DTYPES)} are expected"
        )
    source = as_source(patches.values if isinstance(patches, PatchSample) else patches, rows)
    if source.dim != dim:
        raise InputError(
            f"patches of {source.dim} values do not fit centroids of {dim}: give those"
            " that the dictionary was learned from"
        )
    k, size = len(centroids), min(source.block_rows, source.n_rows)
    reading = BLOCKS_AT_WORK * size * dim * source.dtype.itemsize
    differences = 3 * 8 * _piece_rows(dim) * dim
    met = Preprocessing.dtype if preprocessed else source.dtype
    engine = NearestCentroids.projected_bytes(k, dim, size, dtype=met, device="cpu")
    needed = reading + differences + 5 * 8 * size + 8 * k * dim + engine
    if preprocessed:  # rows, once more as amplitudes are found, and these
        needed += size * (2 * dim * met.itemsize + 2 * 3 * 8) + 8 * k * dim
    check_budget(f"covering by K = {k}", needed, MemoryOptions.checked(memory=memory).memory)
    return source


def _measure(
    source: RowSource,
    pixels: PixelUnit,
    centroids: np.ndarray,
    preprocessing: Preprocessing | None,
    tally: "_Tally",
    farthest: "Farthest",
) -> None:
    """One pass over the rows; centroids: (k, d)."""
    met = pixels.dtype if preprocessing is None else preprocessing.dtype
    nearest, start = NearestCentroids(centroids, met, device="cpu"), 0
    wide = centroids.astype(np.float64)
    for read in read_ahead(source):
        block = pixels.brought(read)
        if preprocessing is None:
            labels = nearest.label(block)
            squares = squared_distances(block, wide, labels)
        else:
            labels = nearest.label(preprocessing.rows(block))
            squares = preprocessing.squared_errors(block, centroids, labels)
        tally.add(squares, source.dim)
        farthest.add(start, block, labels, np.sqrt(squares / source.dim))
        start += len(block)


def squared_distances(rows: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distance of each row to its centroid, by differences.

    Args:
        rows: (n, d).
        centroids: (k, d) float64.
        labels: (n,), the centroid of each row.

    Returns:
        (n,) float64. Memory: these, and the differences of PIECE_ROWS rows or fewer.
    """
    found = np.empty(len(rows))
    step = _piece_rows(rows.shape[1])
    for first in range(0, len(rows), step):
        piece = slice(first, first + step)
        errors = centroids.take(labels[piece], axis=0)
        np.subtract(errors, rows[piece], out=errors)
        np.einsum("ij,ij->i", errors, errors, out=found[piece])
    return found


def _piece_rows(dim: int) -> int:
    return max(1, min(PIECE_ROWS, PIECE_VALUES // dim))


class _Tally:
    """Counts of RMSE, and their sum of squares."""

    def __init__(self, largest: float, shown: float) -> None:
        """largest: from black to white, in levels. shown: the same of pictures."""
        self.epsilon = np.linspace(0, shown, EPSILON_STEPS)
        self._largest, self._rows, self._sse, self._most = largest, 0, 0.0, 0.0
        self._within = np.zeros(EPSILON_STEPS + 1, np.int64)  # last: farther than the largest level
        self._bins = np.zeros(BINS + 2, np.int64)

    def add(self, squares: np.ndarray, dim: int) -> None:
        """Count rows by their squared distances, (n,) float64."""
        rmse = np.sqrt(squares / dim)
        places = np.searchsorted(self.epsilon, rmse)  # of the first epsilon that is as large
        self._within += np.bincount(places, minlength=EPSILON_STEPS + 1)
        upper = np.ceil(np.minimum(rmse * (BINS / self._largest), BINS + 1)).astype(np.int64)
        self._bins += np.bincount(upper, minlength=BINS + 2)
        self._rows, self._sse = self._rows + len(rmse), self._sse + float(squares.sum())
        self._most = max(self._most, float(rmse.max()))

    def to_dataset(self, dim: int) -> xarray.Dataset:
        """What was counted."""
        ranks = np.ceil(np.array(QUANTILES) * self._rows)
        edges = np.searchsorted(self._bins.cumsum(), ranks) * (self._largest / BINS)
        quantiles = np.minimum(edges, self._most)
        if self._most > self._largest:  # the last bin has no end of its own
            quantiles[edges > self._largest] = self._most
        return xarray.Dataset(
            {
                "within": ("epsilon", self._within.cumsum()[:EPSILON_STEPS] / self._rows),
                "rmse_quantile": ("quantile", quantiles),
                "rows": self._rows,
                "mse": self._sse / (self._rows * dim),
            },
            coords={"epsilon": self.epsilon, "quantile": np.array(QUANTILES)},
        )


def levels_to_tell(within: np.ndarray) -> list[int]:
    """Places of at most TOLD_ERRORS errors whose shares at the middle K spread evenly over 0 … 1.

    Errors that no patch is within are not told of, where there are others.
    within: (K, epsilon) shares.
    """
    middle = within[len(within) // 2]
    wanted = (np.arange(TOLD_ERRORS) + 0.5) / TOLD_ERRORS
    found = sorted({int(np.abs(middle - share).argmin()) for share in wanted})
    return [place for place in found if within[:, place].any()] or found


def levels_that_tell(within: np.ndarray) -> int:
    """How many errors, from 0 on, tell the K apart; at least two. within: (K, epsilon) shares."""
    reached = np.flatnonzero(within.min(axis=0) >= NEARLY_ALL)
    return max(2, int(reached[0]) + 1) if len(reached) else within.shape[1]
