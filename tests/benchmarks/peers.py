"""Peers that need more than a line to call, and those that may not be installed."""

import importlib
import sys
import time
from types import ModuleType
from typing import Any

import numpy as np
from superkmeans import SuperKMeans

from pipeline.runtime.devices import thread_count


def optional(name: str) -> ModuleType | None:
    """A package, or None and a line on standard error that says why it is left out."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"{name} is left out: {error}", file=sys.stderr, flush=True)
        return None


def flat_superkmeans(k: int, dim: int, steps: int, quantizer: str = "f32") -> SuperKMeans:
    """So many Lloyd steps on all rows; its defaults take a sample and go hierarchical.

    quantizer: "sq8" takes rows as bytes.
    """
    return SuperKMeans(
        k,
        dim,
        hierarchical=False,
        quantizer=quantizer,
        iters=steps,
        sampling_fraction=1.0,
        max_points_per_cluster=10**9,
        early_termination=False,
        n_threads=thread_count(),
    )


def mlpack_steps(mlpack: ModuleType, rows: np.ndarray, centroids: np.ndarray, steps: int) -> float:
    """Seconds of its Elkan, the fastest of its five at d = 192, on one thread as it comes.

    rows: (n, d) float64.
    """
    started = time.perf_counter()
    mlpack.kmeans(
        input_=rows,
        clusters=len(centroids),
        initial_centroids=centroids,
        max_iterations=steps,
        algorithm="elkan",
        allow_empty_clusters=True,
    )
    return time.perf_counter() - started


def limited_breathing(bkmeans: ModuleType, limit: float) -> type[Any]:
    """Breathing k-means that ends after so many seconds, with the best it has by then."""

    class Limited(bkmeans.BKMeans):  # type: ignore[name-defined]
        """in_time: whether it ended by itself."""

        in_time = True

        def fit(self, X: np.ndarray) -> "Limited":  # noqa: N803  # scikit-learn's names
            """Learn; rows (n, d) float32."""
            self._wanted, self._best = self.n_clusters, (np.inf, np.empty((0, 0)))
            self._end = time.perf_counter() + limit
            try:
                return super().fit(X)
            except TimeoutError:
                self.in_time = False
                self.inertia_, self.cluster_centers_ = self._best
            return self

        def _lloyd(self, *arguments: Any) -> None:
            self._note()  # the first fit too
            if time.perf_counter() > self._end:
                raise TimeoutError
            super()._lloyd(*arguments)
            self._note()

        def _note(self) -> None:
            if len(self.cluster_centers_) == self._wanted and self.inertia_ < self._best[0]:
                self._best = self.inertia_, self.cluster_centers_

    return Limited
