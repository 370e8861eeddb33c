"""Growing prefixes, moves, and what is remembered when the number of centroids changes."""

from contextlib import closing
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import StreamingKMeans
from pipeline.engines import EngineSpec
from pipeline.engines.cpu import labeller
from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.execution.executor import LocalExecutor
from pipeline.extraction.patches import cut_patches
from pipeline.kmeans import nested
from pipeline.kmeans.breathing import Breathing, added
from pipeline.kmeans.history import Fit
from pipeline.kmeans.loop import StoppingRules
from pipeline.kmeans.nested import Nested, NestedState, prefixes
from pipeline.kmeans.seeding import kmeans_plus_plus
from pipeline.rows.source import ArraySource
from pipeline.runtime.devices import CPU
from pipeline.runtime.progress import SilentProgress
from storage import PatchSpec, open_images
from tests.oracles import squared_distances, sums_of


@pytest.fixture(scope="module")
def digits_rows() -> np.ndarray:
    """16,000 4×4 patches of the digits, in random order."""
    patches = cut_patches(open_images("digits").images, PatchSpec(4, 4))
    return np.random.default_rng(2).permutation(patches)[:16_000]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefixes for small data."""
    monkeypatch.setattr(nested, "FIRST_ROWS", 1000)
    monkeypatch.setattr(nested, "FIRST_PER_CENTROID", 20)
    monkeypatch.setattr(nested, "MOVE_ROWS", 4000)
    monkeypatch.setattr(nested, "MOVE_PER_CENTROID", 50)


def run_nested(
    executor: LocalExecutor, start: np.ndarray, breathing: Breathing, **options: Any
) -> Fit:
    rules = {"max_iter": 100, "tol": 1e-4, "min_gain": 2e-4, "empty": "random"}
    rules |= {name: options.pop(name) for name in tuple(options) if name in rules}
    more = {"rounds": 4, "warm": False} | options
    rng = np.random.default_rng(1)
    run = Nested(executor, StoppingRules(**rules), rng, k=len(start), breathing=breathing, **more)
    run.start(start)
    return run.finish()


def fit(rows: np.ndarray, k: int, *, engine: str = "auto", seed: int = 0, **options: Any) -> Fit:
    start = kmeans_plus_plus(rows[: max(20 * k, 500)], k, np.random.default_rng(seed))
    source = ArraySource(rows)
    found = EngineSpec.resolve(engine, CPU, source.dim, source.dtype).make()
    with closing(LocalExecutor(source, found, found.cache_for(source))) as executor:
        return run_nested(executor, start, Breathing(rows[:8000]), **options)


@given(n=st.integers(1, 10**9), k=st.integers(1, 10**5), warm=st.booleans())
def test_prefixes_double_up_to_all_rows(n: int, k: int, warm: bool) -> None:
    sizes, moving = prefixes(n, k, warm=warm)
    assert sizes[-1] == n
    for shorter, longer in pairwise(sizes):
        assert shorter == -(-longer // 2)
    if len(sizes) > 1:
        assert sizes[0] >= max(nested.FIRST_ROWS, nested.FIRST_PER_CENTROID * k)
    assert moving == 0 or not warm
    enough = max(nested.MOVE_ROWS, nested.MOVE_PER_CENTROID * k)
    assert sizes[moving] == n or sizes[moving] >= enough
    if not warm and moving:
        assert sizes[moving - 1] < enough


@pytest.mark.usefixtures("short")
def test_the_last_rounds_move_few_however_many_are_wanted(digits_rows: np.ndarray) -> None:
    history = fit(digits_rows[:1900], 40, rounds=200, min_gain=0.0, tol=0.0).history
    surplus = np.array(history.live) - 40
    moved = surplus[np.diff(surplus, prepend=0) > 0]  # by each round
    assert moved[0] == added(40) > 10
    assert moved[-1] <= moved[0] / 2


@pytest.mark.usefixtures("short")
def test_a_pass_that_takes_longer_has_to_gain_more(
    digits_rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, passes = len(digits_rows), []
    for times, costly in ((nested.AT_LEAST, np.inf), (2, n * 20), (nested.AT_MOST, 1.0)):
        monkeypatch.setattr(nested, "COSTLY", costly)
        history = fit(digits_rows, 40, min_gain=2e-5).history
        mse = np.array(history.mse)[np.equal(history.rows, n)]
        steps = mse[:-1]  # the last pass is one to score
        gains = (steps[:-2] - steps[2:]) / steps[2:]  # of two
        assert gains[-1] < 2 * times * 2e-5
        assert gains[:-1].min() >= 2 * times * 2e-5
        passes.append(len(mse))
    assert passes[2] < passes[0]
    assert passes == sorted(passes, reverse=True)


@pytest.mark.usefixtures("short")
def test_prefixes_grow_and_scores_belong_to_the_final_centroids(digits_rows: np.ndarray) -> None:
    found = fit(digits_rows, 40)
    history = found.history
    assert sorted(set(history.rows)) == [1000, 2000, 4000, 8000, 16000]
    assert history.rows == sorted(history.rows)
    assert {n for n, live in zip(history.rows, history.live, strict=True) if live > 40} == {4000}
    distances = squared_distances(digits_rows, found.centroids)
    expected = sums_of(digits_rows, distances.argmin(1), found.centroids)
    np.testing.assert_array_equal(found.sums.counts, expected.counts)
    np.testing.assert_array_equal(found.sums.sums, expected.sums)
    assert found.sse.sum() == pytest.approx(distances.min(1).sum(), rel=1e-7)
    assert history.mse[-1] == found.mse
    assert found.updates == len(history.rows) - 1
    assert {len(values) for values in vars(history).values()} == {len(history.rows)}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("k", [20, 100])
def test_ends_within_half_a_percent_of_100_full_passes(digits_rows: np.ndarray, k: int) -> None:
    full = StreamingKMeans(k, mode="full", tol=0, random_state=0).fit(digits_rows)
    # One start alone tells chance.
    found = [fit(digits_rows, k, seed=seed, rounds=8).mse for seed in range(3)]
    assert np.median(found) <= 1.005 * full.inertia_ / digits_rows.size


@pytest.mark.usefixtures("short")
def test_bits_depend_on_neither_blocks_nor_threads_nor_engine(
    digits_rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = fit(digits_rows, 50)
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 16 * 700)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(labeller, "SMALL", 8)
    monkeypatch.setattr(labeller, "FEW_ROWS", 0)
    for engine in ("pruned", "torch"):
        other = fit(digits_rows, 50, engine=engine)
        np.testing.assert_array_equal(one.centroids, other.centroids)
        np.testing.assert_array_equal(one.sums.counts, other.sums.counts)
        assert one.history.mse == other.history.mse


@pytest.mark.usefixtures("short")
def test_moves_leave_a_solution_that_lloyd_cannot() -> None:
    # Nine blobs in a row; Lloyd never carries a centroid from one end to the other.
    rng = np.random.default_rng(3)
    blobs = np.stack([np.arange(9) * 28, np.zeros(9)], 1)
    rows = (blobs[rng.integers(0, 9, 8000)] + rng.integers(0, 3, (8000, 2))).astype(np.uint8)
    start = np.concatenate([rows[rows[:, 0] < 30][:5], blobs[[5, 6, 7, 8]]]).astype(np.float32)
    source = ArraySource(rows)
    mse = {}
    for rounds in (0, 6):
        executor = LocalExecutor(source, PrunedEngine(2, rows.dtype))
        breathing = Breathing(rows[:2000])
        options = {"tol": 0.0, "min_gain": 0.0, "rounds": rounds}
        found = run_nested(executor, start, breathing, **options)
        mse[rounds] = found.mse
    assert mse[0] > 40
    assert mse[6] < 1.0  # each blob has one


@pytest.mark.usefixtures("short")
def test_a_round_that_does_not_help_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    # One centroid for each of nine blobs: nothing can be better, whatever a round comes to.
    rng = np.random.default_rng(3)
    blobs = np.stack([np.arange(9) * 28, np.arange(9) * 20], 1)
    rows = (blobs[rng.integers(0, 9, 8000)] + rng.integers(0, 3, (8000, 2))).astype(np.uint8)
    best = fit(rows, 9, rounds=0)

    def spoil(run: Nested) -> None:
        k, state = run._k, run.state
        state.centroids = state.centroids[[0] * k] + np.arange(k, dtype=np.float32)[:, None]
        state.history.mse[-1] *= 100
        judge(run)

    judge = Nested._judge
    monkeypatch.setattr(Nested, "_judge", spoil)
    assert fit(rows, 9, rounds=3).mse == pytest.approx(best.mse, rel=1e-6)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("most", [1, 4, 20])
def test_max_iter_bounds_the_steps_on_each_prefix(digits_rows: np.ndarray, most: int) -> None:
    history = fit(digits_rows, 60, rounds=8, max_iter=most, min_gain=0.0, tol=0.0).history
    steps = np.array(history.rows[:-1])
    assert all((steps == rows).sum() <= most for rows in set(history.rows))
    assert (max(history.live) > 60) == (most > 8)  # a round has its five steps, or is not begun


@pytest.mark.usefixtures("short")
def test_rounds_for_which_steps_are_too_few_are_on_the_next_prefix(digits_rows: np.ndarray) -> None:
    for most, expected in ((12, {4000, 8000}), (100, {4000})):
        history = fit(digits_rows, 60, rounds=12, max_iter=most, tol=0.0).history
        tried = {rows for rows, live in zip(history.rows, history.live, strict=True) if live > 60}
        assert tried == expected


def test_steps_after_a_removal_go_on_while_they_may_make_the_round_pay() -> None:
    run = object.__new__(Nested)
    run.state = state = NestedState("exhale", np.empty(0), last=100, lowest=10.0, step=2)
    cases = {(12.0, 11.0): True, (12.0, 11.5): False, (11.0, 9.9): False, (10.5, 11.0): False}
    for mse, more in cases.items():  # what is missing: up to twice what the last step gained
        state.history.mse[:] = mse
        state.updates = 50
        assert run._goes_on() == more
        state.updates = 100  # none are left
        assert not run._goes_on()
    state.history.mse[:], state.updates, state.step = [12.0, 11.0], 50, nested.MOST_STEPS
    assert not run._goes_on()


@pytest.mark.usefixtures("short")
def test_rounds_on_all_rows_leave_steps_to_settle(digits_rows: np.ndarray) -> None:
    history = fit(digits_rows[:1900], 40, rounds=40, max_iter=60, min_gain=0.0, tol=0.0).history
    on_trial = np.flatnonzero(np.array(history.live) > 40)
    assert len(history.live) - 1 == 60
    assert 40 < on_trial[-1] < 54


def test_momentum_ends_lower_and_stops_where_it_went_too_far(
    digits_rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fit(digits_rows, 300, rounds=0, min_gain=1e-4)
    mse = found.history.mse
    assert not any(a < b < c for a, b, c in zip(mse, mse[1:], mse[2:], strict=False))  # means after
    monkeypatch.setattr(nested, "MOMENTUM", 0.0)
    plain = fit(digits_rows, 300, rounds=0, min_gain=1e-4)
    assert found.mse == min(mse) < 0.999 * plain.mse
    assert min(mse[: len(plain.history.mse)]) < plain.mse  # and sooner


def test_what_an_engine_met_before_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(60, 200, (4000, 6)).astype(np.uint8)
    fresh, used = (Breathing(rows, PrunedEngine(6, rows.dtype)) for _ in range(2))
    used._engine.load(np.array([[0.0] * 6, [255.0] * 6], np.float32))  # another shift and scale
    for k in (40, 60, 80, 100):
        centroids = rows[rng.permutation(4000)[:k]].astype(np.float32)
        (kept, successors), (kept_too, successors_too) = (
            b.exhale(centroids, 9) for b in (fresh, used)
        )
        np.testing.assert_array_equal(kept, kept_too)
        np.testing.assert_array_equal(successors, successors_too)


@pytest.mark.usefixtures("short")
def test_why_a_run_stopped_and_that_options_do_something(digits_rows: np.ndarray) -> None:
    runs = {
        "target": fit(digits_rows, 30, min_gain=0.01),
        "tol": fit(digits_rows, 30, min_gain=0.0, tol=0.01),
        "max_iter": fit(digits_rows, 30, min_gain=0.0, tol=0.0, max_iter=3),
        "still": fit(digits_rows, 30, rounds=0),
        "warm": fit(digits_rows, 30, warm=True),
    }
    assert all(runs[name].stopped == name for name in ("target", "tol", "max_iter"))
    assert not runs["max_iter"].converged
    assert max(runs["still"].history.live) == 30
    assert runs["warm"].history.rows[0] == 4000
    assert len({run.mse for run in runs.values()}) == len(runs)
    history = runs["target"].history
    last = [mse for rows, mse in zip(history.rows, history.mse, strict=True) if rows == 16000]
    assert last[-3] - last[-2] < 0.01 * last[-2]


def test_guesses_outlive_a_change_of_k(digits_rows: np.ndarray) -> None:
    # Twenty centroids more: rows that are far from all of them are not even looked at.
    source = ArraySource(digits_rows)
    source.block_rows = 4000
    engine = PrunedEngine(source.dim, source.dtype)
    rng = np.random.default_rng(0)
    few = kmeans_plus_plus(digits_rows[:8000], 300, rng).astype(np.float32)
    with closing(LocalExecutor(source, engine, engine.cache_for(source))) as executor:
        executor.run_pass(few, SilentProgress())
        first = engine.effort.products
        more = np.concatenate([few, digits_rows[:5]])
        executor.run_pass(more, SilentProgress())
        assert engine.effort.scanned < 0.75 * len(digits_rows)
        assert engine.effort.products < 0.5 * first
        successors = np.append(np.arange(300), [0, 1, 2, 3, 4])
        executor.relabel(successors)
        executor.run_pass(few, SilentProgress())
        assert engine.effort.scanned < 0.75 * len(digits_rows)
        # rows that were not met for a while keep their labels
        executor.run_pass(few, SilentProgress(), 4000)
        executor.run_pass(few, SilentProgress())
        assert engine.effort.products < 0.5 * first
