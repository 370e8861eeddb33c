"""Full-batch steps of each engine against faiss's flat search and scikit-learn's Lloyd step."""

import time
import warnings
from collections.abc import Callable

import faiss
import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from pipeline.devices import thread_count
from pipeline.engines.dense import DenseEngine
from pipeline.streaming import StoreSource, block_count, read_ahead
from pipeline.sums import ClusterSums
from storage import PatchStore

MAX_PRODUCTS = 1 << 31  # rows · K of one measurement: larger K take fewer rows
EXTRA_STEPS = 4


def measure(
    store: PatchStore,
    rows: int,
    sizes: list[int],
    repeats: int,
    middle: Callable[[list[float]], float],
) -> list[dict[str, str]]:
    """A row for each K: nanoseconds per row, and ratios to the peers (above 1: we are faster)."""
    source = StoreSource(store)
    blocks = -(-rows // source.block_rows)
    data = np.concatenate(list(read_ahead(source, range(min(blocks, block_count(source))))))[:rows]
    table = []
    for k in sizes:
        part = data[: max(1 << 15, min(len(data), MAX_PRODUCTS // k))]
        chosen = np.random.default_rng(0).choice(len(part), k, replace=False)
        centroids = part[chosen].astype(np.float32)
        wide = part.astype(np.float32)
        # Interleaved, so that a noisy spell of the machine meets all of them.
        runs = [
            (_ours(part, centroids), _faiss(wide, centroids), _scikit_learn(wide, centroids))
            for _ in range(repeats)
        ]
        ours, flat, lloyd = (
            middle(list(times)) / len(part) * 1e9 for times in zip(*runs, strict=True)
        )
        table.append(
            {
                "K": str(k),
                "rows": f"{len(part):,}",
                "patchdict torch engine": f"{ours:.0f}",
                "faiss flat search (no sums)": f"{flat:.0f}",
                "scikit-learn Lloyd step": f"{lloyd:.0f}",
                "times faiss": f"{flat / ours:.2f}",
                "times scikit-learn": f"{lloyd / ours:.2f}",
            }
        )
    return table


def _ours(rows: np.ndarray, centroids: np.ndarray) -> float:
    engine = DenseEngine(torch.device("cpu"), rows.shape[1], rows.dtype)
    started = time.perf_counter()
    engine.load(centroids)
    engine.step(rows, ClusterSums.zeros(len(centroids), rows.shape[1], rows.dtype))
    return time.perf_counter() - started


def _faiss(rows: np.ndarray, centroids: np.ndarray) -> float:
    faiss.omp_set_num_threads(thread_count())
    index = faiss.IndexFlatL2(rows.shape[1])
    started = time.perf_counter()
    index.add(centroids)
    index.search(rows, 1)
    return time.perf_counter() - started


def _scikit_learn(rows: np.ndarray, centroids: np.ndarray) -> float:
    """One step: what EXTRA_STEPS more of them add, so that setting up does not count."""

    def seconds(steps: int) -> float:
        model = KMeans(len(centroids), init=centroids, n_init=1, max_iter=steps, tol=0)
        started = time.perf_counter()
        with threadpool_limits(thread_count()), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # one step is meant
            model.fit(rows)
        return time.perf_counter() - started

    return max(seconds(1 + EXTRA_STEPS) - seconds(1), 0.0) / EXTRA_STEPS
