"""A sweep into a bucket, on this machine and as far away as told, beside one into a folder."""

import os
import time
from pathlib import Path
from unittest.mock import patch

from analysis.html_report.build import report
from pipeline import SweepOptions, extract, sweep
from storage.places import client
from storage.places.place import Place, bytes_below, files_below
from storage.places.remote import RemotePlace
from tests.buckets import ENVIRONMENT, SlowProxy, bucket_server

LATENCIES = (0.0, 0.02, 0.05)  # seconds before each answer


def measure(data: Path, folder: Path, k: int) -> list[dict[str, str]]:
    """Seconds of each step of a sweep of MNIST 5×5."""
    table = [_row("folder", data, folder, k, None)]
    with bucket_server() as proxy:
        environment = ENVIRONMENT | {"AWS_ENDPOINT_URL": proxy.url}
        with patch.dict(os.environ, environment):
            for seconds in LATENCIES:
                client.connected.cache_clear()
                proxy.seconds = seconds
                out = RemotePlace.of(f"s3://bucket/{seconds}")
                table.append(_row(f"bucket, {seconds * 1000:.0f} ms", data, out, k, proxy))
    return table


def _row(name: str, data: Path, out: Place, k: int, proxy: SlowProxy | None) -> dict[str, str]:
    row, before = {"OUT": name}, 0
    options = SweepOptions(dataset="mnist", data=data, out=out, k=(k,), device="cpu")

    def step(what: str, work: object, *given: object, **more: object) -> None:
        nonlocal before
        started = time.perf_counter()
        work(*given, **more)
        row[what] = f"{time.perf_counter() - started:.1f}"
        if proxy is not None:
            row[what] += f" ({len(proxy.requests) - before} requests)"
            before = len(proxy.requests)

    step("extraction", extract, "mnist", out=out, data=data)
    step("found again", extract, "mnist", out=out, data=data)
    step(f"sweep, K = {k}, with test patches", sweep, options)
    step("second sweep", sweep, options)
    step("report", report, out)
    chunks = [place.stat().st_size for key, place in files_below(out) if "/patches/c/" in key]
    row["MB"] = f"{bytes_below(out) / 1e6:.1f}"
    row["largest object of patches, KB"] = f"{max(chunks) / 1e3:.0f}"
    return row
