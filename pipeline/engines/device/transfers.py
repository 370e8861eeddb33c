"""The way of rows to a device: decoded on threads, packed, copied beside the work.

Events order the two streams of a CUDA device, so that nothing is overwritten while it is in use.
Elsewhere the same code runs, and each step waits for the one before.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby, repeat
from typing import Any

import numpy as np
import torch

from pipeline.engines.device.plan import STAGING_BUFFERS, Transfer
from pipeline.rows.source import RowSource
from pipeline.runtime.devices import thread_count

MOST_DECODERS = 4
Event = Any  # torch.cuda.Event, or None where there are no streams


def decoders() -> int:
    """Threads that decode blocks."""
    return min(MOST_DECODERS, thread_count())


def blocks_held() -> int:
    """Decoded blocks in memory at a time, at most: in work, next in line, and being packed."""
    return decoders() + 1 + STAGING_BUFFERS


class Streams:
    """Copies to a device on a stream of their own, and what waits for what."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.pinned = self._copies is not None  # or a copy does not run beside the work

    def begin(self) -> None:
        """Copies to come wait for all work so far: memory may have changed hands."""
        if self._copies is not None:
            self._copies.wait_stream(torch.cuda.current_stream(self._device))

    def send(self, host: torch.Tensor, into: torch.Tensor, after: Event) -> Event:
        """Copy to the device once `after` has come to pass. Returns: the end of the copy."""
        if self._copies is None:
            into.copy_(host)
            return None
        with torch.cuda.stream(self._copies):
            if after is not None:
                self._copies.wait_event(after)
            into.copy_(host, non_blocking=True)
            return self._copies.record_event()

    def receive(self, copied: Event) -> None:
        """Work to come waits for the end of a copy."""
        if self._copies is not None:
            torch.cuda.current_stream(self._device).wait_event(copied)

    def mark(self) -> Event:
        """The end of all work so far."""
        if self._copies is None:
            return None
        return torch.cuda.current_stream(self._device).record_event()

    def wait(self, event: Event) -> None:
        """Until the event has come to pass."""
        if event is not None:
            event.synchronize()

    def drain(self) -> None:
        """Until both streams are idle; of a pass that failed, so a device that did is no matter."""
        if self._copies is not None:
            with suppress(RuntimeError):
                torch.cuda.synchronize(self._device)


class StagingBuffer:
    """A piece on its way: the host's buffer, the one on the device, and labels of its rows.

    copied: end of the last copy from the host's buffer. used: end of the last work on the device's.
    """

    def __init__(
        self, streams: Streams, device: torch.device, shape: tuple[int, int], kind: torch.dtype
    ) -> None:
        self._streams, self._device, self._shape, self._kind = streams, device, shape, kind
        self._host = torch.empty(shape, dtype=kind, pin_memory=streams.pinned)
        self._cells = self._host.numpy()
        self._rows: torch.Tensor | None = None
        self._labels: torch.Tensor | None = None
        self.copied: Event = None
        self.used: Event = None

    def pack(self, rows: np.ndarray) -> None:
        """Rows into the host's buffer, as soon as it is free."""
        self._streams.wait(self.copied)
        np.copyto(self._cells[: len(rows)], rows.view(self._cells.dtype))

    def send(self, into: torch.Tensor) -> torch.Tensor:
        """What was packed to a place on the device that nothing is at work on."""
        self.copied = self._streams.send(self._host[: len(into)], into, None)
        self._streams.receive(self.copied)
        return into

    def stage(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What was packed to the buffer's own place on the device, and room for its labels.

        To be followed by `release` when the work on them is under way.
        """
        if self._rows is None or self._labels is None:
            self._rows = torch.empty(self._shape, dtype=self._kind, device=self._device)
            self._labels = torch.empty(self._shape[0], dtype=torch.int32, device=self._device)
            self._streams.begin()
        self.copied = self._streams.send(self._host[:n], self._rows[:n], self.used)
        self._streams.receive(self.copied)
        return self._rows[:n], self._labels[:n]

    def release(self) -> None:
        """All work on what was staged is under way."""
        self.used = self._streams.mark()


def stream_rows(
    source: RowSource, transfers: Iterable[Transfer], buffers: list[StagingBuffer]
) -> Generator[tuple[Transfer, StagingBuffer]]:
    """Pieces in order, each in a buffer that is the caller's until the next is asked for."""
    packed: deque[tuple[Transfer, StagingBuffer, Future[None]]] = deque()
    with (
        ThreadPoolExecutor(decoders(), "decode") as decoding,
        ThreadPoolExecutor(1, "pack") as packing,
    ):
        ahead: deque[tuple[Future[np.ndarray], list[Transfer]]] = deque()
        try:
            decoded = _decode(source, transfers, decoding.submit, ahead)
            for number, (transfer, block) in enumerate(decoded):
                if len(packed) == len(buffers):
                    yield _next(packed)
                buffer = buffers[number % len(buffers)]
                packed.append((transfer, buffer, packing.submit(_pack, buffer, block, transfer)))
            while packed:
                yield _next(packed)
        finally:
            for future, _ in ahead:
                future.cancel()
            for *_, done in packed:
                done.cancel()


def _decode(
    source: RowSource,
    transfers: Iterable[Transfer],
    submit: Callable[..., "Future[np.ndarray]"],
    ahead: "deque[tuple[Future[np.ndarray], list[Transfer]]]",
) -> Iterator[tuple[Transfer, "Future[np.ndarray]"]]:
    """Pieces with their blocks to come, one more of which is submitted than threads decode."""
    for index, group in groupby(transfers, key=lambda transfer: transfer.block):
        ahead.append((submit(source.read_block, index), list(group)))
        if len(ahead) > decoders():
            block, pieces = ahead.popleft()
            yield from zip(pieces, repeat(block))
    while ahead:
        block, pieces = ahead.popleft()
        yield from zip(pieces, repeat(block))


def _pack(buffer: StagingBuffer, block: "Future[np.ndarray]", transfer: Transfer) -> None:
    rows = block.result()
    buffer.pack(rows[transfer.within : transfer.within + transfer.stop - transfer.start])


def _next(
    packed: deque[tuple[Transfer, StagingBuffer, "Future[None]"]],
) -> tuple[Transfer, StagingBuffer]:
    transfer, buffer, done = packed.popleft()
    done.result()
    return transfer, buffer
