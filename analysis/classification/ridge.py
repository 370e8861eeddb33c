"""Ridge classifiers: least squares on classes coded as 1 and −1, features standardised.

They are scikit-learn's `RidgeClassifier`, computed from sums: what is kept of many images is one
matrix of features by features, so that memory does not grow with them, and the solution is exact,
whatever the order of the images. A logistic regression, which might be told apart by a few images,
would need all features at every step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas, eigh, lapack

from storage import InputError

# What is tried: penalties on the squared weights, per image.
PENALTIES = tuple(10.0**exponent for exponent in range(-9, 1))
CONSTANT = 1e-10  # of its squared mean: the variance of a feature that is always the same
PART = 128  # columns that are worked on at once


@dataclass(frozen=True)
class LinearClassifier:
    """The class is that of the largest of `rows @ weights + offsets`.

    weights: (p, c) float64. offsets: (c,) float64.
    """

    weights: np.ndarray
    offsets: np.ndarray


@dataclass(frozen=True)
class Fit:
    """A classifier, its penalty, and how many of the images it was chosen by it gets wrong."""

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


class _Standard:
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


class RidgeSums:
    """Sums over images, from which the classifier of any penalty is computed.

    width: features. classes: so many. Memory: `projected_bytes`.
    """

    def __init__(self, width: int, classes: int) -> None:
        # Above the diagonal products of features, below it what the solver makes of them.
        self._gram = np.zeros((width, width), order="F")
        self._by_class = np.zeros((width, classes))
        self._counts = np.zeros(classes, np.int64)

    @staticmethod
    def projected_bytes(width: int, classes: int) -> int:
        """At most, the solutions for all penalties included."""
        return 8 * width * (width + (2 * len(PENALTIES) + 3) * classes + 3 * PART)

    def add(self, rows: np.ndarray, labels: np.ndarray) -> None:
        """Add the features, (n, p) float32, of images of these classes, (n,)."""
        wide = np.ascontiguousarray(rows, np.float64)
        blas.dsyrk(1.0, wide.T, beta=1.0, c=self._gram, overwrite_c=True)
        for label in np.unique(labels):
            self._by_class[:, label] += wide[labels == label].sum(axis=0)
        self._counts += np.bincount(labels, minlength=len(self._counts))

    def solutions(self, penalties: Sequence[float]) -> list[LinearClassifier]:
        """Classifiers of all images so far.

        penalties: ascending; one that is lost in the rounding of sums gets the next one's solution.
        """
        n, diagonal = int(self._counts.sum()), self._gram.diagonal().copy()
        sums = self._by_class.sum(axis=1)
        standard = _Standard(n, sums, diagonal)
        shares = self._counts / n
        # Targets are 2 · (own class) − 1, less their mean; features standardised.
        products = 2 * (self._by_class - np.outer(sums, shares))
        products *= standard.scale[:, np.newaxis]
        offsets, found = 2 * shares - 1, list[LinearClassifier]()
        for penalty in reversed(penalties):
            self._fill_below(standard, n)
            self._gram[np.diag_indices_from(self._gram)] += penalty * n
            factor, failed = lapack.dpotrf(self._gram, lower=1, clean=0, overwrite_a=1)
            if failed and not found:
                raise InputError(
                    "features are too much alike for a classifier: ask for a smaller K, or pool"
                    " over fewer parts"
                )
            if failed:
                found.append(found[-1])
                continue
            weights, _ = lapack.dpotrs(factor, products, lower=1)
            found.append(standard.classifier(weights, offsets))
        np.fill_diagonal(self._gram, diagonal)
        return found[::-1]

    def _fill_below(self, standard: _Standard, n: int) -> None:
        """Products of standardised features, from the diagonal down."""
        width = len(self._gram)
        for first in range(0, width, PART):
            own, below = slice(first, min(first + PART, width)), slice(first, width)
            block = self._gram[own, below].T - n * np.outer(
                standard.mean[below], standard.mean[own]
            )
            block *= standard.scale[below, np.newaxis] * standard.scale[own]
            square = own.stop - own.start
            lower = np.tril_indices(square, -1)
            self._gram[own, own][lower] = block[:square][lower]
            self._gram[own.stop :, own] = block[square:]
        # Of those that vary; constant ones get a 1, which no weight meets.
        np.fill_diagonal(self._gram, n)


def fit_from_few(rows: np.ndarray, labels: np.ndarray, classes: int) -> Fit:
    """A classifier of fewer images than features; the penalty is chosen by leaving each out.

    Of penalties with as many errors that of the least squared error is taken, then the largest.

    Args:
        rows: (n, p) float32.
        labels: (n,) int64, below `classes`.
        classes: so many.

    Memory: the rows, and three matrices of images by images.
    """
    n, width = rows.shape
    parts = [slice(first, min(first + PART, width)) for first in range(0, width, PART)]
    sums, squares = (
        np.concatenate([(rows[:, part].astype(np.float64) ** power).sum(axis=0) for part in parts])
        for power in (1, 2)
    )
    standard = _Standard(n, sums, squares)

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
    best: tuple[int, float, float] | None = None
    for penalty in sorted(PENALTIES, reverse=True):
        inverse = 1 / (np.maximum(values, 0) + penalty * n)
        # Without the direction of the offset, which is not penalised.
        own = vectors**2 @ inverse - 1 / (penalty * n * n)
        left_out = targets - (vectors @ (inverse[:, np.newaxis] * rotated)) / own[:, np.newaxis]
        errors = int(np.count_nonzero(left_out.argmax(axis=1) != labels))
        judged = errors, float(np.square(left_out - targets).sum()), penalty
        best = judged if best is None or judged[:2] < best[:2] else best
    assert best is not None
    inverse = 1 / (np.maximum(values, 0) + best[2] * n)
    dual = vectors @ (inverse[:, np.newaxis] * rotated)
    weights = np.concatenate([block.T @ dual for _, block in standardised()])
    return Fit(standard.classifier(weights, offsets), best[2], best[0], n)
