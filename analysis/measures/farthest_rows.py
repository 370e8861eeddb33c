"""The rows that are farthest from their centroids."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Miss:
    """A row that is far from its centroid; place, group: of its run of rows, see `Farthest`."""

    rmse: float
    row: int
    place: int
    group: int
    label: int
    patch: np.ndarray


class Farthest:
    """The rows farthest from their centroids, one of each group at most.

    offsets: (places + 1,) rows at which runs of rows start; None: each row is a group.
    groups: (places,) the group of each run.
    """

    def __init__(
        self, size: int, offsets: np.ndarray | None, groups: np.ndarray | None = None
    ) -> None:
        self._size, self._offsets, self._groups = size, offsets, groups
        self._kept: list[Miss] = []

    def add(self, start: int, rows: np.ndarray, labels: np.ndarray, rmse: np.ndarray) -> None:
        """Look through a block whose first row has the number `start`."""
        places, firsts = self._places(start, len(rows))
        groups = places if self._groups is None else self._groups[places]
        most = np.maximum.reduceat(rmse, firsts)
        found = {miss.group: miss for miss in self._kept}
        ranked = np.argsort(-most, kind="stable")
        best = np.sort(np.unique(groups[ranked], return_index=True)[1])  # of each group
        for at in ranked[best][: self._size]:
            stop = firsts[at + 1] if at + 1 < len(firsts) else len(rows)
            row = int(firsts[at] + np.argmax(rmse[firsts[at] : stop]))
            group = int(groups[at])
            before = found.get(group)
            if before is None or before.rmse < rmse[row]:  # a group may begin in another block
                where = start + row, int(places[at]), group, int(labels[row])
                found[group] = Miss(float(rmse[row]), *where, rows[row].copy())
        misses = sorted(found.values(), key=lambda miss: (-miss.rmse, miss.row))
        self._kept = misses[: self._size]

    def _places(self, start: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the runs with rows among these, and where each begins in the block."""
        if self._offsets is None:
            return np.arange(start, start + n), np.arange(n)
        places = np.arange(len(self._offsets) - 1)
        begins, ends = (
            np.maximum(self._offsets[:-1], start),
            np.minimum(self._offsets[1:], start + n),
        )
        here = begins < ends
        return places[here], begins[here] - start

    @property
    def places(self) -> np.ndarray:
        """The run of each row that was kept, (m,) int64."""
        return np.array([miss.place for miss in self._kept], np.int64)

    @property
    def labels(self) -> np.ndarray:
        """The centroid of each row that was kept, (m,) int64."""
        return np.array([miss.label for miss in self._kept], np.int64)

    def patches(self, dtype: np.dtype) -> np.ndarray:
        """The rows that were kept, (m, d)."""
        kept = [miss.patch for miss in self._kept]
        return np.array(kept, dtype).reshape(len(kept), -1 if kept else 0)

    def variables(
        self, tiles: np.ndarray, shape: tuple[int, ...], dtype: np.dtype
    ) -> dict[str, Any]:
        """The rows that were kept as variables of a Dataset.

        tiles: (m, d), what their centroids make of them. shape, dtype: of a patch.
        """
        kept = self._kept
        pixel = ("row", "col", "channel")[: len(shape)] if len(shape) > 1 else ("pixel",)
        patches, tiles = (rows.reshape(len(kept), *shape) for rows in (self.patches(dtype), tiles))
        return {
            "worst_patch": (("worst", *pixel), patches),
            "worst_centroid": (("worst", *pixel), tiles),
            "worst_index": ("worst", self.labels),
            "worst_rmse": ("worst", np.array([miss.rmse for miss in kept])),
            "worst_row": ("worst", np.array([miss.row for miss in kept], np.int64)),
        }
