"""Linear classifiers of many images: a squared hinge for each class against the others.

As Coates, Lee & Ng 2011 use it on the same features: per image the sum over the classes of
max(0, 1 − t · decision)², t = 1 for its own class and −1 for others, and a penalty on the squared
weights: scikit-learn's `LinearSVC` with C = 1 / (2 · penalty · images), but that offsets are free.
L-BFGS finds it over features that lie on disk, and are read once a step. Features of one image are
so much alike that it takes thousands of steps over them as they are; in coordinates in which their
covariance is about 1, those of its Cholesky factor, it takes some tens.
"""

import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.linalg import blas, lapack
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from analysis.classification.labelled_features import Block
from analysis.classification.ridge import Fit, LinearClassifier, Standard
from storage import InputError
from storage.mapped_files import lies_in_memory, scratch_folder
from storage.places.place import Place

# What is tried, from the largest on: penalties on the squared weights, per image.
PENALTIES = (1e-2, 1e-3, 1e-4, 1e-5)
NAME = "squared hinge"
STEPS = 40  # of a fit, at most: the loss of the digits is within 7 % of the least then
_GAIN = 1e-5  # of the loss at the start: a step that brings less is the last
_KEPT_STEPS = 10  # of which L-BFGS keeps what they changed
# Added to the variance of all directions, the first with which rounding leaves a factor.
_FLOORS = (1e-3, 1e-2, 1e-1)
_BLOCK_BYTES, _BLOCK_ROWS = 16 << 20, 1 << 12  # of features that are read at once, at most
_ALONE = 1024  # features up to which one thread does: two wait for one another, and others for them


class StoredFeatures:
    """Standardised features of images, in a scratch file that goes with them.

    Args:
        blocks: features, (n, p) float32, and classes of images, in order.
        images: how many.
        width: p.
        folder: of the file, `bytes_on_disk`.
        copies: rows of an image, one after the other, the first of it as it is.

    Attributes:
        labels: (images,) int64, their classes.
    """

    def __init__(
        self, blocks: Iterator[Block], images: int, width: int, folder: Path, copies: int = 1
    ) -> None:
        self.labels, self.width, self.copies = np.empty(images, np.int64), width, copies
        self._file = file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # stays open
        weakref.finalize(self, file.close)
        sums, squares, first = np.zeros(width), np.zeros(width), 0
        for rows, labels in blocks:
            file.write(np.ascontiguousarray(rows).data)
            sums += rows.sum(axis=0, dtype=np.float64)
            squares += np.einsum("np,np->p", rows, rows, dtype=np.float64)
            own = labels[::copies]
            self.labels[first : first + len(own)] = own
            first += len(own)
        self.standard = Standard(images * copies, sums, squares)
        self._standardise()

    def _standardise(self) -> None:
        """All features, in place."""
        for numbers, rows in self._read(np.arange(len(self.labels) * self.copies)):
            for row in rows:  # as float64, which all together would take twice their memory
                row[:] = (row - self.standard.mean) * self.standard.scale
            self._file.seek(4 * self.width * int(numbers[0]))
            self._file.write(rows.data)
        self._file.flush()

    def _read(self, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Some of the numbers of rows, which ascend, and these rows, good until the next are read.

        Neighbours are read at once. Nothing is mapped: the system maps up to 2 MiB around a row.
        """
        step = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // (4 * self.width)))
        buffer = np.empty((min(step, len(numbers)), self.width), np.float32)
        for start in range(0, len(numbers), step):
            some = numbers[start : start + step]
            cuts = np.flatnonzero(np.diff(some) != 1) + 1
            for first, end in zip([0, *cuts], [*cuts, len(some)], strict=True):
                self._file.seek(4 * self.width * int(some[first]))
                self._file.readinto(buffer[first:end].data)
            yield some, buffer[: len(some)]

    def blocks(self, chosen: np.ndarray, copies: bool = True) -> Iterator[Block]:
        """Features and classes of some images in order, good until the next are asked for.

        chosen: (images,) bool. copies: all of them, or each image as it is.
        """
        for numbers, rows in self._read(self._numbers(np.flatnonzero(chosen), copies)):
            yield rows, self.labels[numbers // self.copies]

    def _numbers(self, which: np.ndarray, copies: bool) -> np.ndarray:
        """Numbers of the rows of some images."""
        own = np.arange(self.copies if copies else 1)
        return (which[:, np.newaxis] * self.copies + own).ravel()

    def rows(self, which: np.ndarray) -> np.ndarray:
        """Features of all copies of a few images, (n, p) float32; which: their numbers."""
        numbers = self._numbers(which, copies=True)
        found, first = np.empty((len(numbers), self.width), np.float32), 0
        for some, rows in self._read(numbers):
            found[first : first + len(some)] = rows
            first += len(some)
        return found

    @staticmethod
    def projected_bytes(rows: int, width: int, folder: Path) -> int:
        """What reading them takes of the memory, at most; all, where the folder lies in it."""
        held = 4 * rows * width if lies_in_memory(folder) else 0
        return held + 40 * rows + 3 * (_BLOCK_BYTES + 4 * width)


def features_folder(experiment: Place) -> Path:
    """Where features of an experiment are kept while it is classified."""
    return scratch_folder(experiment / "features")


def fit_many(
    features: StoredFeatures,
    chosen: np.ndarray,
    judged: np.ndarray,
    classes: int,
    told: Callable[[], None],
) -> Fit:
    """A classifier of standardised features; its penalty is chosen on images it has not learned.

    Penalties are tried from the largest on, until one has more errors than the one before. Of
    those with as many errors the largest is taken.

    Args:
        features: of images.
        chosen: (images,) bool, those whose copies it is learned from.
        judged: (images,) bool, those of them that the penalty is chosen by.
        classes: so many.
        told: called after each fit.

    Memory: `projected_bytes`.
    """
    with threadpool_limits(1 if features.width <= _ALONE else None, "blas"):
        problem = _Problem(features, chosen & ~judged, classes)
        weights, best, least = problem.start(), None, len(judged) + 1
        for penalty in PENALTIES:
            weights = problem.solved(penalty, weights)
            errors = problem.errors(weights, judged)
            told()
            if errors > least:
                break
            if errors < least:
                best, least = (penalty, weights), errors
        assert best is not None
        penalty, weights = best
        del problem  # its factor goes before the next one is made
        problem = _Problem(features, chosen, classes)
        weights = problem.solved(penalty, weights)
        told()
    return Fit(NAME, LinearClassifier(weights[:-1], weights[-1]), penalty, least, int(judged.sum()))


def projected_bytes(width: int, classes: int) -> int:
    """What fitting takes at most, beside the features."""
    # The factor; what L-BFGS keeps; weights and slopes.
    return 4 * width**2 + (2 * _KEPT_STEPS + 16) * 8 * (width + 1) * classes


def _factor(gram: np.ndarray) -> np.ndarray:
    """The lower Cholesky factor of a matrix, in its place, of which the lower half is given.

    gram: (p, p) float32, column after column.
    """
    variances = gram.diagonal().copy()
    for j in range(len(gram)):  # the upper half keeps what the factor overwrites
        gram[j, j + 1 :] = gram[j + 1 :, j]
    for floor in _FLOORS:
        np.fill_diagonal(gram, variances + np.float32(floor))
        factor, failed = lapack.spotrf(gram, lower=1, clean=0, overwrite_a=1)
        if not failed:
            return np.asarray(factor)
        for j in range(len(gram)):
            gram[j + 1 :, j] = gram[j, j + 1 :]
    raise InputError(
        "features are too much alike for a classifier: ask for a smaller K, or pool over fewer"
        " parts"
    )


@dataclass(frozen=True)
class _Slope:
    """Loss, its slope by weights and offsets, ((p + 1), classes) float64."""

    loss: float
    slope: np.ndarray


class _Problem:
    """Some images of a set, and the coordinates in which weights are sought.

    Weights are (p + 1, classes) float64, the last row of them offsets.
    """

    def __init__(self, features: StoredFeatures, chosen: np.ndarray, classes: int) -> None:
        self._features, self._chosen, self._classes = features, chosen, classes
        self._n, width = int(chosen.sum()) * features.copies, features.width
        gram, self._by_class = np.zeros((width, width), np.float32, "F"), np.zeros((width, classes))
        for rows, labels in features.blocks(chosen):
            blas.ssyrk(1.0 / self._n, rows.T, beta=1.0, c=gram, lower=1, overwrite_c=True)
            for label in np.unique(labels):
                self._by_class[:, label] += rows[labels == label].sum(axis=0, dtype=np.float64)
        self._factor = _factor(gram)

    def start(self) -> np.ndarray:
        """Weights of least squares."""
        labels = self._features.labels[self._chosen]
        shares = np.bincount(labels, minlength=self._classes) / len(labels)
        products = 2 * self._by_class / self._n
        means = self._by_class.sum(axis=1, keepdims=True) / self._n
        products -= 2 * means * shares
        weights = self._solved(self._solved(products, 0), 1)
        return np.vstack([weights, 2 * shares - 1 - means[:, 0] @ weights])

    def _solved(self, values: np.ndarray, transposed: int) -> np.ndarray:
        """The factor's inverse, or its transpose's, times (p, classes), float64."""
        short = np.asfortranarray(values, np.float32)
        return np.asarray(blas.strsm(1.0, self._factor, short, lower=1, trans_a=transposed), float)

    def _times_transpose(self, weights: np.ndarray) -> np.ndarray:
        """The factor's transpose times weights, (p, classes), float64."""
        short = np.asfortranarray(weights, np.float32)
        return np.asarray(blas.strmm(1.0, self._factor, short, lower=1, trans_a=1), float)

    def solved(self, penalty: float, weights: np.ndarray) -> np.ndarray:
        """The best weights under a penalty, from others on."""
        shape, start = weights.shape, weights.copy()
        start[:-1] = self._times_transpose(weights[:-1])
        unit = max(self._loss(weights, penalty).loss, np.finfo(float).tiny)

        def moved(flat: np.ndarray) -> np.ndarray:
            values = flat.reshape(shape)
            return np.vstack([self._solved(values[:-1], 1), values[-1:]])

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            found = self._loss(moved(flat), penalty)
            found.slope[:-1] = self._solved(found.slope[:-1], 0)
            return found.loss / unit, found.slope.ravel() / unit

        options = {"maxiter": STEPS, "maxcor": _KEPT_STEPS, "ftol": _GAIN, "gtol": 0.0}
        return moved(minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options).x)

    def _loss(self, weights: np.ndarray, penalty: float) -> _Slope:
        short, slope, total = weights.astype(np.float32), np.zeros(weights.shape), 0.0
        for rows, labels in self._features.blocks(self._chosen):
            targets = np.full((len(rows), self._classes), -1, np.float32)
            targets[np.arange(len(rows)), labels] = 1
            missing = np.maximum(0, 1 - targets * (rows @ short[:-1] + short[-1]))
            total += float(np.square(missing, dtype=np.float64).sum())
            missing *= targets
            slope[:-1] -= rows.T @ missing
            slope[-1] -= missing.sum(axis=0, dtype=np.float64)
        slope *= 2 / self._n
        slope[:-1] += 2 * penalty * weights[:-1]
        return _Slope(total / self._n + penalty * float(np.square(weights[:-1]).sum()), slope)

    def errors(self, weights: np.ndarray, judged: np.ndarray) -> int:
        """How many of some images, as they are, are told to be of another class."""
        short = weights.astype(np.float32)
        return sum(
            int(np.count_nonzero((rows @ short[:-1] + short[-1]).argmax(axis=1) != labels))
            for rows, labels in self._features.blocks(judged, copies=False)
        )
