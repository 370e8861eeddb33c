"""Classifiers of many images are scikit-learn's linear support vector machines."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_info, threadpool_limits

from analysis.classification import squared_hinge
from analysis.classification.ridge import decisions
from analysis.classification.squared_hinge import StoredFeatures, fit_many
from pipeline.runtime.memory import resident
from storage import InputError
from tests.test_analysis.test_classification.test_ridge import blobs, scaled


def stored(rows: np.ndarray, labels: np.ndarray, folder: Path) -> StoredFeatures:
    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first in range(0, len(rows), 37):
            yield rows[first : first + 37], labels[first : first + 37]

    return StoredFeatures(blocks(), *rows.shape, folder)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squared_hinge, "_BLOCK_BYTES", 1 << 12)


def test_features_are_standardised_and_read_in_blocks(tmp_path: Path) -> None:
    rows, labels = blobs(300, 20, 3)
    found = stored(rows, labels, tmp_path)
    assert not [*tmp_path.iterdir()]  # the file has no name
    chosen = np.arange(300) % 7 < 3
    got = [(rows.copy(), own) for rows, own in found.blocks(chosen)]
    assert len(got) == 3
    np.testing.assert_allclose(
        np.concatenate([one for one, _ in got]), scaled(rows)[chosen], atol=1e-4
    )
    np.testing.assert_array_equal(np.concatenate([own for _, own in got]), labels[chosen])
    np.testing.assert_allclose(found.rows(np.array([4, 250])), scaled(rows)[[4, 250]], atol=1e-4)


def test_reading_a_few_images_takes_their_memory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, width, peaks = 8000, 4000, list[int]()
    block = np.random.default_rng(0).random((500, width), np.float32)
    blocks = ((block, np.zeros(500, np.int64)) for _ in range(n // 500))
    monkeypatch.setattr(squared_hinge, "_BLOCK_BYTES", 8 << 20)
    features = StoredFeatures(blocks, n, width, tmp_path)
    before, which = resident(), np.arange(0, n, 8)
    rows = features.rows(which)
    chosen = np.isin(np.arange(n), which)
    for part, _ in features.blocks(chosen):
        np.testing.assert_array_equal(rows[: len(part)], part)
        rows = rows[len(part) :]
        peaks.append(resident())
    assert not len(rows)
    assert max(peaks) - before < 4 * width * len(which) + (32 << 20)  # of 128 MB in all


def test_copies_lie_together_and_each_image_can_be_read_as_it_is(tmp_path: Path) -> None:
    rows, labels = blobs(300, 20, 3)
    blocks = ((rows[first : first + 30], np.repeat(first, 30)) for first in range(0, 300, 30))
    found = StoredFeatures(blocks, 60, 20, tmp_path, copies=5)
    assert len(labels) == 300
    np.testing.assert_array_equal(found.labels, np.arange(60) // 6 * 30)
    chosen = np.arange(60) % 7 < 3
    for copies, of_rows in ((True, np.repeat(chosen, 5)), (False, np.arange(300) % 5 == 0)):
        wanted = scaled(rows)[of_rows & np.repeat(chosen, 5)]
        got = [(one.copy(), own) for one, own in found.blocks(chosen, copies=copies)]
        np.testing.assert_allclose(np.concatenate([one for one, _ in got]), wanted, atol=1e-4)
        own = np.repeat(found.labels[chosen], 5 if copies else 1)
        np.testing.assert_array_equal(np.concatenate([each for _, each in got]), own)
    np.testing.assert_allclose(found.rows(np.array([3])), scaled(rows)[15:20], atol=1e-4)


@pytest.mark.parametrize(("n", "width", "classes"), [(300, 20, 3), (200, 150, 4), (400, 30, 2)])
def test_a_classifier_is_that_of_scikit_learn(
    n: int, width: int, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(squared_hinge, "PENALTIES", (1e-2,))
    monkeypatch.setattr(squared_hinge, "STEPS", 500)
    monkeypatch.setattr(squared_hinge, "_GAIN", 1e-12)
    rows, labels = blobs(n, width, classes)
    steps = list[None]()
    fit = fit_many(
        stored(rows, labels, tmp_path),
        np.ones(n, bool),
        np.arange(n) % 5 == 0,
        classes,
        lambda: steps.append(None),
    )
    assert len(steps) == 2
    assert (fit.name, fit.penalty, fit.judged) == ("squared hinge", 1e-2, n // 5)
    offsets = 1000.0  # whose penalty vanishes
    expected = LinearSVC(
        C=1 / (2 * 1e-2 * n), dual=False, intercept_scaling=offsets, tol=1e-9, max_iter=20_000
    ).fit(scaled(rows), labels)
    (found,) = decisions([fit.classifier], scaled(rows).astype(np.float32))
    wanted = expected.decision_function(scaled(rows)).reshape(n, -1)
    np.testing.assert_allclose(found[:, -wanted.shape[1] :], wanted, atol=5e-3)


def test_some_steps_are_nearly_all_where_features_are_alike(tmp_path: Path) -> None:
    """As pooled features are: most of what they say is common to all."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 800)
    hidden = rng.normal(size=(800, 30)) + 1.2 * rng.normal(size=(4, 30))[labels]
    rows = hidden @ (rng.normal(size=(30, 60)) * np.logspace(0, -2, 30)[:, np.newaxis])
    rows += 3 * rng.normal(size=(800, 1)) + 0.01 * rng.normal(size=(800, 60))
    features = stored(rows.astype(np.float32), labels, tmp_path)
    fit = fit_many(features, np.ones(800, bool), np.arange(800) % 5 == 0, 4, lambda: None)
    model = LinearSVC(
        C=1 / (2 * fit.penalty * 800), dual=False, intercept_scaling=100, tol=1e-6, max_iter=50_000
    ).fit(scaled(rows), labels)
    (found,) = decisions([fit.classifier], scaled(rows).astype(np.float32))
    alike = found.argmax(axis=1) == model.predict(scaled(rows))
    assert alike.mean() > 0.98


def test_the_penalty_is_that_of_the_least_errors_on_images_set_aside(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 90)
    rows = rng.normal(size=(90, 60)).astype(np.float32)
    rows[:, 0] += 2 * labels
    judged = np.arange(90) % 3 == 0
    features = stored(rows, labels, tmp_path)
    fit = fit_many(features, np.ones(90, bool), judged, 2, lambda: None)
    scaler = StandardScaler().fit(rows)
    errors = []
    for penalty in squared_hinge.PENALTIES:
        model = LinearSVC(
            C=1 / (2 * penalty * 60), dual=False, intercept_scaling=100, max_iter=50_000, tol=1e-6
        ).fit(scaler.transform(rows[~judged]), labels[~judged])
        wrong = model.predict(scaler.transform(rows[judged])) != labels[judged]
        errors.append(int(np.count_nonzero(wrong)))
    rises = [i for i in range(1, len(errors)) if errors[i] > min(errors[:i])]
    until = rises[0] if rises else len(errors)
    assert fit.penalty == squared_hinge.PENALTIES[int(np.argmin(errors[:until]))]
    assert fit.errors == min(errors[:until])


@pytest.mark.parametrize(("alone", "threads"), [(20, {1}), (19, {2})])
def test_few_features_are_the_work_of_one_thread(
    alone: int, threads: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two waited for one another: on a busy machine a report took four times as long."""
    monkeypatch.setattr(squared_hinge, "_ALONE", alone)
    rows, labels = blobs(300, 20, 3)
    seen = set()

    def told() -> None:
        blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        seen.update(pool["num_threads"] for pool in blas)

    with threadpool_limits(2, "blas"):
        judged = np.arange(300) % 3 == 0
        fit_many(stored(rows, labels, tmp_path), np.ones(300, bool), judged, 3, told)
    assert seen == threads


def test_where_rounding_leaves_no_factor_another_one_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, labels = blobs(300, 20, 3)
    features, every = stored(rows, labels, tmp_path), np.ones(300, bool)
    given = features, every, np.arange(300) % 5 == 0, 3, lambda: None
    usual = fit_many(*given)
    monkeypatch.setattr(squared_hinge, "_FLOORS", (-5.0, 1e-3))  # below 0 as by rounding
    np.testing.assert_array_equal(fit_many(*given).classifier.weights, usual.classifier.weights)
    monkeypatch.setattr(squared_hinge, "_FLOORS", (-5.0,))
    with pytest.raises(InputError, match="too much alike for a classifier"):
        fit_many(*given)


def test_a_factor_lies_where_its_matrix_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the first floor fails at the last column, all others being overwritten."""
    monkeypatch.setattr(squared_hinge, "_FLOORS", (0.0, 50.0))
    rows = np.random.default_rng(0).normal(size=(90, 40)).astype(np.float32)
    matrix = rows.T @ rows
    matrix[-1, -1] = -1
    gram = np.asfortranarray(np.tril(matrix))
    factor = squared_hinge._factor(gram)
    assert np.shares_memory(factor, gram)  # at K = 3200 over quadrants one takes 625 MiB
    expected = np.linalg.cholesky(matrix + 50 * np.eye(40))
    np.testing.assert_allclose(np.tril(factor), expected, rtol=1e-4, atol=1e-4)
