"""Full-batch K-means: Lloyd's algorithm, each step over all rows (Lloyd 1982)."""

from collections.abc import Callable

import numpy as np

from pipeline.kmeans.empty_clusters import fill_empty
from pipeline.kmeans.history import mean_squared_error
from pipeline.kmeans.loop import END, KMeansLoop, LoopState


class Lloyd(KMeansLoop[LoopState]):
    """Lloyd steps until the centroids stand still; assumes prepared input.

    `max_iter` is the most steps. A last pass scores the centroids it ends with.
    """

    name, kind = "full", LoopState

    def begin(self, centroids: np.ndarray) -> LoopState:
        return LoopState("step", centroids)

    def stages(self) -> dict[str, Callable[[], None]]:
        return {"step": self._step}

    def _step(self) -> None:
        state = self.state
        centroids, source = state.centroids, self.executor.source
        sums, seconds = self.executor.run_pass(centroids, self.progress)
        mse = mean_squared_error(sums.sse(centroids), sums)
        moved = sums.means(centroids).astype(centroids.dtype)
        redrawn = fill_empty(moved, centroids, sums, self.rules.empty, source, self.rng)
        moved = self.rules.allowed(moved)
        shift = float(np.square(moved.astype(np.float64) - centroids).sum())
        state.history.add(sums, mse, shift=shift, redrawn=redrawn, seconds=seconds)
        state.updates += 1
        self.progress.advance(0, **{"pass": state.updates, "live": sums.live, "MSE": mse})
        if shift == 0 and redrawn == 0:  # these sums are those of the final centroids
            state.stopped, state.sums, state.stage = "tol", sums, END
            return
        state.centroids = moved
        self._go_on(mse, sums.mean_variance())
