"""Ridge classifiers of a few images: least squares on classes coded as 1 and −1.

They are scikit-learn's `RidgeClassifierCV` on standardised features, of fewer images than features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

# What is tried: penalties on the squared weights, per image.
PENALTIES = tuple(10.0**exponent for exponent in range(-9, 1))
CONSTANT = 1e-10  # of its squared mean: the variance of a feature that is always the same
NAME = "ridge"
_PART = 128  # columns that are worked on at once


@dataclass(frozen=True)
class LinearClassifier:
    """The class is that of the largest of `rows @ weights + offsets`.

    weights: (p, c) float64. offsets: (c,) float64.
    """

    weights: np.ndarray
    offsets: np.ndarray


@dataclass(frozen=True)
class Fit:
    """A classifier, its penalty, and how many of the images it was chosen by it gets wrong.

    name: of the kind of classifier.
    """

    name: str
    classifier: LinearClassifier
    penalty: float
    errors: int
    judged: int


def decisions(classifiers: Sequence[LinearClassifier], rows: np.ndarray) -> np.ndarray:
    """What several classifiers, of as many classes each, say of rows; (classifiers, n, c) float64.

    rows: (n, p) float32.
    """
    weights = np.concatenate([one.weights for one in classifiers], axis=1)
    offsets = np.concatenate([one.offsets for one in classifiers])
    found = (rows.astype(np.float64) @ weights + offsets).reshape(len(rows), len(classifiers), -1)
    return np.moveaxis(found, 1, 0)


class Standard:
    """Mean, and one over the standard deviation, of each feature; 0 of those that are constant."""

    def __init__(self, n: int, sums: np.ndarray, squares: np.ndarray) -> None:
        self.mean = sums / n
        variance = squares / n - self.mean**2
        varies = variance > CONSTANT * self.mean**2
        self.scale = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 0)

    def classifier(self, weights: np.ndarray, offsets: np.ndarray) -> LinearClassifier:
        """Of features as they are, from one of standardised features."""
        weights = weights * self.scale[:, np.newaxis]
        return LinearClassifier(weights, offsets - self.mean @ weights)


def few_bytes(n: int, width: int) -> int:
    """What fitting so many images takes at most, their features included."""
    return 4 * n * width + 3 * 8 * n * (n + _PART)


def fit_from_few(rows: np.ndarray, labels: np.ndarray, classes: int, copies: int = 1) -> Fit:
    """A classifier of fewer rows than features; the penalty is chosen by leaving each image out.

    Of penalties with as many errors that of the least squared error is taken, then the largest.

    Args:
        rows: (n, p) float32.
        labels: (n,) int64, below `classes`.
        classes: so many.
        copies: rows of an image, one after the other: all are left out, the first is judged.

    Memory: the rows, and three matrices of images by images.
    """
    n, width = rows.shape
    parts = [slice(first, min(first + _PART, width)) for first in range(0, width, _PART)]
    sums, squares = (
        np.concatenate([(rows[:, part].astype(np.float64) ** power).sum(axis=0) for part in parts])
        for power in (1, 2)
    )
    standard = Standard(n, sums, squares)

    def standardised() -> Iterator[tuple[slice, np.ndarray]]:
        for part in parts:
            yield part, (rows[:, part] - standard.mean[part]) * standard.scale[part]

    kernel = np.zeros((n, n))
    for _, block in standardised():
        kernel += block @ block.T
    values, vectors = eigh(kernel, overwrite_a=True, check_finite=False)
    targets = 2.0 * (labels[:, np.newaxis] == np.arange(classes)) - 1
    offsets = targets.mean(axis=0)
    rotated = vectors.T @ (targets - offsets)
    images, first = vectors.reshape(-1, copies, n), targets[::copies]
    best: tuple[int, float, float] | None = None
    for penalty in sorted(PENALTIES, reverse=True):
        inverse = 1 / (np.maximum(values, 0) + penalty * n)
        # Without the direction of the offset, which is not penalised.
        own = (images * inverse) @ images.transpose(0, 2, 1) - 1 / (penalty * n * n)
        dual = (vectors @ (inverse[:, np.newaxis] * rotated)).reshape(-1, copies, classes)
        missing = np.linalg.solve(own, dual)[:, 0]
        errors = int(np.count_nonzero((first - missing).argmax(axis=1) != labels[::copies]))
        judged = errors, float(np.square(missing).sum()), penalty
        best = judged if best is None or judged[:2] < best[:2] else best
    assert best is not None
    inverse = 1 / (np.maximum(values, 0) + best[2] * n)
    dual = vectors @ (inverse[:, np.newaxis] * rotated)
    weights = np.concatenate([block.T @ dual for _, block in standardised()])
    return Fit(NAME, standard.classifier(weights, offsets), best[2], best[0], n // copies)
