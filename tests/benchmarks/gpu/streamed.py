"""Passes over a store: rows that stay on the device, and rows that all come by."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.engines.device.engine import DeviceEngine
from pipeline.engines.device.plan import plan_device
from pipeline.rows.cluster_sums import empty_sums
from pipeline.rows.source import RowSource, block_count, take_rows
from pipeline.runtime.devices import thread_count
from pipeline.runtime.progress import SilentProgress
from tests.benchmarks.gpu.settings import Settings, make_kernels
from tests.benchmarks.gpu.store import open_rows, timed_engine
from tests.benchmarks.gpu.timed import Stopwatch, TimedSource
from tests.benchmarks.tables import number

LATER_PASSES = 3


def measure(settings: Settings, folder: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A table: a row for each K and each way that the rows come."""
    source, name = open_rows(settings, folder)
    rng = np.random.default_rng(0)
    table = []
    for k in (k for k in settings.k if k <= source.n_rows):
        picked = np.sort(rng.choice(source.n_rows, k, replace=False))
        centroids = take_rows(source, picked).astype(np.float32)
        table += _rows(settings, source, centroids)
    yield f"A pass over {name}; read: {thread_count()} threads at most, their seconds added", table


def _rows(settings: Settings, source: RowSource, centroids: np.ndarray) -> list[dict[str, str]]:
    k = len(centroids)
    watch = Stopwatch(settings.torch_device)
    timed = TimedSource(source, watch)
    engine = timed_engine(settings, source, k, watch)
    engine.load(centroids)
    engine.step(source.read_block(0), empty_sums(source, k))  # kernels compiled, buffers pinned
    memory = engine.cache_for(timed)
    table = [_pass(engine, timed, centroids, memory, watch, "all come to stay")]
    later = [
        _pass(engine, timed, centroids, memory, watch, "all are there") for _ in range(LATER_PASSES)
    ]
    table.append(later[-1])
    memory.close()
    table.append(_pass(engine, timed, centroids, None, watch, "none stays"))
    least = least_budget(settings, source, k)
    small = timed_engine(settings, source, k, watch, least)
    kept = small.cache_for(timed)
    way = f"DEVICE_MEMORY at its least, {least / 2**20:.0f} MiB"
    table.append(_pass(small, timed, centroids, kept, watch, way))
    kept.close()
    return table


def least_budget(settings: Settings, source: RowSource, k: int) -> int:
    """Bytes of the device below which a pass is refused."""
    kernels = make_kernels(settings, source.dim, source.dtype)
    return plan_device(
        *(1 << 40, kernels.device_bytes(k), k, source.dim, source.dtype.itemsize),
        moves=kernels.moves,
        device=settings.torch_device.type,
    ).least


def _pass(
    engine: DeviceEngine,
    source: TimedSource,
    centroids: np.ndarray,
    memory: object,
    watch: Stopwatch,
    way: str,
) -> dict[str, str]:
    watch.read()
    started = time.perf_counter()
    blocks = range(block_count(source))
    engine.run_pass(source, blocks, centroids, memory, SilentProgress())
    seconds = time.perf_counter() - started
    found = watch.read()
    read, copy = found.get("read", 0.0), found.get("copy", 0.0)
    compute = found.get("assign", 0.0) + found.get("update", 0.0)
    # What would be waited for if one began when the other had ended.
    alone = read / thread_count() + copy + compute
    return {
        "K": str(len(centroids)),
        "rows": way,
        "million rows/s": number(source.n_rows / seconds / 1e6),
        "pass, s": number(seconds),
        "read, s": number(read),
        "copy, s": number(copy),
        "compute, s": number(compute),
        "hidden by overlap": f"{max(0.0, 100 * (1 - seconds / alone)) if alone else 0:.0f} %",
    }
