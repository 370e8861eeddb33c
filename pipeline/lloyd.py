"""Full-batch K-means: Lloyd's algorithm, each step over all rows (Lloyd 1982)."""

import numpy as np

from pipeline.empty_clusters import fill_empty
from pipeline.executors import Executor
from pipeline.passes import Fit, History, Stopped, final_fit, mean_squared_error, stopped_by
from pipeline.progress import Progress
from pipeline.streaming import centroid_dtype


def fit_full(
    executor: Executor,
    centroids: np.ndarray,
    *,
    max_iter: int,
    tol: float,
    target: float,
    empty: str,
    rng: np.random.Generator,
    progress: Progress,
) -> Fit:
    """Lloyd steps from given centroids until they stand still; assumes prepared input.

    centroids: (k, d). max_iter: most steps. tol: as in scikit-learn, the run ends when the squared
    shift of all centroids is at most tol times the mean variance of the columns. target: it also
    ends when a pass gains less than this share of the MSE. empty: see `fill_empty`. A last pass
    scores the centroids it ends with.
    """
    dtype = centroid_dtype(executor.source)
    centroids = centroids.astype(dtype)
    history, before = History(), np.inf
    stopped: Stopped = "max_iter"
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
            return Fit(centroids, sums, sse, history, update, "tol")
        centroids = moved
        if reason := stopped_by(history, before, sums.mean_variance(), tol, target):
            stopped = reason
            break
        before = mse
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
