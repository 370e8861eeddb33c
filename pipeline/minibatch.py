"""Mini-batch K-means with per-centre learning rates (Sculley 2010, Web-scale k-means clustering).

Sculley's rate 1/v, v being the rows a centre has taken so far, makes each centre the mean of all
rows ever assigned to it. So the state is kept as exact sums, and a batch only adds to them.
"""

import time
from collections.abc import Generator
from contextlib import closing

import numpy as np

from pipeline.empty_clusters import fill_empty
from pipeline.engines import AssignmentEngine
from pipeline.executors import LocalExecutor, empty_sums
from pipeline.passes import Fit, History, Stopped, final_fit, mean_squared_error, stopped_by
from pipeline.progress import Progress
from pipeline.streaming import Source, centroid_dtype, read_ahead
from pipeline.sums import ClusterSums


def fit_minibatch(
    executor: LocalExecutor,
    centroids: np.ndarray,
    *,
    max_iter: int,
    tol: float,
    target: float,
    empty: str,
    batch_size: int,
    rng: np.random.Generator,
    progress: Progress,
) -> Fit:
    """Passes in batches, in the order of the source (a store's is random); assumes prepared input.

    centroids: (k, d). max_iter: most passes. tol: ends the run when the squared shift of all
    centroids over a pass is at most tol times the mean variance of the columns. target: it also
    ends when a pass gains less than this share of the MSE, as met on the way. empty: what becomes
    of centroids that took no row in a pass, see `fill_empty`. batch_size: rows; a batch ends with
    its block. A last pass scores the final centroids.
    """
    source, engine = executor.source, executor.engine
    centroids = centroids.astype(centroid_dtype(source))
    taken = empty_sums(source, len(centroids))
    history, mse_before = History(), np.inf
    stopped: Stopped = "max_iter"
    for update in range(1, max_iter + 1):
        before, started = centroids, time.perf_counter()
        seen = empty_sums(source, len(centroids))
        sse = np.zeros(len(centroids))
        with closing(learn_batches(source, engine, centroids, taken, batch_size)) as steps:
            for batch, batch_sse, after in steps:
                seen += batch
                sse += batch_sse
                centroids = after
                progress.advance(batch.n_rows)
        # Batches were scored before they moved their centroids: an estimate, from above.
        mse = mean_squared_error(sse, seen)
        moved = centroids.copy()
        redrawn = fill_empty(moved, centroids, seen, empty, source, rng)
        _forget(taken, np.any(moved != centroids, axis=1))
        centroids = moved
        shift = float(np.square(centroids.astype(np.float64) - before).sum())
        seconds = time.perf_counter() - started
        history.add(seen, mse, shift=shift, redrawn=redrawn, seconds=seconds)
        progress.advance(0, **{"pass": update, "MSE": mse})
        if reason := stopped_by(history, mse_before, seen.mean_variance(), tol, target):
            stopped = reason
            break
        mse_before = mse
    return final_fit(
        executor,
        centroids,
        history,
        empty=empty,
        rng=rng,
        updates=update,
        stopped=stopped,
        progress=progress,
    )


def learn_batches(
    source: Source,
    engine: AssignmentEngine,
    centroids: np.ndarray,
    taken: ClusterSums,
    batch_size: int,
) -> Generator[tuple[ClusterSums, np.ndarray, np.ndarray]]:
    """Sculley's steps over all rows of the source, each adding its batch to `taken`, in place.

    Yields: for each batch its own sums, its SSE (k,) before the step, the centroids after it.
    """
    with closing(read_ahead(source)) as blocks:
        for block in blocks:
            for start in range(0, len(block), batch_size):
                engine.load(centroids)
                batch = ClusterSums.zeros(len(centroids), source.dim, source.dtype, taken.origin)
                engine.step(block[start : start + batch_size], batch)
                taken += batch
                sse = batch.sse(centroids)
                centroids = taken.means(centroids).astype(centroids.dtype)
                yield batch, sse, centroids


def _forget(taken: ClusterSums, replaced: np.ndarray) -> None:
    """A centroid that was put elsewhere starts anew."""
    taken.sums[replaced] = 0
    taken.counts[replaced] = 0
    taken.squares[replaced] = 0
