"""The assignment engine of a device: rows stay there as far as there is room, others stream by.

What the device computes is that of its kernels; here is what lies where, and when it moves.

Dtypes: stored as they come; labels int32 on the device; accumulate int64 for bytes, else as
`ordered_sums` does, and in its order; returned labels int64.
"""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch

from pipeline.engines.device.dense_kernels import sum_piece
from pipeline.engines.device.kernels import DeviceKernels, Uint8Sums
from pipeline.engines.device.plan import (
    STAGING_BUFFERS,
    DevicePlan,
    Transfer,
    cut,
    plan_device,
    plan_transfers,
)
from pipeline.engines.device.resident_rows import ResidentRows
from pipeline.engines.device.transfers import StagingBuffer, Streams, stream_rows
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import RowSource, block_count
from pipeline.runtime.devices import device_errors, give_back
from pipeline.runtime.memory import device_refusal
from pipeline.runtime.progress import Progress

# of rows: [start, stop), these on the device, and their labels
Parts = Generator[tuple[int, int, torch.Tensor, torch.Tensor]]


class DeviceEngine:
    """Assigns rows to their nearest centroid, ties to the lowest index; on one device.

    Args:
        kernels: what the device computes, for rows of `dim` values of `dtype`.
        budget: bytes of the device that the engine takes at most, kernels included.
        largest: the most centroids that will come, where that is known, so that no rows have to
            make room for them.
        keeps_rows: whether rows stay on the device from pass to pass.

    Raises:
        MemoryBudgetError: where the budget is too small for the centroids that are loaded, or the
            device has less.
        DeviceError: where it fails.
    """

    def __init__(
        self,
        kernels: DeviceKernels,
        dim: int,
        dtype: np.dtype,
        budget: int,
        *,
        largest: int = 1,
        keeps_rows: bool = True,
    ) -> None:
        self.device, self._kernels = kernels.device, kernels
        self._dim, self._dtype, self._budget = dim, dtype, budget
        self._keeps_rows = keeps_rows
        self._sums_there = adds_there(kernels, dtype)
        self._streams = Streams(self.device)
        self._like = torch.empty((0, dim), dtype=kernels.row_dtype, device=self.device)
        self._caches: list[ResidentRows] = []
        self._buffers: list[StagingBuffer] = []
        self._k, self._largest = 0, largest
        self._plan = plan_kernels(kernels, dim, dtype, largest, budget)

    def cache_for(
        self, source: RowSource, folder: Path | None = None, blocks: range | None = None
    ) -> ResidentRows | None:
        """Room for rows, which is taken at the first pass.

        Sums of parts of a source are not kept: there may be thousands, each of all centroids.
        """
        if not self._keeps_rows:
            return None
        labels = self._sums_there and blocks is None
        n_rows = _rows_of(source, range(block_count(source)) if blocks is None else blocks)
        cache = ResidentRows(n_rows, source.block_rows, keeps_labels=labels)
        self._caches.append(cache)
        return cache

    def load(self, centroids: np.ndarray) -> None:
        with device_errors(self.device):
            k = len(centroids)
            if k > self._largest or self._plan.least > self._budget:
                self._make_room(max(k, self._largest))
            self._kernels.load(centroids)
            self._k = k

    def assign(self, rows: np.ndarray, guess: np.ndarray | None = None) -> np.ndarray:
        # meets all centroids: a guess would save nothing
        found = np.empty(len(rows), np.int64)
        with self._at_work():
            for start, stop, _, labels in self._staged(rows):
                found[start:stop] = labels.cpu().numpy()
        return found

    def step(self, rows: np.ndarray, into: ClusterSums) -> None:
        with self._at_work():
            sums = self._kernels.sums(self._k) if self._sums_there else None
            for _, _, piece, labels in self._staged(rows):
                self._add(piece, labels, sums, into)
            if sums is not None:
                _add_sums(sums, into)

    def run_pass(
        self,
        source: RowSource,
        blocks: range,
        centroids: np.ndarray,
        cache: ResidentRows | None,
        progress: Progress,
        *,
        goes_on: bool = False,
        at_once: int = 1,
    ) -> ClusterSums:
        if not goes_on:
            self.load(centroids)
        sums = ClusterSums.zeros(centroids, self._dtype)
        with self._at_work():
            if cache is None:
                cache = ResidentRows(0, source.block_rows, keeps_labels=False)
            else:
                self._caches = [one for one in self._caches if not one.closed]
                others = sum(one.nbytes for one in self._caches)
                cache.take(self._plan, others, self._like)
            n = _rows_of(source, blocks)
            stays = min(cache.capacity, n)
            with closing(self._labelled(source, blocks, cache, progress)) as parts:
                if self._sums_there:
                    self._sum_there(parts, cache, stays, n, sums)
                else:
                    pieces = cut(stays, source.block_rows, self._plan.unit)
                    self._sum_in_order(parts, cache, stays, pieces, sums)
        return sums

    def _sum_there(
        self, parts: Parts, cache: ResidentRows, stays: int, n: int, into: ClusterSums
    ) -> None:
        """Bytes on the device, in any order; of rows that stay, those whose labels changed."""
        resident = cache.sums(self._kernels, self._k, stays)
        passing = self._kernels.sums(self._k) if stays < n else None
        for start, stop, rows, labels in parts:
            if passing is None or stop <= stays:
                cache.account(resident, start, stop)
            else:
                passing.add(rows, labels)
        for part in (resident, passing):
            if part is not None:
                _add_sums(part, into)
        cache.finish(resident, self._k, stays)

    def _sum_in_order(
        self,
        parts: Parts,
        cache: ResidentRows,
        stays: int,
        pieces: Iterator[tuple[int, int]],
        into: ClusterSums,
    ) -> None:
        """In the order of the rows, those that stay by these pieces."""
        first, end = next(pieces, (0, 0))
        for _, stop, rows, labels in parts:
            while 0 < end <= stop:
                self._add_piece(cache.rows[first:end], cache.labels[first:end], into)
                first, end = next(pieces, (0, 0))
            if stop > stays:
                self._add(rows, labels, None, into)

    def _labelled(
        self, source: RowSource, blocks: range, cache: ResidentRows, progress: Progress
    ) -> Parts:
        """All rows in order, first those that are there."""
        n = _rows_of(source, blocks)
        if there := min(cache.filled, n):
            self._kernels.label(cache.rows[:there], cache.labels[:there])
            yield 0, there, cache.rows[:there], cache.labels[:there]
            progress.advance(there)
        with closing(self._streamed(source, blocks, n, there, cache)) as stream:
            for transfer, rows, labels in stream:
                self._kernels.label(rows, labels)
                yield transfer.start, transfer.stop, rows, labels
                progress.advance(len(rows))

    def _streamed(
        self, source: RowSource, blocks: range, n: int, start: int, cache: ResidentRows
    ) -> Generator[tuple[Transfer, torch.Tensor, torch.Tensor]]:
        """Rows from `start` on as they arrive, where they stay or in passing, and their labels."""
        stays = min(cache.capacity, n)
        transfers = plan_transfers(blocks, source.block_rows, n, self._plan.piece, start, stays)
        self._streams.begin()
        with closing(stream_rows(source, transfers, self._ready_buffers())) as stream:
            for transfer, buffer in stream:
                if transfer.stop <= stays:
                    part = slice(transfer.start, transfer.stop)
                    rows = buffer.send(cache.rows[part])
                    cache.filled = max(cache.filled, transfer.stop)
                    yield transfer, rows, cache.labels[part]
                else:
                    yield transfer, *buffer.stage(transfer.stop - transfer.start)
                    buffer.release()

    def _staged(self, rows: np.ndarray) -> Parts:
        """Rows at hand."""
        buffers = self._ready_buffers()
        for number, start in enumerate(range(0, len(rows), self._plan.piece)):
            stop = min(start + self._plan.piece, len(rows))
            buffer = buffers[number % STAGING_BUFFERS]
            buffer.pack(rows[start:stop])
            piece, labels = buffer.stage(stop - start)
            self._kernels.label(piece, labels)
            yield start, stop, piece, labels
            buffer.release()

    def _add(
        self, rows: torch.Tensor, labels: torch.Tensor, sums: Uint8Sums | None, into: ClusterSums
    ) -> None:
        """Rows in passing to `sums` on the device, or where there are none to `into`, in order."""
        if sums is not None:
            sums.add(rows, labels)
            return
        unit = self._plan.unit
        for piece, of_piece in zip(rows.split(unit), labels.split(unit), strict=True):
            self._add_piece(piece, of_piece, into)

    def _add_piece(self, piece: torch.Tensor, labels: torch.Tensor, into: ClusterSums) -> None:
        into += sum_piece(piece, labels, self._k, into.origin, self._dtype)

    def _make_room(self, k: int) -> None:
        """More centroids than were expected: rows make room for them."""
        plan = plan_kernels(self._kernels, self._dim, self._dtype, k, self._budget)
        if plan.least > self._budget:
            raise device_refusal(f"assigning to K = {k}", plan.least, self._budget)
        if plan.piece != self._plan.piece:
            self._buffers = []
        self._largest, self._plan = k, plan
        for cache in reversed(self._caches):
            if plan.fixed + sum(one.nbytes for one in self._caches) > self._budget:
                cache.drop()
        give_back(self.device)

    def _ready_buffers(self) -> list[StagingBuffer]:
        if not self._buffers:
            shape = (self._plan.piece, self._dim)
            self._buffers = [
                StagingBuffer(self._streams, self.device, shape, self._like.dtype)
                for _ in range(STAGING_BUFFERS)
            ]
        return self._buffers

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Nothing is under way any more after a failure, whatever it was."""
        with device_errors(self.device):
            try:
                yield
            except BaseException:
                self._streams.drain()
                raise


def adds_there(kernels: DeviceKernels, dtype: np.dtype) -> bool:
    """Whether rows of a type are added up on the device, by labels that are kept."""
    return dtype.itemsize == 1 and kernels.sums_bytes


def plan_kernels(
    kernels: DeviceKernels, dim: int, dtype: np.dtype, k: int, budget: int
) -> DevicePlan:
    """The plan of an engine with these kernels, see `plan_device`."""
    return plan_device(
        *(budget, kernels.device_bytes(k), k, dim, dtype.itemsize),
        keeps_labels=adds_there(kernels, dtype),
        device=kernels.device.type,
    )


def _rows_of(source: RowSource, blocks: range) -> int:
    """Rows of some blocks of a source, of which the last alone may be short."""
    short = max((blocks[-1] + 1) * source.block_rows - source.n_rows, 0) if blocks else 0
    return len(blocks) * source.block_rows - short


def _add_sums(sums: Uint8Sums, into: ClusterSums) -> None:
    total, counts, squares = sums.fetch()
    into += ClusterSums(total, counts, squares, into.origin)
