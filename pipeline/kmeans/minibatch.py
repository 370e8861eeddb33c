"""Mini-batch K-means with per-centre learning rates (Sculley 2010, Web-scale k-means clustering).

Sculley's rate 1/v, v being the rows a centre has taken so far, makes each centre the mean of all
rows ever assigned to it. So the state is kept as exact sums, and a batch only adds to them.
"""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.engines import AssignmentEngine
from pipeline.execution.executor import LocalExecutor
from pipeline.kmeans.empty_clusters import fill_empty
from pipeline.kmeans.history import mean_squared_error
from pipeline.kmeans.loop import KMeansLoop, LoopState, StoppingRules
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import RowSource, read_ahead


@dataclass
class MiniBatchState(LoopState):
    """taken: sums of all rows that each centroid took so far."""

    taken: ClusterSums | None = None


class MiniBatch(KMeansLoop[MiniBatchState]):
    """Passes in batches, in the order of the source (a store's is random).

    Assumes prepared input. `max_iter` is the most passes; `tol` and `min_gain` look at a whole
    pass, at its MSE as met on the way. batch_size: rows; a batch ends with its block. A last pass
    scores the final centroids.
    """

    name, kind = "minibatch", MiniBatchState
    executor: LocalExecutor

    def __init__(self, executor: LocalExecutor, *rest: Any, batch_size: int, **named: Any) -> None:
        super().__init__(executor, *rest, **named)
        self.batch_size = batch_size

    def begin(self, centroids: np.ndarray) -> MiniBatchState:
        taken = ClusterSums.zeros(centroids, self.executor.source.dtype)
        return MiniBatchState("learn", centroids, taken=taken)

    def stages(self) -> dict[str, Callable[[], None]]:
        return {"learn": self._learn}

    def _learn(self) -> None:
        state = self.state
        source, engine, taken = self.executor.source, self.executor.engine, state.taken
        assert taken is not None
        centroids, started = state.centroids, time.perf_counter()
        seen, sse = ClusterSums.zeros(centroids, source.dtype), np.zeros(len(centroids))
        rules, size = self.rules, self.batch_size
        with closing(learn_batches(source, engine, centroids, taken, size, rules)) as steps:
            for batch, batch_sse, after in steps:
                seen += batch
                sse += batch_sse
                centroids = after
                self.progress.advance(batch.n_rows)
        # Batches were scored before they moved their centroids: an estimate, from above.
        mse = mean_squared_error(sse, seen)
        moved = centroids.copy()
        redrawn = fill_empty(moved, centroids, seen, self.rules.empty, source, self.rng)
        elsewhere = np.any(moved != centroids, axis=1)  # a centroid put there starts anew
        moved[elsewhere] = rules.allowed(moved[elsewhere])
        taken.sums[elsewhere] = taken.counts[elsewhere] = taken.squares[elsewhere] = 0
        shift = float(np.square(moved.astype(np.float64) - state.centroids).sum())
        seconds = time.perf_counter() - started
        state.history.add(seen, mse, shift=shift, redrawn=redrawn, seconds=seconds)
        state.centroids, state.updates = moved, state.updates + 1
        self.progress.advance(0, **{"pass": state.updates, "live": seen.live, "MSE": mse})
        self._go_on(mse, seen.mean_variance())


def learn_batches(
    source: RowSource,
    engine: AssignmentEngine,
    centroids: np.ndarray,
    taken: ClusterSums,
    batch_size: int,
    rules: StoppingRules,
) -> Generator[tuple[ClusterSums, np.ndarray, np.ndarray]]:
    """Sculley's steps over all rows of the source, each adding its batch to `taken`, in place.

    rules: which centroids are allowed.

    Yields: for each batch its own sums, its SSE (k,) before the step, the centroids after it.
    """
    with closing(read_ahead(source)) as blocks:
        for block in blocks:
            for start in range(0, len(block), batch_size):
                engine.load(centroids)
                batch = ClusterSums.zeros(centroids, source.dtype)
                engine.step(block[start : start + batch_size], batch)
                taken += batch
                sse = batch.sse(centroids)
                centroids = rules.allowed(taken.means(centroids).astype(centroids.dtype))
                yield batch, sse, centroids
