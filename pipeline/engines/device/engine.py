"""The assignment engine of a device: rows stay there as far as there is room, others stream by.

What the device computes is that of its kernels; here is what lies where, and when it moves.

Dtypes: stored as they come; labels int32 on the device; accumulate int64 for bytes, else as the
torch engine on a CPU does, and in its order; returned labels int64.
"""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch

from pipeline.engines.device.kernels import ByteTotals, DeviceKernels
from pipeline.engines.device.ordered_sums import sum_piece
from pipeline.engines.device.plan import (
    SLOTS,
    Carry,
    DevicePlan,
    cut,
    plan_carries,
    plan_device,
)
from pipeline.engines.device.resident_rows import DeviceRows
from pipeline.engines.device.transfers import Slot, Streams, bring
from pipeline.rows.cluster_sums import ClusterSums, empty_sums
from pipeline.rows.source import RowSource, block_count
from pipeline.runtime.devices import device_errors, give_back
from pipeline.runtime.memory import device_refusal
from pipeline.runtime.progress import Progress


class DeviceEngine:
    """Assigns rows to their nearest centroid, ties to the lowest index; on one device.

    kernels: what the device computes, for rows of `dim` values of `dtype`. budget: bytes of the
    device that the engine takes at most, kernels included. largest: the most centroids that will
    come, where that is known, so that no rows have to make room for them.
    Raises: MemoryBudgetError where the budget is too small for the centroids that are loaded, or
        the device has less; DeviceError where it fails.
    """

    def __init__(
        self,
        kernels: DeviceKernels,
        dim: int,
        dtype: np.dtype,
        budget: int,
        *,
        largest: int = 1,
    ) -> None:
        self.device, self._kernels = kernels.device, kernels
        self._dim, self._dtype, self._budget = dim, dtype, budget
        self._of_bytes = dtype.itemsize == 1
        self._streams = Streams(self.device)
        self._like = torch.empty((0, dim), dtype=kernels.row_dtype, device=self.device)
        self._memories: list[DeviceRows] = []
        self._slots: list[Slot] = []
        self._k, self._largest = 0, largest
        self._plan = self._planned(largest)

    def cache_for(
        self, source: RowSource, folder: Path | None = None, blocks: range | None = None
    ) -> DeviceRows:
        """A memory for the passes over some blocks of one source, which takes room at the first.

        blocks: all that passes will see; None: the whole source.
        """
        blocks = range(block_count(source)) if blocks is None else blocks
        moves = self._of_bytes and self._kernels.moves
        memory = DeviceRows(_rows_of(source, blocks), source.block_rows, moves=moves)
        self._memories.append(memory)
        return memory

    def load(self, centroids: np.ndarray) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32 or float64."""
        with device_errors(self.device):
            k = len(centroids)
            if k > self._largest or self._plan.least > self._budget:
                self._make_room(max(k, self._largest))
            self._kernels.load(centroids)
            self._k = k

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """Index of the nearest centroid of each row. rows: (n, d). Returns: (n,) int64."""
        found = np.empty(len(rows), np.int64)
        with self._at_work():
            for start, stop, _, labels in self._staged(rows):
                found[start:stop] = labels.cpu().numpy()
        return found

    def step(self, rows: np.ndarray, into: ClusterSums) -> None:
        """Assign the rows and add them to `into`, in place. rows: (n, d)."""
        with self._at_work():
            totals = self._kernels.totals(self._k) if self._of_bytes else None
            for _, _, piece, labels in self._staged(rows):
                self._add(piece, labels, totals, into)
            if totals is not None:
                _add_totals(totals, into)

    def run_pass(
        self,
        source: RowSource,
        blocks: range,
        centroids: np.ndarray,
        cache: DeviceRows | None,
        progress: Progress,
    ) -> ClusterSums:
        """Sums over the rows of some blocks, assigned to `centroids`; see `AssignmentEngine`."""
        self.load(centroids)
        sums = empty_sums(source, self._k)
        with self._at_work():
            if cache is None:
                cache = DeviceRows(0, source.block_rows, moves=False)
            else:
                self._memories = [one for one in self._memories if not one.closed]
                others = sum(one.nbytes for one in self._memories)
                cache.take(self._plan, others, self._like)
            if self._of_bytes:
                self._sum_bytes(source, blocks, cache, progress, sums)
            else:
                self._sum_pieces(source, blocks, cache, progress, sums)
        return sums

    def _sum_bytes(
        self,
        source: RowSource,
        blocks: range,
        memory: DeviceRows,
        progress: Progress,
        sums: ClusterSums,
    ) -> None:
        n = _rows_of(source, blocks)
        stays, there = min(memory.capacity, n), min(memory.filled, n)
        totals = memory.totals(self._kernels, self._k, stays)
        passing = self._kernels.totals(self._k) if stays < n else None
        if there:
            self._kernels.label(memory.rows[:there], memory.labels[:there])
            memory.account(totals, 0, there)
            progress.advance(there)
        with closing(self._carried(source, blocks, n, there, memory)) as stream:
            for carry, rows, labels in stream:
                self._kernels.label(rows, labels)
                if carry.stop <= stays:
                    memory.account(totals, carry.start, carry.stop)
                else:
                    assert passing is not None  # stays < n
                    passing.add(rows, labels)
                progress.advance(len(rows))
        for part in (totals, passing):
            if part is not None:
                _add_totals(part, sums)
        memory.finish(totals, self._k, stays)

    def _sum_pieces(
        self,
        source: RowSource,
        blocks: range,
        memory: DeviceRows,
        progress: Progress,
        sums: ClusterSums,
    ) -> None:
        n = _rows_of(source, blocks)
        stays, there = min(memory.capacity, n), min(memory.filled, n)
        pieces = list(cut(stays, source.block_rows, self._plan.unit))[::-1]

        def add_those_before(stop: int) -> None:
            """Of what stays, in the order of the rows."""
            while pieces and pieces[-1][1] <= stop:
                part = slice(*pieces.pop())
                self._add_piece(memory.rows[part], memory.labels[part], sums)
                progress.advance(part.stop - part.start)

        if there:
            self._kernels.label(memory.rows[:there], memory.labels[:there])
            add_those_before(there)
        with closing(self._carried(source, blocks, n, there, memory)) as stream:
            for carry, rows, labels in stream:
                self._kernels.label(rows, labels)
                if carry.stop <= stays:
                    add_those_before(carry.stop)
                else:
                    self._add(rows, labels, None, sums)
                    progress.advance(len(rows))

    def _carried(
        self, source: RowSource, blocks: range, n: int, start: int, memory: DeviceRows
    ) -> Generator[tuple[Carry, torch.Tensor, torch.Tensor]]:
        """Rows from `start` on as they arrive, where they stay or in passing, and their labels."""
        stays = min(memory.capacity, n)
        carries = plan_carries(blocks, source.block_rows, n, self._plan.piece, start, stays)
        self._streams.begin()
        with closing(bring(source, carries, self._ready_slots())) as stream:
            for carry, slot in stream:
                if carry.stop <= stays:
                    part = slice(carry.start, carry.stop)
                    rows = slot.send(memory.rows[part])
                    memory.filled = max(memory.filled, carry.stop)
                    yield carry, rows, memory.labels[part]
                else:
                    yield carry, *slot.stage(carry.stop - carry.start)
                    slot.release()

    def _staged(self, rows: np.ndarray) -> Generator[tuple[int, int, torch.Tensor, torch.Tensor]]:
        """Rows at hand, piece by piece: [start, stop), on the device, and their labels."""
        slots = self._ready_slots()
        for number, start in enumerate(range(0, len(rows), self._plan.piece)):
            stop = min(start + self._plan.piece, len(rows))
            slot = slots[number % SLOTS]
            slot.pack(rows[start:stop])
            piece, labels = slot.stage(stop - start)
            self._kernels.label(piece, labels)
            yield start, stop, piece, labels
            slot.release()

    def _add(
        self,
        rows: torch.Tensor,
        labels: torch.Tensor,
        totals: ByteTotals | None,
        into: ClusterSums,
    ) -> None:
        """Rows in passing to their sums: `totals` for bytes, else `into`, piece by piece."""
        if totals is not None:
            totals.add(rows, labels)
            return
        unit = self._plan.unit
        for piece, of_piece in zip(rows.split(unit), labels.split(unit), strict=True):
            self._add_piece(piece, of_piece, into)

    def _add_piece(self, piece: torch.Tensor, labels: torch.Tensor, into: ClusterSums) -> None:
        into += sum_piece(piece, labels, self._k, into.origin, self._dtype)

    def _planned(self, k: int) -> DevicePlan:
        return plan_device(
            self._budget,
            self._kernels.device_bytes(k),
            k,
            self._dim,
            self._dtype.itemsize,
            moves=self._kernels.moves,
            device=self.device.type,
        )

    def _make_room(self, k: int) -> None:
        """More centroids than were expected: rows make room for them."""
        plan = self._planned(k)
        if plan.least > self._budget:
            raise device_refusal(f"assigning to K = {k}", plan.least, self._budget)
        if plan.piece != self._plan.piece:
            self._slots = []
        self._largest, self._plan = k, plan
        for memory in reversed(self._memories):
            if plan.fixed + sum(one.nbytes for one in self._memories) > self._budget:
                memory.drop()
        give_back(self.device)

    def _ready_slots(self) -> list[Slot]:
        if not self._slots:
            shape = (self._plan.piece, self._dim)
            self._slots = [
                Slot(self._streams, self.device, shape, self._like.dtype) for _ in range(SLOTS)
            ]
        return self._slots

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Nothing is under way any more after a failure, whatever it was."""
        with device_errors(self.device):
            try:
                yield
            except BaseException:
                self._streams.settle()
                raise


def _rows_of(source: RowSource, blocks: range) -> int:
    """Rows of some blocks of a source."""
    return min(blocks.stop * source.block_rows, source.n_rows) - blocks.start * source.block_rows


def _add_totals(totals: ByteTotals, into: ClusterSums) -> None:
    sums, counts, squares = totals.fetch()
    into += ClusterSums(sums, counts, squares, into.origin)
