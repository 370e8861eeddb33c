"""Seconds on a device: CUDA events, or the clock of the host where there are none."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

WARM_UPS = 2  # kernels are compiled, clocks rise


def mark(device: torch.device) -> Any:
    """A point in what the device is asked for."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(begin: Any, end: Any) -> float:
    """Seconds from one mark to another; the device has reached both."""
    if isinstance(begin, float):
        return end - begin
    return begin.elapsed_time(end) / 1000


def wait(device: torch.device) -> None:
    """Until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(device: torch.device, work: Callable[[], object], repeats: int) -> float:
    """Of one call, after some that do not count."""
    for _ in range(WARM_UPS):
        work()
    wait(device)
    marks = []
    for _ in range(repeats):
        begin = mark(device)
        work()
        marks.append((begin, mark(device)))
    wait(device)
    return statistics.median(between(*pair) for pair in marks)


def alone_seconds(device: torch.device, work: Callable[[], object], repeats: int) -> float:
    """The same by the clock of the host, the device idle before and after: what a pass takes."""
    for _ in range(WARM_UPS):
        work()
    found = []
    for _ in range(repeats):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - started)
    return statistics.median(found)
