"""Other ways to launch the fused kernel, for some K and d: which is the fastest here."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from tests.benchmarks.gpu.rates import BYTES, MOST_BYTES
from tests.benchmarks.gpu.sampling import centroids_of, on_device, sample_rows
from tests.benchmarks.gpu.settings import Settings, kernels_name
from tests.benchmarks.gpu.timing import median_seconds
from tests.benchmarks.tables import number

ROWS, CENTROIDS, WARPS, STAGES, GROUPS = (128, 256), (32, 64, 128), (4, 8, 16), (2, 3), (1, 4, 8)
BEST_SHOWN = 4


def measure(settings: Settings) -> list[dict[str, str]]:
    """The usual launch and the best ones, for each d and the two largest K, while time lasts."""
    if kernels_name(settings) != "fused":
        return [{"tuning": "nothing to tune without the fused kernels"}]
    pairs = [(dim, k) for dim in settings.dims for k in sorted(settings.k)[-2:]]
    table = []
    for dim, k in pairs:
        found, _ = sample_rows(settings, dim, min(settings.rows, MOST_BYTES // dim))
        rows = on_device(found[: max(k, settings.products // (k * dim))], settings.torch_device)
        centroids = centroids_of(settings, rows, k, BYTES)
        table += _best(settings, rows, centroids, settings.tuning_seconds / len(pairs))
    return table


def _best(
    settings: Settings, rows: torch.Tensor, centroids: np.ndarray, limit: float
) -> list[dict[str, str]]:
    until = time.monotonic() + limit
    seconds, usual = _time(settings, rows, centroids, {})
    found, tried, refused = [], 0, 0
    for options in candidates():
        if time.monotonic() > until:
            break
        tried += 1
        try:
            taken, labels = _time(settings, rows, centroids, options)
        except Exception:  # Triton has many ways to say that a launch does not fit the GPU
            refused += 1
            continue
        found.append((taken, options, float((labels == usual).double().mean())))
    common = {"d": str(rows.shape[1]), "K": str(len(centroids))}
    table = [
        common
        | {
            "launch": f"the usual one; {tried} others tried, {refused} do not fit",
            "ms": f"{number(seconds * 1e3)}",
            "times the usual": "1.00",
            "same labels": "100 %",
        }
    ]
    for taken, options, same in sorted(found, key=lambda one: one[0])[:BEST_SHOWN]:
        table.append(
            common
            | {
                "launch": f"{options['configuration']}, group {options['group']}",
                "ms": f"{number(taken * 1e3)}",
                "times the usual": f"{taken / seconds:.2f}",
                "same labels": f"{100 * same:.4f} %",
            }
        )
    return table


def candidates() -> Iterator[dict[str, Any]]:
    """The product's own ones first, then others in a mixed order, so that few are a sample."""
    from pipeline.engines.device import fused_search as fused  # needs Triton

    own = [c for several in fused.CONFIGURATIONS.values() for c in several]
    grid = [
        fused.Configuration(*sizes) for sizes in itertools.product(ROWS, CENTROIDS, WARPS, STAGES)
    ]
    others = [c for c in grid if c not in own]
    np.random.default_rng(0).shuffle(others)
    for configuration in [*dict.fromkeys(own), *(fused.Configuration(*c) for c in others)]:
        for group in GROUPS:
            yield {"configuration": configuration, "group": group}


def _time(
    settings: Settings, rows: torch.Tensor, centroids: np.ndarray, options: dict[str, Any]
) -> tuple[float, torch.Tensor]:
    """Seconds of an assignment, and its labels."""
    from pipeline.engines.device.fused_search import FusedKernels  # needs Triton

    kernels = FusedKernels(rows.device, rows.shape[1], BYTES, **options)
    kernels.load(centroids)
    labels = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
    seconds = median_seconds(rows.device, lambda: kernels.label(rows, labels), settings.repeats)
    return seconds, labels
