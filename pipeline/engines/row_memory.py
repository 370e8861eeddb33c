"""What an engine keeps of every row between passes: labels, bounds, and the sums they belong to.

It lies in a scratch file without a name, so that memory does not grow with the rows and nothing
is left behind, however the process ends. Each block carries a checksum and the number of the pass
that wrote it: what does not fit is not used. Losing it costs time, never correctness.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np

from pipeline.engines.layouts import MAX_LEVEL, Known
from pipeline.sums import ClusterSums

_NEVER = -1


def label_dtype(k: int) -> np.dtype:
    """The narrowest type that holds labels below k."""
    return np.dtype(np.uint16 if k <= 1 << 16 else np.uint32)


def nothing_known(known: Known) -> Known:
    """Labels and bounds that say nothing, in place."""
    known.label[:], known.upper[:], known.lower[:] = 0, MAX_LEVEL, 0
    return known


def room_for(n: int, k: int) -> Known:
    """Labels and bounds of n rows, unset."""
    return Known(np.empty(n, label_dtype(k)), np.empty(n, np.uint16), np.empty(n, np.uint16))


class RowMemory:
    """Memory of the rows of one source, for one K at a time.

    folder: where the scratch file lies; None: the system's folder for temporary files.
    before: (k, d), centroids of the last pass.
    """

    def __init__(self, n_rows: int, block_rows: int, folder: Path | None) -> None:
        self._n_rows, self._block_rows = n_rows, block_rows
        blocks = -(-n_rows // block_rows)
        self._file = tempfile.TemporaryFile(dir=folder, prefix="guesses-", buffering=0)  # noqa: SIM115
        self._written = np.full(blocks, _NEVER)  # in which pass
        self._checksums = np.zeros(blocks, np.int64)
        self._pass = 0
        self._room = np.empty(0, np.uint8)
        self._unit = 0.0
        self._whole = False  # the last pass came to its end
        self._centroids = np.empty((0, 0))
        self._forget()

    def _forget(self) -> None:
        self._written[:] = _NEVER
        self._sums: ClusterSums | None = None
        self._counted: set[int] = set()
        self.before = np.empty((0, 0))

    def close(self) -> None:
        """Let the scratch file go."""
        self._file.close()

    def start(self, centroids: np.ndarray, unit: float) -> np.ndarray | None:
        """Begin a pass. centroids: (k, d). unit: length of a level, in the rows' own unit.

        Returns: how far each centroid went since the last pass, (k,) float64; None for the first.
        """
        if not self._whole:  # what the sums belong to is lost
            self._sums, self._counted = None, set()
        self._whole = False
        if len(self._centroids) != len(centroids):
            self._forget()
            moved = None
        else:
            wide = centroids.astype(np.float64)
            moved = np.sqrt(np.square(wide - self._centroids).sum(axis=1))
            if unit != self._unit:  # the levels mean something else now
                self._written[:] = _NEVER
        self.before, self._centroids, self._unit = self._centroids, centroids.copy(), unit
        self._pass += 1
        self._touched: set[int] = set()
        self._base_blocks: set[int] = set()
        return moved

    def totals(self, wanted: Iterable[int], empty: ClusterSums) -> ClusterSums:
        """Sums to which this pass adds what changed; `empty` where there are none that serve.

        wanted: the blocks of this pass.
        """
        sums, counted = self._sums, self._counted
        self._sums, self._counted = None, set()
        exact = empty.squares.dtype == np.int64
        if sums is None or not exact or not counted <= set(wanted):
            return empty
        self._base_blocks = counted
        return replace(
            sums, sums=sums.sums.copy(), counts=sums.counts.copy(), squares=sums.squares.copy()
        )

    def finish(self, sums: ClusterSums) -> None:
        """The pass is whole; these are its sums."""
        self._sums, self._counted, self._whole = sums, self._touched, True

    def counted(self, index: int) -> bool:
        """Whether the totals of this pass hold the block under its labels of the pass before."""
        return index in self._base_blocks

    def recall(self, index: int) -> tuple[Known, bool]:
        """What the last pass left of a block, and whether there is anything, undamaged.

        The arrays are to be changed in place and hold until the next call; see `keep`.
        """
        n, k = self._rows_of(index), len(self._centroids)
        labels = n * label_dtype(k).itemsize
        size = labels + 4 * n
        if self._room.size < size:
            self._room = np.empty(size, np.uint8)
        data = self._room[:size]
        levels = data[labels:].view(np.uint16)
        known = Known(data[:labels].view(label_dtype(k)), levels[:n], levels[n:])
        if self._written[index] == self._pass - 1:
            self._file.seek(self._offset(index))
            whole = self._file.readinto(data.data) == size
            if whole and google_crc32c.value(data) == self._checksums[index]:
                return known, True
        nothing_known(known)
        return known, False

    def keep(self, index: int, known: Known) -> None:
        """Store what this pass found of a block, in the arrays that `recall` gave."""
        data = self._room[: sum(array.nbytes for array in known)]
        self._file.seek(self._offset(index))
        self._file.write(data.data)
        self._checksums[index] = google_crc32c.value(data)
        self._written[index] = self._pass
        self._touched.add(index)

    def _offset(self, index: int) -> int:
        return index * self._block_rows * (label_dtype(len(self._centroids)).itemsize + 4)

    def _rows_of(self, index: int) -> int:
        return min(self._block_rows, self._n_rows - index * self._block_rows)
