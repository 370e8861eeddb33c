"""Ridge classifiers of a few images are scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
from sklearn.preprocessing import StandardScaler

from analysis.classification import ridge
from analysis.classification.accuracy import wilson_interval
from analysis.classification.ridge import (
    PENALTIES,
    LinearClassifier,
    decisions,
    fit_from_few,
)


def blobs(n: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows about as many means as there are classes, in units that differ, one column constant."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    rows = rng.normal(size=(n, width)) + 0.7 * rng.normal(size=(classes, width))[labels]
    rows = 50 + rows * np.logspace(-2, 2, width)
    rows[:, width // 2] = 7
    return rows.astype(np.float32), labels


def scaled(rows: np.ndarray) -> np.ndarray:
    return np.asarray(StandardScaler().fit_transform(rows.astype(np.float64)))


@pytest.mark.parametrize(("n", "width"), [(30, 80), (36, 300)])
def test_few_images_choose_the_penalty_by_leaving_each_out(
    n: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ridge, "PENALTIES", PENALTIES[5::2])
    rows, labels = blobs(n, width, 3)
    fit = fit_from_few(rows, labels, 3)
    errors = {}
    for penalty in PENALTIES[5::2]:
        left_out = []
        for place in range(n):
            others = np.arange(n) != place
            model = RidgeClassifier(alpha=penalty * n).fit(scaled(rows)[others], labels[others])
            left_out.append(model.predict(scaled(rows)[[place]])[0])
        errors[penalty] = int(np.count_nonzero(left_out != labels))
    assert fit.errors == min(errors.values())
    assert errors[fit.penalty] == fit.errors
    expected = RidgeClassifierCV(alphas=[fit.penalty * n]).fit(scaled(rows), labels)
    (found,) = decisions([fit.classifier], rows)
    np.testing.assert_allclose(found, expected.decision_function(scaled(rows)), atol=2e-4)


def test_an_image_is_left_out_with_all_its_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "PENALTIES", PENALTIES[5::2])
    n, copies = 24, 3
    rows, _ = blobs(n, 100, 3)
    labels = np.arange(n) % 3  # which rows do not tell, but their copies would
    shifts = np.random.default_rng(1).normal(size=(n, copies, 100)) * rows.std(axis=0)
    shifts[:, 0] = 0
    every = (rows[:, np.newaxis] + 0.3 * shifts).reshape(-1, 100).astype(np.float32)
    fit = fit_from_few(every, np.repeat(labels, copies), 3, copies)
    errors = {}
    for penalty in PENALTIES[5::2]:
        left_out = []
        for image in range(n):
            others = np.arange(n * copies) // copies != image
            model = RidgeClassifier(alpha=penalty * n * copies)
            model.fit(scaled(every)[others], np.repeat(labels, copies)[others])
            left_out.append(model.predict(scaled(every)[[copies * image]])[0])
        errors[penalty] = int(np.count_nonzero(left_out != labels))
    assert (fit.errors, fit.judged) == (min(errors.values()), n)
    assert errors[fit.penalty] == fit.errors > n / 4
    assert fit_from_few(every, np.repeat(labels, copies), 3).errors == 0


def test_several_classifiers_say_what_each_of_them_says() -> None:
    rows, _ = blobs(10, 6, 2)
    rng = np.random.default_rng(0)
    some = [LinearClassifier(rng.normal(size=(6, 3)), rng.normal(size=3)) for _ in range(4)]
    together = decisions(some, rows)
    assert together.shape == (4, 10, 3)
    for found, one in zip(together, some, strict=True):
        np.testing.assert_allclose(found, rows @ one.weights + one.offsets)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(0, 10, 0, 0.27753), (10, 10, 0.72247, 1), (81, 263, 0.25526, 0.36614)],
)
def test_intervals_are_those_of_wilson(right: int, n: int, low: float, high: float) -> None:
    """Agresti & Coull 1998; Newcombe 1998, table I."""
    assert wilson_interval(right, n) == pytest.approx((low, high), abs=2e-4)
