"""How near the patches are to the centroids: shares within a distance, and the worst of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from analysis.measures.patch_sample import PatchSample
from analysis.measures.pixel_scale import PixelScale
from pipeline import USUAL_MEMORY, MemoryOptions, NearestCentroids, RowBlocks, check_budget
from storage import InputError, PatchStore
from storage.images.source import PIXEL_DTYPES

LEVELS = 5  # errors that are told of, of all
ALL = 0.995  # of the patches: where all K have reached it, larger errors tell nothing new
STEPS = 256  # of epsilon; for bytes every level
BINS = 1 << 16  # of the histogram that quantiles are read from
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
PIECE_ROWS = 1 << 13  # whose differences are taken at once, in a core's cache
BLOCKS_AT_WORK = 4  # one read, one waiting, one worked on, one for the allocator


def coverage(
    dictionary: xarray.DataTree | xarray.Dataset | np.ndarray,
    patches: Any,
    *,
    rows: int | None = None,
    worst: int = 16,
    memory: int | str = USUAL_MEMORY,
) -> xarray.Dataset:
    """How far patches are from their nearest centroids, streamed.

    The distance is the root mean squared error (RMSE) per pixel, in pixel levels, exact in float64.

    Args:
        dictionary: a node of the tree that `open_dictionaries` returns, its Dataset, or centroids,
            (k, row, col[, channel]) or (k, d).
        patches: a PatchStore, a PatchSample, or an array of numpy, dask, zarr or xarray, (n, d) or
            (n, row, col[, channel]), in the data set's own dtype.
        rows: the first so many alone; None: all. Rows of a store follow a permutation of the
            images, so the first ones of many small images are a sample of them all.
        worst: how many of the patches that are farthest from any centroid to give.
        memory: cap on the resident memory of the process, as in "1GiB".

    Returns: a Dataset of
        within (epsilon): share of the rows with RMSE ≤ epsilon, counted one by one; epsilon goes
            in 255 equal steps from 0 to the pixel type's largest level (1 for floats);
        rmse_quantile (quantile): read from a histogram, so up to 1/65536 of the largest level
            above the quantile itself, never below it;
        rows, mse: number of rows, and their mean squared error in squared pixel levels;
        worst_patch, worst_centroid (worst, row, col[, channel]), or (worst, pixel) where nobody
            knows the patch's shape, worst_index (the centroid's), worst_rmse, worst_row, largest
            RMSE first: of each image of a store the worst alone, so that they differ; with a store
            also worst_image, the number of the source image. Fewer where there are fewer.
    Raises: InputError for shapes that do not fit, no rows, and types that are no pixels;
        IntegrityError for damaged chunks; MemoryBudgetError with both numbers.
    """
    if worst < 0:
        raise InputError(f"the worst {worst} patches cannot be given: ask for 0 or more")
    centroids = _centroids_of(dictionary)
    flat = centroids.reshape(len(centroids), -1)
    sample = patches if isinstance(patches, PatchSample) else None
    known = patches if isinstance(patches, PatchStore) else sample
    blocks = RowBlocks(patches if sample is None else sample.values, rows)
    dtype = np.dtype(patches.dtype)
    if dtype.name not in PIXEL_DTYPES:
        raise InputError(
            f"the patches hold {dtype.name} where {', '.join(PIXEL_DTYPES)} are expected"
        )
    if blocks.dim != flat.shape[1]:
        raise InputError(
            f"patches of {blocks.dim} values do not fit centroids of {flat.shape[1]}: give those"
            " that the dictionary was learned from"
        )
    cap = MemoryOptions.checked(memory=memory).memory
    check_budget(f"covering by K = {len(flat)}", _projected_bytes(len(flat), blocks), cap)
    nearest = NearestCentroids(flat, blocks.dtype, device="cpu")
    wide = flat.astype(np.float64)
    offsets, order = (None, None) if known is None else (known.offsets, known.order)
    tally, hall, start = _Tally(PixelScale.of(dtype).largest), _Worst(worst, offsets), 0
    for block in blocks:
        labels = nearest.label(block)
        squares = squared_distances(block, wide, labels)
        tally.add(squares, blocks.dim)
        hall.add(start, block, labels, np.sqrt(squares / blocks.dim))
        start += len(block)
    found = tally.to_dataset(blocks.dim)
    shape = centroids.shape[1:] if known is None else known.patch_shape
    found = found.assign(hall.variables(centroids, shape, blocks.dtype, order))
    if sample is not None:
        found["worst_row"] = ("worst", sample.numbers[found["worst_row"].values])
    return found


def _centroids_of(dictionary: xarray.DataTree | xarray.Dataset | np.ndarray) -> np.ndarray:
    if isinstance(dictionary, np.ndarray):
        return dictionary
    dataset = dictionary.to_dataset() if isinstance(dictionary, xarray.DataTree) else dictionary
    values: np.ndarray = dataset["centroids"].values
    return values


def _projected_bytes(k: int, blocks: RowBlocks) -> int:
    rows, dim = blocks.block_rows, blocks.dim
    reading = BLOCKS_AT_WORK * rows * dim * blocks.dtype.itemsize
    pieces = 3 * 8 * PIECE_ROWS * dim
    return (
        reading
        + pieces
        + 5 * 8 * rows
        + 8 * k * dim
        + NearestCentroids.projected_bytes(k, dim, rows, dtype=blocks.dtype, device="cpu")
    )


def squared_distances(rows: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distance of each row to its centroid, by differences; (n,) float64.

    rows: (n, d). centroids: (k, d) float64. labels: (n,). Memory: the result, and a piece of rows.
    """
    found = np.empty(len(rows))
    for first in range(0, len(rows), PIECE_ROWS):
        piece = slice(first, first + PIECE_ROWS)
        errors = centroids.take(labels[piece], axis=0)
        np.subtract(errors, rows[piece], out=errors)
        np.einsum("ij,ij->i", errors, errors, out=found[piece])
    return found


class _Tally:
    """Counts of RMSE, and their sum of squares."""

    def __init__(self, largest: float) -> None:
        self.epsilon = np.linspace(0, largest, STEPS)
        self._largest, self._rows, self._sse, self._most = largest, 0, 0.0, 0.0
        self._within = np.zeros(STEPS + 1, np.int64)  # last: farther than the largest level
        self._bins = np.zeros(BINS + 2, np.int64)

    def add(self, squares: np.ndarray, dim: int) -> None:
        """Count rows by their squared distances, (n,) float64."""
        rmse = np.sqrt(squares / dim)
        places = np.searchsorted(self.epsilon, rmse)  # of the first epsilon that is as large
        self._within += np.bincount(places, minlength=STEPS + 1)
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
                "within": (
                    "epsilon",
                    self._within.cumsum()[:STEPS] / self._rows,
                    {"long_name": "share of the patches with RMSE up to epsilon", "units": "1"},
                ),
                "rmse_quantile": (
                    "quantile",
                    quantiles,
                    {"long_name": "quantile of the RMSE per pixel", "units": "pixel levels"},
                ),
                "rows": self._rows,
                "mse": (
                    (),
                    self._sse / (self._rows * dim),
                    {"long_name": "mean squared error", "units": "squared pixel levels"},
                ),
            },
            coords={"epsilon": self.epsilon, "quantile": np.array(QUANTILES)},
        )


def levels_to_tell(within: np.ndarray) -> list[int]:
    """Places of LEVELS errors at most, whose shares at the middle K are spread evenly over 0 … 1.

    within: (K, epsilon) shares.
    """
    middle = within[len(within) // 2]
    wanted = (np.arange(LEVELS) + 0.5) / LEVELS
    return sorted({int(np.abs(middle - share).argmin()) for share in wanted})


def levels_that_tell(within: np.ndarray) -> int:
    """How many errors, from 0 on, tell the K apart; at least two. within: (K, epsilon) shares."""
    reached = np.flatnonzero(within.min(axis=0) >= ALL)
    return max(2, int(reached[0]) + 1) if len(reached) else within.shape[1]


@dataclass(frozen=True)
class _Miss:
    """A row that is far from its centroid; group: its image's place in the store, or itself."""

    rmse: float
    row: int
    group: int
    label: int
    patch: np.ndarray


class _Worst:
    """The rows farthest from their centroids, one of each group at most.

    offsets: (images + 1,) rows at which groups start; None: each row is a group.
    """

    def __init__(self, size: int, offsets: np.ndarray | None) -> None:
        self._size, self._offsets = size, offsets
        self._kept: list[_Miss] = []

    def add(self, start: int, rows: np.ndarray, labels: np.ndarray, rmse: np.ndarray) -> None:
        """Look through a block whose first row has the number `start`."""
        groups, firsts = self._groups(start, len(rows))
        most = np.maximum.reduceat(rmse, firsts)
        found = {miss.group: miss for miss in self._kept}
        for place in np.argsort(-most, kind="stable")[: self._size]:
            stop = firsts[place + 1] if place + 1 < len(firsts) else len(rows)
            row = int(firsts[place] + np.argmax(rmse[firsts[place] : stop]))
            group = int(groups[place])
            before = found.get(group)
            if before is None or before.rmse < rmse[row]:  # an image may begin in another block
                found[group] = _Miss(
                    float(rmse[row]), start + row, group, int(labels[row]), rows[row].copy()
                )
        ranked = sorted(found.values(), key=lambda miss: (-miss.rmse, miss.row))
        self._kept = ranked[: self._size]

    def _groups(self, start: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the groups with rows among these, and where each begins in the block."""
        if self._offsets is None:
            return np.arange(start, start + n), np.arange(n)
        places = np.arange(len(self._offsets) - 1)
        begins, ends = (
            np.maximum(self._offsets[:-1], start),
            np.minimum(self._offsets[1:], start + n),
        )
        here = begins < ends
        return places[here], begins[here] - start

    def variables(
        self,
        centroids: np.ndarray,
        shape: tuple[int, ...],
        dtype: np.dtype,
        order: np.ndarray | None,
    ) -> dict[str, Any]:
        """As variables of a Dataset; shape: of a patch. order: image of each group, if known."""
        kept = self._kept
        axes = (
            "worst",
            *(("row", "col", "channel")[: len(shape)] if len(shape) > 1 else ["pixel"]),
        )
        patches = np.array([miss.patch for miss in kept], dtype).reshape(len(kept), *shape)
        index = np.array([miss.label for miss in kept], np.int64)
        tiles = centroids.reshape(len(centroids), *shape)[index]
        level = {"units": "pixel levels"}
        found: dict[str, Any] = {
            "worst_patch": (axes, patches, level),
            "worst_centroid": (axes, tiles, level),
            "worst_index": ("worst", index),
            "worst_rmse": ("worst", np.array([miss.rmse for miss in kept]), level),
            "worst_row": ("worst", np.array([miss.row for miss in kept], np.int64)),
        }
        if order is not None:
            groups = np.array([miss.group for miss in kept], np.int64)
            found["worst_image"] = ("worst", order[groups])
        return found
