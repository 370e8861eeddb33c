"""The pools that patches of an image fall into: a grid of them, which may also be moved."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from storage import InputError


@dataclass(frozen=True)
class Pools:
    """Parts of an image, side × side, by the positions of its patches.

    Attributes:
        side: pools down and across.
        positions: of patches, down and across; at least `side`.
        far: positions by which the grid is moved in other copies of the image; 0: there are none.
    """

    side: int
    positions: tuple[int, int]
    far: int = 0

    @classmethod
    def of(cls, side: int, positions: tuple[int, int], stride: int, shift: int) -> "Pools":
        """Pools of patches `stride` pixels apart, also moved by `shift` pixels.

        Raises: InputError: a shift that changes nothing, is no number of positions, or is more
            than half of a pool.
        """
        if shift and side == 1:
            raise InputError(
                "a shift changes nothing where the whole image is one pool: pool over quadrants,"
                " or leave it out"
            )
        wide = min(positions) // side
        if shift % stride or not 0 <= shift <= wide // 2 * stride:
            raise InputError(
                f"no shift of {shift} pixels, as patches are {stride} apart, and pools"
                f" {wide * stride} wide: use multiples of {stride} up to {wide // 2 * stride}"
            )
        return cls(side, positions, shift // stride)

    @property
    def ways(self) -> tuple[tuple[int, int], ...]:
        """By how many positions the grid is moved down and across, in each copy of the image.

        In the first it is where it belongs; in four more, if any, up, down, left and right of
        there. Positions beyond the border of a moved grid belong to its outer pools.
        """
        far = self.far
        return ((0, 0), (-far, 0), (far, 0), (0, -far), (0, far)) if far else ((0, 0),)

    @cached_property
    def _cut(self) -> list[tuple[np.ndarray, dict[int, np.ndarray]]]:
        """Down and across, the cell of each position, and the first cell of each pool.

        (positions,) intp, and, by how far the grid is moved, (side,) intp.
        """
        found = []
        for length in self.positions:
            pools = {
                far: np.clip((np.arange(length) - far) * self.side // length, 0, self.side - 1)
                for far in (0, -self.far, self.far)
            }
            cuts = np.any([np.diff(own) for own in pools.values()], axis=0)
            cells = np.concatenate([[0], np.cumsum(cuts)]).astype(np.intp)
            pool = np.arange(self.side)
            firsts = {far: cells[np.searchsorted(own, pool)] for far, own in pools.items()}
            found.append((cells, firsts))
        return found

    @property
    def cells(self) -> tuple[int, int]:
        """Cells down and across, which are what all grids together cut an image into."""
        (rows, _), (cols, _) = self._cut
        return int(rows[-1]) + 1, int(cols[-1]) + 1

    @property
    def cell_of(self) -> np.ndarray:
        """Number of the cell of each position, in reading order, (down, across) intp."""
        (rows, _), (cols, _) = self._cut
        return rows[:, np.newaxis] * self.cells[1] + cols

    def pooled(self, sums: np.ndarray, way: tuple[int, int]) -> np.ndarray:
        """Sums over pools, of sums over cells: (n, down, across, …) to (n, side, side, …)."""
        for axis, ((_, firsts), far) in enumerate(zip(self._cut, way, strict=True), 1):
            parts = np.split(sums, firsts[far][1:], axis)
            sums = np.stack([part.sum(axis) for part in parts], axis)  # reduceat is far slower
        return sums
