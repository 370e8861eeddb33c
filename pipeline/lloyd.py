"""Full-batch K-means: Lloyd's algorithm, each step over all rows (Lloyd 1982)."""

import numpy as np

from pipeline.empty_clusters import fill_empty
from pipeline.executors import Executor
from pipeline.passes import Fit, History, final_fit, mean_squared_error
from pipeline.progress import Progress
from pipeline.streaming import centroid_dtype


def fit_full(
    executor: Executor,
    centroids: np.ndarray,
    *,
    max_iter: int,
    tol: float,
    empty: str,
    rng: np.random.Generator,
    progress: Progress,
) -> Fit:
    """Lloyd steps from given centroids until they stand still; assumes prepared input.

    centroids: (k, d). max_iter: most steps. tol: as in scikit-learn, the run ends when the squared
    shift of all centroids is at most tol times the mean variance of the columns; then a last
    pass scores the centroids it ends with. empty: see `fill_empty`.
    """
    dtype = centroid_dtype(executor.source)
    centroids = centroids.astype(dtype)
    history = History()
    for update in range(1, max_iter + 1):
        sums, seconds = executor.run_pass(centroids, progress)
        sse = sums.sse(centroids)
        mse = mean_squared_error(sse, sums)
        moved = sums.means(centroids).astype(dtype)
        redrawn = fill_empty(moved, centroids, sums, empty, executor.source, rng)
        shift = float(np.square(moved.astype(np.float64) - centroids).sum())
        history.add(sums, mse, shift=shift, redrawn=redrawn, seconds=seconds)
        progress.advance(0, **{"pass": update, "MSE": mse})
        if shift == 0 and redrawn == 0:  # these sums are those of the final centroids
            return Fit(centroids, sums, sse, history, update, True)
        centroids = moved
        converged = redrawn == 0 and shift <= tol * sums.mean_variance()
        if converged:
            break
    return final_fit(
        executor, centroids, history, updates=update, converged=converged, progress=progress
    )
