"""How far from the floor a fit ends: the same rows, and more and more time."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline import StreamingKMeans
from pipeline.runtime.devices import thread_count
from tests.benchmarks.converging import score
from tests.benchmarks.peers import limited_breathing, optional

ROWS = 200_000
RESTARTS = 20
LONG_SEEDS, LONG_ROUNDS, LONG_GAIN = 3, 300, 1e-6  # of the very long fits
LIMIT = 900.0  # seconds of breathing k-means; FLS++ cannot be told to stop

Way = Callable[[np.ndarray, int], np.ndarray]


def ways(limit: float = LIMIT) -> Iterator[tuple[str, Way]]:
    """Names, and what gives centroids, (k, d), for rows, (n, d) uint8, and k.

    limit: in seconds.
    """
    yield "patchdict, defaults", lambda rows, k: best_of(rows, k, 1)
    yield (
        f"patchdict, best of {RESTARTS} `full` from k-means++",
        lambda rows, k: best_of(rows, k, RESTARTS, mode="full", max_iter=300),
    )
    if bkmeans := optional("bkmeans"):
        yield f"bkmeans, at most {limit:.0f} s", lambda rows, k: breathing(bkmeans, rows, k, limit)
    if flspp := optional("flspp"):
        yield "FLS++, then Lloyd to its end", lambda rows, k: local_search(flspp, rows, k)
    yield (
        f"patchdict, {LONG_ROUNDS} rounds of breathing, best of {LONG_SEEDS}",
        lambda rows, k: best_of(
            rows,
            k,
            LONG_SEEDS,
            breathing=LONG_ROUNDS,
            max_iter=10**6,  # the rounds end it
            min_gain=LONG_GAIN,
            tol=LONG_GAIN,
        ),
    )


def best_of(rows: np.ndarray, k: int, seeds: int, **options: object) -> np.ndarray:
    """Centroids of the fit with the lowest SSE."""
    fits = (StreamingKMeans(k, random_state=s, **options).fit(rows) for s in range(seeds))
    return min(fits, key=lambda fit: fit.inertia_).cluster_centers_


def breathing(bkmeans: Any, rows: np.ndarray, k: int, limit: float) -> np.ndarray:
    """Centroids of the reference implementation of breathing k-means, its defaults."""
    model = limited_breathing(bkmeans, limit)(n_clusters=k, random_state=0)
    with threadpool_limits(thread_count()):
        model.fit(rows.astype(np.float32))
    if not model.in_time:
        print(f"bkmeans, K = {k}: stopped after {limit:.0f} s", file=sys.stderr, flush=True)
    return model.cluster_centers_


def local_search(flspp: Any, rows: np.ndarray, k: int) -> np.ndarray:
    """Centroids of FLS++, its defaults; its own Lloyd stops at a gain below 1e-4."""
    swapped = flspp.FLSpp(k, random_state=0).fit(rows.astype(np.float64)).cluster_centers_
    return best_of(rows, k, 1, init=swapped, mode="full", max_iter=300)


def measure(rows: np.ndarray, k: int, limit: float = LIMIT) -> list[dict[str, str]]:
    """A row for each way; excess over the lowest MSE of all. rows: (n, d) uint8."""
    best_of(rows[: 1 << 13], min(k, 100), 1)  # kernels are loaded
    found = []
    for name, way in ways(limit):
        started = time.perf_counter()
        centroids = way(rows, k)
        seconds = time.perf_counter() - started
        found.append((name, seconds, score(rows, centroids)))
        print(f"K = {k}, {name}: {seconds:.1f} s, {found[-1][2]:.3f}", file=sys.stderr, flush=True)
    best = min(mse for *_, mse in found)
    return [
        {
            f"K = {k}, {len(rows):,} rows": name,
            "seconds": f"{seconds:.1f}",
            "MSE": f"{mse:.3f}",
            "excess over the best": f"{mse / best - 1:.3%}",
        }
        for name, seconds, mse in found
    ]
