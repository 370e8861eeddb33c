"""The rows that are farthest from their centroids."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Miss:
    """A row that is far from its centroid; group: its image's place in the store, or itself."""

    rmse: float
    row: int
    group: int
    label: int
    patch: np.ndarray


class Farthest:
    """The rows farthest from their centroids, one of each group at most.

    offsets: (images + 1,) rows at which groups start; None: each row is a group.
    """

    def __init__(self, size: int, offsets: np.ndarray | None) -> None:
        self._size, self._offsets = size, offsets
        self._kept: list[Miss] = []

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
                found[group] = Miss(
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

    @property
    def groups(self) -> np.ndarray:
        """The group of each row that was kept, (m,) int64."""
        return np.array([miss.group for miss in self._kept], np.int64)

    def variables(
        self, centroids: np.ndarray, shape: tuple[int, ...], dtype: np.dtype
    ) -> dict[str, Any]:
        """The rows that were kept as variables of a Dataset; shape, dtype: of a patch."""
        kept = self._kept
        pixel = ("row", "col", "channel")[: len(shape)] if len(shape) > 1 else ("pixel",)
        patches = np.array([miss.patch for miss in kept], dtype).reshape(len(kept), *shape)
        index = np.array([miss.label for miss in kept], np.int64)
        tiles = centroids.reshape(len(centroids), *shape)[index]
        level = {"units": "pixel levels"}
        return {
            "worst_patch": (("worst", *pixel), patches, level),
            "worst_centroid": (("worst", *pixel), tiles, level),
            "worst_index": ("worst", index),
            "worst_rmse": ("worst", np.array([miss.rmse for miss in kept]), level),
            "worst_row": ("worst", np.array([miss.row for miss in kept], np.int64)),
        }
