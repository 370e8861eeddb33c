"""What a device engine keeps of a source between passes: first rows, their labels, their sums.

Rows are what the source gave, for good. Labels and sums belong to each other and to the last pass
that came to its end; where a pass was broken off they are taken for lost.
"""

import numpy as np
import torch

from pipeline.engines.device.kernels import DeviceKernels, Uint8Sums
from pipeline.engines.device.plan import DevicePlan


class ResidentRows:
    """The first rows of some blocks of a source, as many as there is room for.

    n_rows: that the blocks have at most. block_rows: of each block. keeps_labels:
    whether those of the last pass are kept, for the sums that belong to them.

    Attributes: rows: (capacity, d) as stored; labels: (capacity,) int32 of the pass under way;
    filled: how many of the rows are there; nbytes: of the device.
    """

    def __init__(self, n_rows: int, block_rows: int, *, keeps_labels: bool) -> None:
        self.n_rows, self.block_rows, self._keeps_labels = n_rows, block_rows, keeps_labels
        self.closed = False
        self._successors: np.ndarray | None = None
        self.drop()

    def drop(self) -> None:
        """Give the memory back; the next pass asks for it anew."""
        self.given = False
        self.capacity = self.filled = self.nbytes = 0
        self.rows = self.labels = self._before = torch.empty(0)
        self.forget()

    def close(self) -> None:
        """Give the memory back for good."""
        self.drop()
        self.closed = True

    def relabel(self, successors: np.ndarray) -> None:
        """The next pass has other centroids; see `pipeline.engines.engine.AssignmentCache`."""
        self._successors = successors

    def forget_sums(self) -> None:
        """See `pipeline.engines.engine.AssignmentCache`."""
        self.forget()

    def forget(self) -> None:
        """Labels and sums are not to be trusted."""
        self._sums: Uint8Sums | None = None
        self._held, self._k = 0, 0

    def take(self, plan: DevicePlan, given: int, like: torch.Tensor) -> None:
        """Take what room there is, once; where that fails, nothing.

        given: bytes of others. like: (0, d), of the rows.
        """
        if self.given:
            return
        capacity = plan.room(self.n_rows, self.block_rows, given)
        rows = like.new_empty((capacity, like.shape[1]))
        labels = like.new_empty(capacity, dtype=torch.int32)
        if self._keeps_labels:
            self._before = torch.empty_like(labels)
        self.rows, self.labels, self.capacity = rows, labels, capacity
        self.nbytes, self.given = capacity * plan.row_bytes, True

    def sums(self, kernels: DeviceKernels, k: int, n: int) -> Uint8Sums:
        """Sums to which this pass adds what changed of its first n rows; see `account`.

        Until `finish`, they are not those of the next pass.
        """
        sums, held, before = self._sums, self._held, self._k
        successors, self._successors = self._successors, None
        self.forget()
        if successors is None and k >= before:
            successors = np.arange(before)
        if sums is None or held > n or successors is None or len(successors) != before:
            return kernels.sums(k)
        same = np.array_equal(successors, np.arange(before))
        if not same or k != before:
            takers = torch.from_numpy(successors.astype(np.int64)).to(self.rows.device)
            sums.inherit(takers, k)
            if not same:
                old, new = self._before[:held], self.labels[:held]
                torch.index_select(takers.to(torch.int32), 0, old, out=new)
                self.labels, self._before = self._before, self.labels
        self._held = held
        return sums

    def account(self, sums: Uint8Sums, start: int, stop: int) -> None:
        """Rows [start, stop) to the sums of their labels, or only those whose labels changed."""
        known = min(max(self._held, start), stop)
        if start < known:
            part = slice(start, known)
            sums.move(self.rows[part], self._before[part], self.labels[part])
        if known < stop:
            sums.add(self.rows[known:stop], self.labels[known:stop])

    def finish(self, sums: Uint8Sums, k: int, n: int) -> None:
        """The pass is whole: `sums` are those of its first n rows under their labels."""
        if self._keeps_labels:
            self._sums, self._held, self._k = sums, n, k
            self.labels, self._before = self._before, self.labels
