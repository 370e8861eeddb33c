"""A sweep into a bucket, on this machine and as far away as told, beside one into a folder."""

import os
import shutil
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from analysis.html_report.build import report
from pipeline import SweepOptions, extract, sweep
from pipeline.runtime.progress import SilentProgress
from pipeline.upkeep.verify import verify
from storage.places import client
from storage.places.place import Place, files_below
from storage.places.remote import RemotePlace
from tests.buckets import ENVIRONMENT, SlowProxy, bucket_server

LATENCIES = (0.0, 0.02, 0.05)  # seconds before each answer
ROWS = 1 << 21


def measure(data: Path, folder: Path, k: int, rows: int, repeats: int) -> list[dict[str, str]]:
    """Seconds of each step on patches of MNIST, the shortest of some rounds, and requests."""
    seconds: dict[str, dict[str, float]] = {}
    told: dict[str, dict[str, str]] = {}
    with bucket_server() as proxy, patch.dict(os.environ, _environment(proxy)):
        client.connected.cache_clear()
        for _ in range(repeats):
            for latency in (None, *LATENCIES):
                name = "folder" if latency is None else f"bucket, {latency * 1000:.0f} ms"
                out: Place = folder if latency is None else RemotePlace.of("s3://bucket/runs")
                proxy.seconds = latency or 0.0
                taken, told[name] = _steps(data, out, k, rows, proxy)
                before = seconds.setdefault(name, taken)
                seconds[name] = {step: min(before[step], taken[step]) for step in taken}
                proxy.seconds = 0.0
                _remove(out)
    return [
        {"OUT": name}
        | {step: f"{shortest:.1f}{told[name][step]}" for step, shortest in steps.items()}
        | {"largest chunk, KB": told[name]["largest"]}
        for name, steps in seconds.items()
    ]


def _environment(proxy: SlowProxy) -> dict[str, str]:
    return ENVIRONMENT | {"AWS_ENDPOINT_URL": proxy.url}


def _steps(
    data: Path, out: Place, k: int, rows: int, proxy: SlowProxy
) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of each step, and what else is told of it."""
    sampled: dict[str, Any] = {"data": data, "out": out, "sample": str(rows)}
    options = SweepOptions.checked(dataset="mnist", k=str(k), device="cpu", **sampled)
    steps = {
        "extraction": lambda: extract("mnist", **sampled),
        "found again": lambda: extract("mnist", **sampled),
        f"sweep, K = {k}, and test patches": lambda: sweep(options),
        "second sweep": lambda: sweep(options),
        "report": lambda: report(out),
        "verify": lambda: verify(out, SilentProgress()),
    }
    seconds, told = {}, {}
    for name, work in steps.items():
        proxy.requests.clear()
        started = time.perf_counter()
        work()
        seconds[name] = time.perf_counter() - started
        told[name] = f" ({len(proxy.requests)})" if proxy.requests else ""
    chunks = [place.stat().st_size for key, place in files_below(out) if "/patches/c/" in key]
    return seconds, told | {"largest": f"{max(chunks) / 1e3:.0f}"}


def _remove(out: Place) -> None:
    if isinstance(out, RemotePlace):
        out.remove_tree()
    else:
        shutil.rmtree(out)
