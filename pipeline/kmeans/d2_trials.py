"""Greedy D² sampling of long rows: the candidates of a step are measured side by side.

The sums of each are those of `draw_centroids`, term by term, whatever the number of threads.
"""

from typing import Any

import numpy as np

from pipeline.engines.cpu.simd import kernel
from pipeline.engines.cpu.threads import ThreadPool
from pipeline.kmeans.d2_sampling import (
    D2_KERNELS,
    NOBODY,
    D2State,
    add_centroid,
    draw_centroids,
    draw_point,
    gain_of,
    near_clusters,
    take_over,
)

LONG = 128  # values of a row, from which on a step is worth its threads


@kernel
def draw_points(state: D2State, k: int, draws: np.ndarray, points: np.ndarray) -> bool:
    """Candidates of one step into `points`, one for each draw; whether there are any."""
    everything = state.potential[:k].sum()
    if not everything > 0:
        return False
    for trial in range(len(draws)):
        points[trial] = draw_point(state, k, draws[trial] * everything)
    return True


@kernel
def measure_gain(
    state: D2State, k: int, dim: int, point: int, near: np.ndarray, squares: np.ndarray
) -> tuple[float, int]:
    """What a candidate gains, and how many clusters are near it: those in `near`."""
    count = near_clusters(state, k, dim, point, near, squares)
    return gain_of(state, point, count, near, squares), count


@kernel
def accept_point(
    state: D2State, k: int, dim: int, point: int, count: int, near: np.ndarray, squares: np.ndarray
) -> None:
    """Make a candidate centroid k; near, count, squares: as `measure_gain` found them."""
    add_centroid(state, k, state.points[point, :dim])
    take_over(state, k, point, count, near, squares)


def kernels_for(dim: int) -> tuple[Any, ...]:
    """Numba's kernels that sampling of such rows calls."""
    if dim < LONG:
        return D2_KERNELS
    others = tuple(kernel for kernel in D2_KERNELS if kernel is not draw_centroids)
    return *others, draw_points, measure_gain, accept_point


def draw_side_by_side(
    state: D2State, k: int, dim: int, draws: np.ndarray, chosen: np.ndarray, pool: ThreadPool
) -> int:
    """As `draw_centroids`, with a thread for each candidate."""
    trials, width = draws.shape[1], len(state.start)
    points, near = np.empty(trials, np.int64), np.empty((trials, width), np.int32)
    squares = np.empty((trials, width), np.float32)
    each = [(trial, trial + 1) for trial in range(trials)]

    def measured(trial: int, _: int) -> tuple[float, int]:
        if points[trial] == NOBODY:
            return -1.0, 0
        return measure_gain(state, k, dim, points[trial], near[trial], squares[trial])

    for step in range(len(draws)):
        if not draw_points(state, k, draws[step], points):
            return step
        gains = pool.run(measured, each)
        best = max(range(trials), key=lambda trial: gains[trial][0])  # the first of equal ones
        if points[best] == NOBODY:
            return step
        count = gains[best][1]
        accept_point(state, k, dim, points[best], count, near[best], squares[best])
        chosen[step] = points[best]
        k += 1
    return len(draws)
