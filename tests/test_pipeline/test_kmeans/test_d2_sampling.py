"""Adding centroids by greedy D² sampling and removing the least missed, against float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engines.cpu.centroid_table import make_table
from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.engines.cpu.simd import WIDTH
from pipeline.engines.cpu.threads import ThreadPool
from pipeline.kmeans.breathing import LISTED, Breathing, removal_costs
from pipeline.kmeans.d2_sampling import (
    add_centroid,
    assign_points,
    draw_centroids,
    make_state,
)
from pipeline.kmeans.d2_trials import LONG, draw_side_by_side
from tests.oracles import squared_distances

RNG = np.random.default_rng


def _whole_vectors(points: np.ndarray) -> np.ndarray:
    return np.pad(points, ((0, 0), (0, -points.shape[1] % WIDTH)))


@settings(max_examples=60, derandomize=True)
@given(
    m=st.integers(1, 200),
    dim=st.sampled_from([1, 2, 16, 17, 25, 80, 200]),
    standing=st.integers(1, 20),
    many=st.integers(1, 60),
    levels=st.sampled_from([2, 5, 200]),
    seed=st.integers(0, 1000),
)
def test_the_potential_is_that_of_the_points_left(
    m: int, dim: int, standing: int, many: int, levels: int, seed: int
) -> None:
    rng = RNG(seed)
    points = rng.integers(0, levels, (m, dim)).astype(np.float32)
    centroids = points[rng.integers(0, m, standing)] + rng.integers(0, 2, (standing, dim))
    centroids = centroids.astype(np.float32)
    state = make_state(_whole_vectors(points), standing + many)
    for j, centroid in enumerate(centroids):
        add_centroid(state, j, centroid)
    assign_points(state, squared_distances(points, centroids).argmin(1))
    potential = squared_distances(points, centroids).min(1).sum()
    assert state.potential.sum() == pytest.approx(potential)
    chosen = np.empty(many, np.int64)
    drawn = draw_centroids(state, standing, dim, rng.random((many, 3)), chosen)
    distances = squared_distances(points, np.concatenate([centroids, points[chosen[:drawn]]]))
    for step in range(drawn):
        before = distances[:, : standing + step].min(1)
        assert before[chosen[step]] > 0  # no row twice
    left = distances[:, : standing + drawn].min(1).sum()
    assert state.potential.sum() == pytest.approx(left, abs=1e-6)
    if drawn < many:
        assert left == 0


def test_draws_are_by_squared_distance_and_the_best_is_kept() -> None:
    # squared distances 0, 1, 4, 25; the farthest first: 25, 29, 30, 30
    points = np.array([[0], [1], [2], [5]], np.float32)
    for draw, expected in (([0.0], 3), ([24.9 / 30], 3), ([25.1 / 30], 2), ([0.99], 1)):
        state = make_state(_whole_vectors(points), 2)
        add_centroid(state, 0, points[0])
        assign_points(state, np.zeros(4, np.int64))
        chosen = np.empty(1, np.int64)
        assert draw_centroids(state, 1, 1, np.array([draw]), chosen) == 1
        assert chosen[0] == expected
    # of two draws the one that gains more: 5 saves 25, 1 saves 1 + 3 + 9 = 13
    state = make_state(_whole_vectors(points), 2)
    add_centroid(state, 0, points[0])
    assign_points(state, np.zeros(4, np.int64))
    draw_centroids(state, 1, 1, np.array([[0.99, 0.0]]), chosen)
    assert chosen[0] == 3


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
@pytest.mark.parametrize("k", [2, 3, 20])
def test_removal_costs_are_what_the_sse_grows_by(dtype: str, k: int) -> None:
    assert k <= LISTED  # so that the second nearest is among the neighbours
    rows = RNG(0).integers(0, 256, (600, 9)).astype(dtype)
    centroids = rows[:k].astype(np.float64 if dtype == "float64" else np.float32)
    engine = PrunedEngine(9, rows.dtype)
    engine.load(centroids)
    table = make_table(centroids, integers=dtype == "uint8")
    costs, nearest = removal_costs(rows, engine.assign(rows), table, ThreadPool())
    distances = squared_distances(rows, centroids)
    for j in range(k):
        grown = np.delete(distances, j, 1).min(1).sum() - distances.min(1).sum()
        assert costs[j] == pytest.approx(grown, rel=1e-2)
    between = squared_distances(centroids, centroids)
    np.fill_diagonal(between, np.inf)
    np.testing.assert_array_equal(nearest, between.argmin(1))


def test_the_least_missed_go_and_leave_their_rows_to_the_nearest() -> None:
    rows = np.repeat(np.array([[0, 0], [1, 0], [90, 0], [0, 90], [91, 1], [200, 200]]), 50, 0)
    rows = rows.astype(np.uint8)
    centroids = np.array([[0, 0], [1, 0], [90, 0], [0, 90], [91, 1], [200, 200]], np.float32)
    breathing = Breathing(rows)
    fewer, successors = breathing.exhale(centroids, 2)
    assert {tuple(c) for c in centroids.tolist()} - {tuple(c) for c in fewer.tolist()} in (
        {(0, 0), (90, 0)},
        {(0, 0), (91, 1)},
        {(1, 0), (90, 0)},
        {(1, 0), (91, 1)},
    )
    np.testing.assert_array_equal(breathing.nearest_among(centroids, fewer), successors)
    few = centroids[:2]
    while len(few) > 1:
        few, _ = breathing.exhale(few, 5)
    assert len(few) == 1


def test_added_centroids_are_rows_where_error_is_large() -> None:
    rows = np.concatenate([RNG(0).integers(0, 9, (400, 3)), [[250, 250, 250]]]).astype(np.uint8)
    breathing = Breathing(rows)
    centroids = rows[:4].astype(np.float32)
    grown = breathing.inhale(centroids, 3, RNG(0))
    np.testing.assert_array_equal(grown[:4], centroids)
    assert grown.dtype == np.float32
    assert [250, 250, 250] in grown[4:].tolist()
    everything = np.unique(rows, axis=0).astype(np.float32)
    assert len(breathing.inhale(everything, 3, RNG(0))) == len(everything)


def test_candidates_that_are_measured_side_by_side_are_the_same() -> None:
    rng = RNG(0)
    points = _whole_vectors(rng.integers(0, 3, (40, LONG)).astype(np.float32))
    points[20:] = points[:20]  # each twice, so that all are centroids before the end
    draws, drawn = rng.random((30, 4)), []
    for side_by_side in (False, True):
        state, chosen = make_state(points, 31), np.full(30, -1)
        add_centroid(state, 0, points[0, :LONG])
        assign_points(state, np.zeros(len(points), np.int64))
        draw, *pool = (draw_side_by_side, ThreadPool()) if side_by_side else (draw_centroids,)
        drawn.append((draw(state, 1, LONG, draws, chosen, *pool), chosen.tolist()))
    assert drawn[0] == drawn[1]
    assert drawn[0][0] == 19
