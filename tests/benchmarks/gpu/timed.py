"""Stopwatches around what an engine asks of a device, of its copies, and of a source.

The product has none: these stand in for its kernels, streams and sources, and pass everything on.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import torch

from pipeline.engines.device.kernels import ByteTotals, DeviceKernels
from pipeline.engines.device.transfers import Event, Streams
from pipeline.rows.source import RowSource
from tests.benchmarks.gpu.timing import between, mark, wait

AT_ONCE = 4096  # spans that wait to be read


class Stopwatch:
    """Seconds by name. `of_device` counts what the device does, `of_host` what a thread does."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._open, self._lock = device, list[tuple[str, Any, Any]](), Lock()
        self._seconds: Counter[str] = Counter()

    @contextmanager
    def of_device(self, name: str) -> Iterator[None]:
        """On the current stream."""
        begin = mark(self._device)
        yield
        self._open.append((name, begin, mark(self._device)))
        if len(self._open) >= AT_ONCE:
            self._settle()

    @contextmanager
    def of_host(self, name: str) -> Iterator[None]:
        """In any thread; those of several at once add up."""
        started = time.perf_counter()
        yield
        with self._lock:
            self._seconds[name] += time.perf_counter() - started

    def read(self) -> dict[str, float]:
        """All so far, and back to none."""
        self._settle()
        with self._lock:
            found, self._seconds = dict(self._seconds), Counter()
        return found

    def _settle(self) -> None:
        wait(self._device)
        spans, self._open = self._open, []
        with self._lock:
            for name, begin, end in spans:
                self._seconds[name] += between(begin, end)


class TimedKernels:
    """`DeviceKernels`: "load" of the host; "assign" of the device, "update" by its totals."""

    def __init__(self, kernels: DeviceKernels, watch: Stopwatch) -> None:
        self._kernels, self._watch = kernels, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernels, name)

    def load(self, centroids: np.ndarray) -> None:
        with self._watch.of_host("load"):
            self._kernels.load(centroids)

    def label(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        with self._watch.of_device("assign"):
            self._kernels.label(rows, labels)

    def totals(self, k: int) -> "TimedTotals":
        return TimedTotals(self._kernels.totals(k), self._watch)


class TimedTotals:
    """`ByteTotals`."""

    def __init__(self, totals: ByteTotals, watch: Stopwatch) -> None:
        self._totals, self._watch = totals, watch

    def add(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        with self._watch.of_device("update"):
            self._totals.add(rows, labels)

    def move(self, rows: torch.Tensor, before: torch.Tensor, labels: torch.Tensor) -> None:
        with self._watch.of_device("update"):
            self._totals.move(rows, before, labels)

    def inherit(self, heirs: torch.Tensor, k: int) -> None:
        with self._watch.of_device("update"):
            self._totals.inherit(heirs, k)

    def fetch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._totals.fetch()


class TimedStreams(Streams):
    """Copies: "copy" of the device, on their own stream, without what they wait for."""

    def __init__(self, device: torch.device, watch: Stopwatch) -> None:
        super().__init__(device)
        self._watch = watch

    def send(self, host: torch.Tensor, into: torch.Tensor, after: Event) -> Event:
        if self._copies is None:
            with self._watch.of_device("copy"):
                into.copy_(host)
            return None
        with torch.cuda.stream(self._copies):
            if after is not None:
                self._copies.wait_event(after)
            with self._watch.of_device("copy"):
                into.copy_(host, non_blocking=True)
            return self._copies.record_event()


class TimedSource:
    """A source: "read" of all threads together."""

    def __init__(self, source: RowSource, watch: Stopwatch) -> None:
        self.n_rows, self.dim, self.dtype = source.n_rows, source.dim, source.dtype
        self.block_rows, self.origin = source.block_rows, source.origin
        self._source, self._watch = source, watch

    def read_block(self, index: int) -> np.ndarray:
        with self._watch.of_host("read"):
            return self._source.read_block(index)
