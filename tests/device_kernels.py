"""A device made of numpy: plain kernels in float64, and two streams as late as they may be.

With them the engine of devices is tested where there is none.
"""

from collections import Counter, deque
from collections.abc import Callable
from threading import Event, RLock
from typing import Any

import numpy as np
import torch

from pipeline.engines.device.kernels import UNLABELLED
from tests.oracles import squared_distances

CPU = torch.device("cpu")


class PlainSums:
    """Sums by loops of numpy, which refuse labels that cannot be."""

    def __init__(self, kernels: "PlainKernels", k: int) -> None:
        dim = kernels.dim
        self._kernels = kernels
        self._sums, self._counts = np.zeros((k, dim), np.int64), np.zeros(k, np.int64)
        self._squares = np.zeros(k, np.int64)

    def add(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        self._kernels.note("add", len(rows))
        self._count(rows.numpy(), labels.numpy(), 1)

    def move(self, rows: torch.Tensor, before: torch.Tensor, labels: torch.Tensor) -> None:
        self._kernels.note("move", len(rows))
        old, new = before.numpy(), labels.numpy()
        changed = old != new
        held = changed & (old != UNLABELLED)
        self._count(rows.numpy()[held], old[held], -1)
        self._count(rows.numpy()[changed], new[changed], 1)

    def inherit(self, successors: torch.Tensor, k: int) -> None:
        self._kernels.note("inherit", k)
        assert successors.dtype == torch.int64
        for name in ("_sums", "_counts", "_squares"):
            old = getattr(self, name)
            new = np.zeros((k, *old.shape[1:]), np.int64)
            np.add.at(new, successors.numpy(), old)
            setattr(self, name, new)

    def fetch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._kernels.note("fetch", 0)
        return self._sums.copy(), self._counts.copy(), self._squares.copy()

    def _count(self, rows: np.ndarray, labels: np.ndarray, sign: int) -> None:
        assert labels.dtype == np.int32
        assert not len(labels) or (labels.min() >= 0 and labels.max() < len(self._counts))
        wide = rows.astype(np.int64)
        np.add.at(self._sums, labels, sign * wide)
        np.add.at(self._counts, labels, sign)
        np.add.at(self._squares, labels, sign * (wide * wide).sum(1))


class PlainKernels:
    """`DeviceKernels` by differences in float64, on the CPU.

    fixed: what they pretend to take of the device, bytes. faults: by name of what is asked, what
    is raised after how many times. asked, rows: how often, and for how many rows.
    """

    device, sums_bytes, fixed = CPU, True, 1000
    faults: dict[str, tuple[int, BaseException]]

    def __init__(self, device: torch.device, dim: int, dtype: np.dtype) -> None:
        self.dim, self.dtype, self.faults = dim, dtype, {}
        self.row_dtype = torch.from_numpy(np.empty(0, dtype)).dtype
        self.asked, self.rows = Counter[str](), Counter[str]()

    def note(self, name: str, rows: int) -> None:
        self.asked[name] += 1
        self.rows[name] += rows
        after, fault = self.faults.get(name, (0, None))
        if fault is not None and self.asked[name] > after:
            raise fault

    def load(self, centroids: np.ndarray) -> None:
        self.note("load", len(centroids))
        self._centroids = centroids

    def label(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        assert rows.is_contiguous()
        assert (labels.dtype, len(labels)) == (torch.int32, len(rows))
        self.note("label", len(rows))
        nearest = squared_distances(rows.numpy(), self._centroids).argmin(1)
        labels.copy_(torch.from_numpy(nearest.astype(np.int32)))

    def sums(self, k: int) -> PlainSums:
        return PlainSums(self, k)

    def device_bytes(self, k: int) -> int:
        return self.fixed + 100 * k

    def host_bytes(self, k: int) -> int:
        return 100 * k


class LateStreams:
    """Two streams that do what they are asked as late as waiting for each other allows.

    eager: the one of "copy" and "work" that runs as soon as it may, all the same.
    """

    pinned = False

    def __init__(self, eager: str) -> None:
        self._eager, self._lock = eager, RLock()
        self._queues: dict[str, deque[Callable[[], Any] | Event]] = {
            "copy": deque(),
            "work": deque(),
        }

    def ask(self, stream: str, *what: Callable[[], Any] | Event) -> None:
        with self._lock:
            self._queues[stream].extend(what)
            self._run(self._eager)

    def begin(self) -> None:
        self.ask("copy", self.mark())

    def send(self, host: torch.Tensor, into: torch.Tensor, after: Event | None) -> Event:
        copied = Event()
        waits = [] if after is None else [after]
        self.ask("copy", *waits, lambda: into.copy_(host), copied.set)
        return copied

    def receive(self, copied: Event) -> None:
        self.ask("work", copied)

    def mark(self) -> Event:
        reached = Event()
        self.ask("work", reached.set)
        return reached

    def wait(self, event: Event | None) -> None:
        with self._lock:
            while event is not None and not event.is_set():
                self._run("copy", event)
                self._run("work", event)

    def drain(self) -> None:
        with self._lock:
            while any(self._queues.values()):
                self._run("copy")
                self._run("work")

    def _run(self, stream: str, until: Event | None = None) -> None:
        queue = self._queues[stream]
        while queue and not (until is not None and until.is_set()):
            first = queue[0]
            if isinstance(first, Event):
                if not first.is_set():
                    return
                queue.popleft()
            else:
                queue.popleft()()


class LateSums:
    """Sums on the stream of the work."""

    def __init__(self, sums: PlainSums, streams: LateStreams) -> None:
        self._sums, self._streams = sums, streams

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *what: self._streams.ask("work", lambda: getattr(self._sums, name)(*what))

    def fetch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._streams.wait(self._streams.mark())
        return self._sums.fetch()


class LateKernels(PlainKernels):
    """Plain kernels on the stream of the work."""

    streams: LateStreams

    def label(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        self.streams.ask("work", lambda: PlainKernels.label(self, rows, labels))

    def sums(self, k: int) -> LateSums:  # type: ignore[override]
        return LateSums(super().sums(k), self.streams)
