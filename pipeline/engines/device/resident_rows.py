"""What a device engine keeps of a source between passes: first rows, their labels, their sums.

Rows are what the source gave, for good. Labels and sums belong to each other and to the last pass
that came to its end; where a pass was broken off they are taken for lost.
"""

import numpy as np
import torch

from pipeline.engines.device.kernels import ByteTotals, DeviceKernels
from pipeline.engines.device.plan import DevicePlan


class DeviceRows:
    """The first rows of some blocks of a source, as many as there is room for.

    n_rows: that the blocks have at most. block_rows: of each block. moves: whether labels are kept.

    Attributes: rows: (capacity, d) as stored; labels: (capacity,) int32 of the pass under way;
    filled: how many of the rows are there; nbytes: of the device.
    """

    def __init__(self, n_rows: int, block_rows: int, *, moves: bool) -> None:
        self.n_rows, self.block_rows, self._moves = n_rows, block_rows, moves
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

    def forget(self) -> None:
        """Labels and sums are not to be trusted."""
        self._totals: ByteTotals | None = None
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
        if self._moves:
            self._before = torch.empty_like(labels)
        self.rows, self.labels, self.capacity = rows, labels, capacity
        self.nbytes, self.given = capacity * plan.row_bytes, True

    def totals(self, kernels: DeviceKernels, k: int, n: int) -> ByteTotals:
        """Sums to which this pass adds what changed of its first n rows; see `account`.

        Until `finish`, they are not those of the next pass.
        """
        totals, held, before = self._totals, self._held, self._k
        successors, self._successors = self._successors, None
        self.forget()
        if successors is None and k >= before:
            successors = np.arange(before)
        if totals is None or held > n or successors is None or len(successors) != before:
            return kernels.totals(k)
        same = np.array_equal(successors, np.arange(before))
        if not same or k != before:
            takers = torch.from_numpy(successors.astype(np.int64)).to(self.rows.device)
            totals.inherit(takers, k)
            if not same:
                old, new = self._before[:held], self.labels[:held]
                torch.index_select(takers.to(torch.int32), 0, old, out=new)
                self.labels, self._before = self._before, self.labels
        self._held = held
        return totals

    def account(self, totals: ByteTotals, start: int, stop: int) -> None:
        """Rows [start, stop) to the sums of their labels, or only those whose labels changed."""
        known = min(max(self._held, start), stop)
        if start < known:
            part = slice(start, known)
            totals.move(self.rows[part], self._before[part], self.labels[part])
        if known < stop:
            totals.add(self.rows[known:stop], self.labels[known:stop])

    def finish(self, totals: ByteTotals, k: int, n: int) -> None:
        """The pass is whole: `totals` are those of its first n rows under their labels."""
        if self._moves:
            self._totals, self._held, self._k = totals, n, k
            self.labels, self._before = self._before, self.labels
