"""Samples: items in even steps, and random rows of a patch store from all over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from storage import PatchStore

SAMPLED_CHUNKS = 64  # chunks of a store that a sample of its rows is read from, at most

Item = TypeVar("Item")


@dataclass(frozen=True)
class PatchSample:
    """Some rows of a patch store, in the store's order.

    values: (m, d) of the store's dtype. numbers: (m,) int64, ascending, of the rows in the store.
    offsets: (tiles + 1,) int64, place in the sample at which the patches of each tile start.
    order: (tiles,) int64, the source image of the tile at each place of the store's order.
    patch_shape: (rows, cols[, channels]).
    """

    values: np.ndarray
    numbers: np.ndarray
    offsets: np.ndarray
    order: np.ndarray
    patch_shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """The values' dtype, the store's own."""
        return self.values.dtype


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items, in even steps, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]


def sample_patches(store: PatchStore, most: int, seed: int = 0) -> PatchSample:
    """Random rows from SAMPLED_CHUNKS chunks in even steps through the store.

    Not its first rows: of large images these are the patches of a few, or of one.

    Args:
        store: the patches.
        most: rows to draw, at most.
        seed: of the draw; the same seed gives the same rows.

    Returns:
        The rows, in the store's order. Memory: these, and one chunk.

    Raises:
        IntegrityError: damaged chunks.
    """
    chunks = np.array(evenly(range(store.n_chunks), SAMPLED_CHUNKS))
    sizes = np.minimum(store.chunk_rows, store.n_rows - chunks * store.chunk_rows)
    ends = np.cumsum(sizes)
    n = min(most, int(ends[-1]))
    places = np.sort(np.random.default_rng(seed).choice(ends[-1], n, replace=False, shuffle=False))
    values = np.empty((n, store.dim), store.dtype)
    numbers = np.empty(n, np.int64)
    for chunk, size, end in zip(chunks, sizes, ends, strict=True):
        here = slice(*np.searchsorted(places, (end - size, end)))
        if here.start < here.stop:
            rows = places[here] - (end - size)
            values[here] = store.read_chunk(int(chunk))[rows]
            numbers[here] = chunk * store.chunk_rows + rows
    offsets = np.searchsorted(numbers, store.offsets)
    return PatchSample(values, numbers, offsets, store.order, store.patch_shape)
