"""Lloyd and mini-batch loops on cases with known answers."""

from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans

from pipeline import StreamingKMeans
from pipeline.engines import EngineSpec
from pipeline.execution.executor import LocalExecutor
from pipeline.extraction.patches import cut_patches
from pipeline.kmeans.empty_clusters import fill_empty, new_rows
from pipeline.kmeans.history import Fit
from pipeline.kmeans.lloyd import Lloyd
from pipeline.kmeans.loop import StoppingRules
from pipeline.kmeans.minibatch import MiniBatch
from pipeline.rows.source import ArraySource, take_rows
from pipeline.runtime.devices import CPU
from storage import PatchSpec, open_images
from tests.oracles import squared_distances, sums_of

SQUARE = np.array([[0, 0], [0, 2], [10, 0], [10, 2]], np.uint8)


def executor(rows: np.ndarray) -> LocalExecutor:
    engine = EngineSpec.resolve("torch", CPU, rows.shape[1], rows.dtype).make()
    return LocalExecutor(ArraySource(rows), engine)


def lloyd(rows: np.ndarray, centroids: np.ndarray, **options: Any) -> Fit:
    rules = StoppingRules(
        **({"max_iter": 50, "tol": 0.0, "min_gain": 0.0, "empty": "random"} | options)
    )
    run = Lloyd(executor(rows), rules, np.random.default_rng(0))
    run.start(centroids)
    return run.finish()


def minibatch(rows: np.ndarray, centroids: np.ndarray, batch_size: int = 50, **options: Any) -> Fit:
    rules = StoppingRules(
        **({"max_iter": 3, "tol": 0.0, "min_gain": 0.0, "empty": "random"} | options)
    )
    rng = np.random.default_rng(0)
    run = MiniBatch(executor(rows), rules, rng, batch_size=batch_size)
    run.start(centroids)
    return run.finish()


@pytest.fixture(scope="module")
def digits_rows() -> np.ndarray:
    """10,000 4×4 patches of the digits."""
    patches = cut_patches(open_images("digits").images, PatchSpec(4, 4))
    return np.random.default_rng(2).choice(patches, 10_000, replace=False)


def test_four_points_by_hand() -> None:
    fit = lloyd(SQUARE, np.array([[1.0, 1.0], [9.0, 1.0]]))
    assert fit.centroids.tolist() == [[0, 1], [10, 1]]
    assert fit.centroids.dtype == np.float32
    assert fit.sse.tolist() == [2, 2]
    assert fit.mse == 4 / (4 * 2)
    assert fit.sums.counts.tolist() == [2, 2]
    # the first pass moves (1,1) and (9,1) to (0,1) and (10,1); the second finds them at rest
    assert fit.history.mse == [8 / 8, 4 / 8]
    assert fit.history.shift == [2.0, 0.0]
    assert (fit.updates, fit.converged) == (2, True)


def test_sse_never_rises_and_a_solution_is_a_fixed_point(digits_rows: np.ndarray) -> None:
    fit = lloyd(digits_rows, digits_rows[:30].astype(np.float32), max_iter=500)
    assert fit.converged
    assert (np.diff(fit.history.mse) <= 0).all()
    again = lloyd(digits_rows, fit.centroids)
    assert again.updates == 1
    np.testing.assert_array_equal(again.centroids, fit.centroids)
    assert again.mse == fit.mse


def test_scores_belong_to_the_final_centroids(digits_rows: np.ndarray) -> None:
    for fit in (
        lloyd(digits_rows, digits_rows[:30], max_iter=3),
        minibatch(digits_rows, digits_rows[:30]),
    ):
        distances = squared_distances(digits_rows, fit.centroids)
        assert fit.sse.sum() == pytest.approx(distances.min(1).sum(), rel=1e-7)
        expected = sums_of(digits_rows, distances.argmin(1), fit.centroids)
        np.testing.assert_array_equal(fit.sums.counts, expected.counts)
        assert fit.history.mse[-1] == fit.mse
        assert not fit.converged
        assert len(fit.history.mse) == fit.updates + 1 == 4


def test_shuffled_rows_give_the_same_centroids(digits_rows: np.ndarray) -> None:
    init = digits_rows[:30].astype(np.float32)
    shuffled = np.random.default_rng(9).permutation(digits_rows)
    one, other = (lloyd(rows, init, max_iter=7) for rows in (digits_rows, shuffled))
    np.testing.assert_array_equal(one.centroids, other.centroids)
    np.testing.assert_array_equal(one.sums.sums, other.sums.sums)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("k", [5, 100])
def test_steps_agree_with_scikit_learn_in_float64(digits_rows: np.ndarray, k: int) -> None:
    wide = digits_rows.astype(np.float64)
    for steps in (1, 5, 20):
        theirs = KMeans(k, init=wide[:k], n_init=1, max_iter=steps, tol=0, algorithm="lloyd")
        theirs.fit(wide)
        ours = lloyd(digits_rows, wide[:k], max_iter=steps)
        assert ours.sse.sum() == pytest.approx(theirs.inertia_, rel=1e-5)
        labels = squared_distances(digits_rows, ours.centroids).argmin(1)
        assert (labels == theirs.labels_).mean() >= 0.9999


def test_tol_is_relative_to_the_mean_variance(digits_rows: np.ndarray) -> None:
    init = digits_rows[:30].astype(np.float32)
    full = lloyd(digits_rows, init, max_iter=500)
    variance = digits_rows.astype(np.float64).var(axis=0).mean()
    loose = lloyd(digits_rows, init, max_iter=500, tol=0.01)
    assert 1 < loose.updates < full.updates
    *earlier, last = loose.history.shift[: loose.updates]
    assert last <= 0.01 * variance < min(earlier)


@pytest.mark.parametrize("loop", [lloyd, minibatch])
def test_target_is_the_gain_of_a_pass(digits_rows: np.ndarray, loop: Any) -> None:
    rows = digits_rows[:4000]
    init = rows[:30].astype(np.float32)
    full = loop(rows, init, max_iter=20)
    fit = loop(rows, init, max_iter=20, min_gain=0.01)
    assert (fit.stopped, fit.converged) == ("target", True)
    assert fit.updates < full.updates
    mse = np.array(fit.history.mse[: fit.updates])
    gains = (mse[:-1] - mse[1:]) / mse[1:]
    assert gains[-1] < 0.01 <= gains[:-1].min()


@pytest.mark.parametrize("policy", ["random", "split"])
@pytest.mark.parametrize("loop", [lloyd, minibatch])
def test_empty_clusters_come_alive(digits_rows: np.ndarray, policy: str, loop: Any) -> None:
    init = np.concatenate([digits_rows[:20], np.full((5, 16), 1e4)]).astype(np.float32)
    fit = loop(digits_rows, init, max_iter=5, empty=policy)
    assert fit.history.redrawn[0] == 5
    assert fit.history.live[0] == 20
    assert fit.sums.live == 25


def test_a_run_with_an_empty_cluster_has_not_converged() -> None:
    # Nearly all rows are equal: a row drawn blindly is where a centroid stands already.
    rows = np.zeros((3000, 2), np.uint8)
    rows[7], rows[2000] = (9, 9), (90, 90)
    fit = lloyd(rows, np.array([[0, 0], [90, 90], [999, 999]]), max_iter=400)
    assert fit.sums.live == 3
    assert fit.converged
    assert fit.mse == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0, 1e4, 1e8])
def test_scores_of_floats_far_from_zero(dtype: str, offset: float) -> None:
    if dtype == "float32" and offset > 1e4:
        pytest.skip("float32 rows cannot tell such values apart")
    rows = (np.random.default_rng(0).normal(size=(2000, 3)) + offset).astype(dtype)
    for loop in (lloyd, minibatch):
        fit = loop(rows, rows[:5].copy(), max_iter=10)
        assert fit.centroids.dtype == np.dtype(dtype)
        assert fit.sums.live == 5
        expected = squared_distances(rows, fit.centroids).min(1).sum()
        assert fit.sse.sum() == pytest.approx(expected, rel=1e-9)
        variance = rows.astype(np.float64).var(axis=0).mean()
        assert fit.sums.mean_variance() == pytest.approx(variance, rel=1e-4)


def test_random_redraw_takes_rows_and_split_takes_from_the_worst() -> None:
    rows = np.array([[0, 0], [0, 4], [100, 0], [200, 0], [50, 50]], np.uint8)
    old = np.array([[0, 2], [150, 0], [50, 50], [999, 999]], np.float32)
    sums = sums_of(rows, np.array([0, 0, 1, 1, 2]), old)
    for policy in ("random", "split"):
        new = sums.means(old).astype(np.float32)
        rng = np.random.default_rng(0)
        assert fill_empty(new, old, sums, policy, ArraySource(rows), rng) == 1
        np.testing.assert_array_equal(new[[0, 2]], old[[0, 2]])
        if policy == "random":
            np.testing.assert_array_equal(new[1], old[1])
            assert new[3].tolist() in rows.tolist()
        else:  # either side of the worst cluster's mean
            np.testing.assert_allclose(new[1] + new[3], 2 * old[1])
            assert 0 < np.abs(new[3] - old[1]).max() < 1


@pytest.mark.parametrize("values", [2, 50])  # of rows that are nearly all equal, or hardly ever
def test_random_redraws_read_no_more_rows_than_they_need(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(source: ArraySource, numbers: np.ndarray) -> np.ndarray:
        asked.append(len(numbers))
        return take_rows(source, numbers)

    monkeypatch.setattr("pipeline.kmeans.empty_clusters.take_rows", counted)
    for seed in range(20):
        rows = np.random.default_rng(seed).integers(values, size=(99, 2), dtype=np.uint8)
        old = np.concatenate([rows[:3], [[200, 200], [201, 201]]]).astype(np.float32)
        new = old.copy()
        sums = sums_of(rows, np.arange(99) % 3, old)
        rng = np.random.default_rng(seed)
        assert fill_empty(new, old, sums, "random", ArraySource(rows), rng) == 2
        drawn = rows[np.random.default_rng(seed).integers(99, size=16)].astype(np.float32)
        np.testing.assert_array_equal(new[3:], new_rows(drawn, old, 2))
    assert (sum(asked) < 5 * len(asked)) == (values == 50)


def test_a_minibatch_centre_is_the_mean_of_the_rows_it_took() -> None:
    # Sculley's update one row at a time: c += (x - c) / v
    rows = np.array([[1], [3], [90], [4], [98], [100]], np.uint8)
    fit = minibatch(rows, np.array([[0.0], [99.0]]), batch_size=1, max_iter=1)
    centres, taken = [0.0, 99.0], [0, 0]
    for (value,) in rows.astype(float):
        j = int(abs(value - centres[1]) < abs(value - centres[0]))
        taken[j] += 1
        centres[j] += (value - centres[j]) / taken[j]
    np.testing.assert_allclose(fit.centroids[:, 0], centres, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_as_many_centroids_as_rows(n: int) -> None:
    rows = np.arange(n, dtype=np.uint8)[:, None] * 30
    found = StreamingKMeans(n, random_state=0).fit(rows)
    assert sorted(found.cluster_centers_[:, 0].tolist()) == rows[:, 0].tolist()
    assert found.inertia_ == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_that_float32_does_not_tell_apart_get_a_centroid_each(dtype: str) -> None:
    rows = np.array([[0], [1e-9], [1e6]] * 5, dtype)
    for seed in range(5):
        found = StreamingKMeans(3, random_state=seed).fit(rows)
        np.testing.assert_allclose(np.sort(found.cluster_centers_[:, 0]), rows[:3, 0], rtol=0.1)
        assert found.counts_.tolist() == [5, 5, 5]


@pytest.mark.parametrize("mode", ["nested", "full", "minibatch"])
@pytest.mark.parametrize("empty", ["random", "split"])
def test_k_asked_is_k_live(mode: str, empty: str) -> None:
    # Nearly all rows are equal: a random seed or a random draw is where a centroid stands already.
    rows = np.zeros((4000, 2), np.uint8)
    rows[[7, 900, 2000, 3500, 3999]] = [(9, 9), (90, 90), (0, 200), (200, 0), (255, 255)]
    init = np.array([[0, 0], [0, 0.5], [0.5, 0], [0.25, 0.25], [0, 0.25], [0.1, 0]])
    found = StreamingKMeans(6, init=init, mode=mode, empty=empty, max_iter=2, random_state=0)
    found.fit(rows)
    assert (found.counts_ > 0).all()
    assert found.counts_.sum() == 4000
    distances = squared_distances(rows, found.cluster_centers_)
    np.testing.assert_array_equal(found.counts_, np.bincount(distances.argmin(1), minlength=6))
