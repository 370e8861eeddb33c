"""What the pruned engine keeps of every row between passes: labels, bounds, and their sums.

It lies in a scratch file without a name, so that memory does not grow with the rows and nothing
is left behind, however the process ends. Each block carries a checksum and the number of the pass
that wrote it: what does not fit is not used. Losing it costs time, never correctness.
"""

import tempfile
from copy import deepcopy
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np

from pipeline.rows.cluster_sums import ClusterSums

MAX_LEVEL = 65535  # of a stored distance; as an upper bound it says: unknown
KEPT_SUMS_BYTES = 128 << 20  # of the sums of parts of a pass, beside those of the first
_NEVER = -1


class CachedAssignments(NamedTuple):
    """What is known of the rows of a block; distances in levels, see `CentroidTable`.

    label: (n,) uint16 or uint32. upper: (n,) uint16, bound on the distance to the own centroid;
    MAX_LEVEL: unknown. lower: (n,) uint16, bound on the distance to any other.
    """

    label: np.ndarray
    upper: np.ndarray
    lower: np.ndarray


class KnownTogether(NamedTuple):
    """What is known of some blocks: of all of them, where each is, whether it was labelled."""

    known: CachedAssignments
    parts: list[slice]
    labelled: list[bool]


def label_dtype(k: int) -> np.dtype:
    """The narrowest type that holds labels below k."""
    return np.dtype(np.uint16 if k <= 1 << 16 else np.uint32)


def scratch_bytes(n_rows: int, k: int) -> int:
    """Length of the scratch file: a label and two bounds of each row, bytes."""
    return n_rows * (label_dtype(k).itemsize + 4)


def kept_sums_bytes(k: int, dim: int, parts: int) -> int:
    """What is kept of the sums of a pass in so many parts, bytes at most."""
    each = 8 * k * (dim + 2)
    return min(parts * each, each + KEPT_SUMS_BYTES)


def room_for(n: int, k: int) -> CachedAssignments:
    """Labels and bounds of n rows, unset."""
    label = np.empty(n, label_dtype(k))
    return CachedAssignments(label, np.empty(n, np.uint16), np.empty(n, np.uint16))


def set_unknown(known: CachedAssignments) -> None:
    """Bounds that say nothing, in place."""
    known.upper[:], known.lower[:] = MAX_LEVEL, 0


class _Base(NamedTuple):
    """What a pass found of some blocks; sums of them under the labels that it wrote."""

    sums: ClusterSums
    blocks: frozenset[int]
    found_in: int


class AssignmentCache:
    """Cache of the rows of one source, from pass to pass and from one K to the next.

    A pass may see a prefix of the rows, and come in parts, each of other blocks. folder: where the
    scratch file lies; None: the system's folder for temporary files. before: (k, d), centroids of
    the last pass.
    """

    def __init__(self, n_rows: int, block_rows: int, folder: Path | None) -> None:
        self._n_rows, self._block_rows = n_rows, block_rows
        blocks = -(-n_rows // block_rows)
        self._file = tempfile.TemporaryFile(dir=folder, prefix="guesses-", buffering=0)  # noqa: SIM115
        self._written = np.full(blocks, _NEVER)  # in which pass
        self._lengths = np.zeros(blocks, np.int64)  # rows of the block then
        self._checksums = np.zeros(blocks, np.int64)
        self._successors: dict[int, np.ndarray] = {}  # of the labels that were written in a pass
        self._next: np.ndarray | None = None  # of the labels of the last pass, for the next
        self._pass, self._units_since = 0, 0
        self._rooms = [np.empty(0, np.uint8)] * 2  # one is worked on, one read
        self._unit = 0.0
        self._bases: dict[int, _Base] = {}  # of each part, by its first block
        self._centroids = np.empty((0, 0))
        self._forget()

    def _forget(self) -> None:
        self._written[:] = _NEVER
        self._successors.clear()
        self._latest: np.ndarray | None = None
        self._bases.clear()
        self.before = np.empty((0, 0))

    def forget_sums(self) -> None:
        """See `pipeline.engines.engine.AssignmentCache`."""
        self._bases.clear()

    def close(self) -> None:
        """Let the scratch file go."""
        self._file.close()

    def relabel(self, successors: np.ndarray) -> None:
        """The next pass has other centroids; see `pipeline.engines.engine.AssignmentCache`."""
        self._next = successors

    def begin(
        self, n_rows: int, centroids: np.ndarray, unit: float
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Begin a pass over the first `n_rows` rows.

        centroids: (k, d). unit: length of a level, in the rows' own unit.
        Returns: how far each centroid went, seen from the rows that had its label or one that it
            is the successor of, and seen from other rows, (k,) float64, inf for new ones; None
            where nothing is known.
        """
        self._bases = {at: base for at, base in self._bases.items() if base.found_in == self._pass}
        self._n_rows = n_rows
        k, before = len(centroids), len(self._centroids)
        successors, self._next = self._next, None
        if successors is None and k >= before:  # added ones come last
            successors = np.arange(before)
        moved = None
        other_labels = label_dtype(k) != label_dtype(before)
        if before == 0 or successors is None or len(successors) != before or other_labels:
            self._forget()
        else:
            moved = self._pass_on(centroids.astype(np.float64), successors)
            if unit != self._unit:  # the levels mean something else now
                self._units_since = self._pass + 1
        self.before, self._centroids, self._unit = self._centroids, centroids.copy(), unit
        self._pass += 1
        self._touched: set[int] = set()
        self._base_blocks: frozenset[int] = frozenset()
        return moved

    def _pass_on(self, wide: np.ndarray, successors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Leave the labels to the successors; see `begin`."""
        k = len(wide)
        went = np.sqrt(np.square(wide[successors] - self._centroids).sum(axis=1))
        own, others = np.zeros(k), np.full(k, np.inf)
        np.maximum.at(own, successors, went)
        # Any centroid that is not the row's own was as far as the bound says: the best will do.
        np.minimum.at(others, successors, went)
        self._latest = None
        if not np.array_equal(successors, np.arange(len(successors))):
            self._latest = successors
            self._successors = {
                written: successors[self._successors.get(written, slice(None))]
                for written in set(self._written.tolist())
            }
        return own, others

    def relabelled(self, labels: np.ndarray) -> np.ndarray:
        """Labels among `before` as this pass counts them."""
        return labels if self._latest is None else self._latest[labels]

    def base_sums(self, wanted: range, empty: ClusterSums) -> ClusterSums:
        """Sums to which this pass adds what changed; `empty` where there are none that serve.

        wanted: the blocks of this part of the pass; it ends with `finish`.
        """
        self._touched, self._base_blocks = set(), frozenset()
        base = self._bases.pop(wanted.start, None)
        # Labels of passes before the last could not be found again, if they were damaged.
        if base is None or base.found_in != self._pass - 1 or not base.blocks <= set(wanted):
            return empty
        if any(self._lengths[index] != self._rows_of(index) for index in base.blocks):
            return empty
        self._base_blocks = base.blocks
        before, k = len(base.sums.counts), len(empty.counts)
        if self._latest is None and before == k:
            return deepcopy(base.sums)
        successors = np.arange(before) if self._latest is None else self._latest
        return _merge(base.sums, successors, k)

    def finish(self, wanted: range, sums: ClusterSums) -> None:
        """That part of the pass is whole; these are its sums."""
        kept = sum(base.sums.sums.nbytes for base in self._bases.values())
        exact = sums.squares.dtype == np.int64
        if exact and (not self._bases or kept + sums.sums.nbytes <= KEPT_SUMS_BYTES):
            self._bases[wanted.start] = _Base(sums, frozenset(self._touched), self._pass)

    def in_base(self, index: int) -> bool:
        """Whether the base sums of this pass hold the block under its labels of the pass before."""
        return index in self._base_blocks

    def read(self, index: int) -> tuple[CachedAssignments, bool]:
        """What is left of the last pass that met a block, and whether there is anything, undamaged.

        Of passes before the last, labels are left, no bounds. The arrays are to be changed in
        place and hold until the next but one is read.
        """
        n, k = self._rows_of(index), len(self._centroids)
        labels = n * label_dtype(k).itemsize
        size = labels + 4 * n
        self._rooms.reverse()
        if self._rooms[0].size < size:
            self._rooms[0] = np.empty(size, np.uint8)
        data = self._rooms[0][:size]
        levels = data[labels:].view(np.uint16)
        known = CachedAssignments(data[:labels].view(label_dtype(k)), levels[:n], levels[n:])
        written = int(self._written[index])
        if written != _NEVER and self._lengths[index] == n:
            self._file.seek(self._offset(index))
            whole = self._file.readinto(data.data) == size
            if whole and google_crc32c.value(data) == self._checksums[index]:
                if written in self._successors:
                    known.label[:] = self._successors[written][known.label]
                if written < max(self._pass - 1, self._units_since):
                    set_unknown(known)
                return known, True
        known.label[:] = 0
        set_unknown(known)
        return known, False

    def read_together(self, blocks: range) -> KnownTogether:
        """The same of some blocks."""
        sizes = [self._rows_of(index) for index in blocks]
        parts = [
            slice(stop - size, stop) for size, stop in zip(sizes, accumulate(sizes), strict=True)
        ]
        if len(blocks) == 1:
            known, found = self.read(blocks[0])
            return KnownTogether(known, parts, [found])
        known, labelled = room_for(sum(sizes), len(self._centroids)), []
        for index, part in zip(blocks, parts, strict=True):
            one, found = self.read(index)
            labelled.append(found)
            for into, array in zip(known, one, strict=True):
                into[part] = array
        return KnownTogether(known, parts, labelled)

    def write(self, index: int, known: CachedAssignments) -> None:
        """Store what this pass found of a block."""
        self._file.seek(self._offset(index))
        checksum = 0
        for array in known:
            data = array.view(np.uint8)
            self._file.write(data.data)
            checksum = google_crc32c.extend(checksum, data)
        self._checksums[index] = checksum
        self._written[index] = self._pass
        self._lengths[index] = len(known.label)
        self._touched.add(index)

    def _offset(self, index: int) -> int:
        return index * self._block_rows * (label_dtype(len(self._centroids)).itemsize + 4)

    def _rows_of(self, index: int) -> int:
        return max(0, min(self._block_rows, self._n_rows - index * self._block_rows))


def _merge(sums: ClusterSums, successors: np.ndarray, k: int) -> ClusterSums:
    """Sums of k clusters, each of those that it is the successor of."""
    merged = []
    for part in (sums.sums, sums.counts, sums.squares):
        taken = np.zeros((k, *part.shape[1:]), part.dtype)
        np.add.at(taken, successors, part)
        merged.append(taken)
    return ClusterSums(*merged, sums.origin)
