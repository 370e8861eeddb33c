"""Mini-batch K-means with per-centre learning rates (Sculley 2010, Web-scale k-means clustering).

Sculley's rate 1/v, v being the rows a centre has taken so far, makes each centre the mean of all
rows ever assigned to it. So the state is kept as exact sums, and a batch only adds to them.
"""

import time
from contextlib import closing

import numpy as np

from pipeline.empty_clusters import fill_empty
from pipeline.engines import AssignmentEngine
from pipeline.executors import LocalExecutor, empty_sums
from pipeline.passes import Fit, History, final_fit, mean_squared_error
from pipeline.progress import Progress
from pipeline.streaming import centroid_dtype, read_ahead
from pipeline.sums import ClusterSums


def fit_minibatch(
    executor: LocalExecutor,
    centroids: np.ndarray,
    *,
    max_iter: int,
    tol: float,
    empty: str,
    batch_size: int,
    rng: np.random.Generator,
    progress: Progress,
) -> Fit:
    """Passes in batches, in the order of the source (a store's is random); assumes prepared input.

    centroids: (k, d). max_iter: most passes. tol: ends the run when the squared shift of all
    centroids over a pass is at most tol times the mean variance of the columns. empty: what
    becomes of centroids that took no row in a pass, see `fill_empty`. batch_size: rows; a batch
    ends with its block. A last pass scores the final centroids.
    """
    source, engine = executor.source, executor.engine
    dtype = centroid_dtype(source)
    centroids = centroids.astype(dtype)
    taken = empty_sums(source, len(centroids), executor.origin)
    history = History()
    for update in range(1, max_iter + 1):
        before, started = centroids, time.perf_counter()
        seen = empty_sums(source, len(centroids), executor.origin)
        sse = np.zeros(len(centroids))
        with closing(read_ahead(source)) as blocks:
            for block in blocks:
                for start in range(0, len(block), batch_size):
                    rows = block[start : start + batch_size]
                    batch = assign_batch(engine, centroids, rows, taken)
                    seen += batch
                    sse += batch.sse(centroids)
                    centroids = taken.means(centroids).astype(dtype)
                    progress.advance(len(rows))
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
        converged = redrawn == 0 and shift <= tol * seen.mean_variance()
        if converged:
            break
    return final_fit(
        executor, centroids, history, updates=update, converged=converged, progress=progress
    )


def assign_batch(
    engine: AssignmentEngine, centroids: np.ndarray, rows: np.ndarray, taken: ClusterSums
) -> ClusterSums:
    """Assign one batch and add it to `taken`, in place. Returns: the batch's own sums."""
    engine.load(centroids)
    batch = ClusterSums.zeros(len(centroids), rows.shape[1], rows.dtype, taken.origin)
    engine.step(rows, batch)
    taken += batch
    return batch


def _forget(taken: ClusterSums, replaced: np.ndarray) -> None:
    """A centroid that was put elsewhere starts anew."""
    taken.sums[replaced] = 0
    taken.counts[replaced] = 0
    taken.squares[replaced] = 0
