"""Patches as they are compared: without their brightness and contrast, whitened, of one length.

As in Coates, Lee & Ng 2011 (An analysis of single-layer networks in unsupervised feature learning,
AISTATS), from each patch its mean is taken away, and it is divided by √(variance + c); then it may
be whitened by ZCA, (x − mean) · V (Λ + ε)^-½ Vᵀ with the eigenvectors V and eigenvalues Λ of the
covariance of all patches. Stores keep the pixels: patches are preprocessed as they are read.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.config import FitOptions
from pipeline.rows.moments import Moments, pieces
from pipeline.rows.source import RowSource, read_ahead
from pipeline.runtime.devices import thread_count
from pipeline.runtime.progress import Progress, SilentProgress
from storage.dictionary_store import PREPROCESSED, PREPROCESSING, is_preprocessed

ARRAYS = tuple(PREPROCESSING)
_USUAL_SPAN = 255  # from black to white, to which contrast_floor refers
_NO_MEAN, _NO_MATRIX = np.empty(0, np.float32), np.empty((0, 0), np.float32)


def is_asked_for(options: FitOptions) -> bool:
    """Whether patches are preprocessed before they meet centroids."""
    return options.preprocess != "none" or options.distance != "euclidean"


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """What is done to patches before they meet centroids, and how that is undone.

    Attributes:
        kind: "none", "contrast" or "zca", which is contrast and then whitening.
        distance: "euclidean"; "cosine" compares directions: rows are divided by their lengths.
        floor: c, added to the variance of a patch, squared pixel levels.
        epsilon: ε, added to the eigenvalues.
        level: mean of a usual patch, pixel levels.
        spread: √(variance + c) of a usual patch, pixel levels.
        length: of a usual patch when all else is done.
        variance: of the patches about their mean, per pixel, squared pixel levels.
        feature_mean: (d,) float32; it and the next two are empty where nothing is whitened.
        whitening: (d, d) float32.
        unwhitening: (d, d) float32, its inverse.
    """

    kind: str
    distance: str
    floor: float
    epsilon: float
    level: float = 0.0
    spread: float = 1.0
    length: float = 1.0
    variance: float = 0.0
    feature_mean: np.ndarray = field(default_factory=_NO_MEAN.copy)
    whitening: np.ndarray = field(default_factory=_NO_MATRIX.copy)
    unwhitening: np.ndarray = field(default_factory=_NO_MATRIX.copy)

    dtype = np.dtype(np.float32)  # of preprocessed rows
    bytes_beside = 3 * 8  # what `amplitudes` are made of

    @classmethod
    def learn(
        cls,
        source: RowSource,
        options: FitOptions,
        span: float = _USUAL_SPAN,
        progress: Progress | None = None,
    ) -> "Preprocessing | None":
        """What these options ask for, of these patches, in one pass; None where it is nothing.

        Args:
            source: of the patches.
            options: of the fit.
            span: from black to white, pixel levels.
            progress: told of rows.
        """
        if not is_asked_for(options):
            return None
        floor = options.contrast_floor * (span / _USUAL_SPAN) ** 2
        asked = cls(options.preprocess, options.distance, floor, options.zca_epsilon)
        with threadpool_limits(1, "blas"):  # the same bits, however many cores there are
            return asked._learned(source, progress or SilentProgress())

    @classmethod
    def stored(
        cls, attributes: Mapping[str, Any], arrays: Mapping[str, Any]
    ) -> "Preprocessing | None":
        """That of a stored dictionary; None where there is none.

        Args:
            attributes: of the dictionary, plain JSON.
            arrays: of the dictionary.

        Raises: KeyError where arrays are missing.
        """
        if not is_preprocessed(attributes):
            return None
        facts = attributes[PREPROCESSED]
        needed = ARRAYS if facts["kind"] == "zca" else ()
        found: dict[str, Any] = {name: np.asarray(arrays[name], np.float32) for name in needed}
        return cls(**facts, **found)

    @property
    def attributes(self) -> dict[str, Any]:
        """What `stored` needs, as plain JSON: all that is no array."""
        facts = {name: value for name, value in vars(self).items() if name not in ARRAYS}
        return {PREPROCESSED: facts}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What `stored` needs: all arrays that there are."""
        return {name: array for name in ARRAYS if (array := getattr(self, name)).size}

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        made_of = repr(self.attributes).encode() + b"".join(
            array.tobytes() for array in self.arrays.values()
        )
        return hashlib.sha256(made_of).hexdigest()

    def rows(self, patches: np.ndarray) -> np.ndarray:
        """Patches, (n, d), as they meet centroids, (n, d) float32."""
        return self._applied(patches)[0]

    def numba_kernels(self) -> tuple[Any, ...]:
        """See `RowTransform`."""
        from pipeline.engines.cpu.preprocess_rows import preprocess_rows  # loads numba

        return (preprocess_rows,)

    def _applied(
        self, patches: np.ndarray, *, light_alone: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rows, and of each patch its mean, contrast and length, (n, 3) float64.

        light_alone: rows are not whitened, and have no other length.
        """
        (preprocess_rows,) = self.numba_kernels()
        rows = np.empty(patches.shape, np.float32)
        light = np.empty((len(patches), 3))
        centre, unit = self.kind != "none", self.distance == "cosine" and not light_alone
        made = (_NO_MEAN, _NO_MATRIX) if light_alone else (self.feature_mean, self.whitening)

        def work(part: slice) -> None:
            out = rows[part], light[part]
            preprocess_rows(patches[part], centre, self.floor, *made, unit, *out)

        parts = pieces(len(patches), patches.shape[1])
        if len(parts) < 2:
            work(slice(None))
        else:
            with ThreadPoolExecutor(thread_count(), "preprocess") as threads:
                list(threads.map(work, parts))
        return rows, light

    def directions(self, centroids: np.ndarray) -> np.ndarray:
        """Centroids, (k, d), before they were whitened, (k, d) float64; less `feature_mean`."""
        wide = np.asarray(centroids, np.float64)
        return wide @ self.unwhitening.astype(np.float64) if self.unwhitening.size else wide

    def placed(self, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Directions, and `feature_mean` if there is one, both of the shape of patches.

        centroids: (k, *patch_shape).
        """
        directions = self.directions(centroids.reshape(len(centroids), -1))
        mean = self.feature_mean.reshape(centroids.shape[1:]) if self.feature_mean.size else None
        return directions.reshape(centroids.shape), mean

    def pixels(self, centroids: np.ndarray) -> np.ndarray:
        """Centroids, (k, d), as patches of usual brightness and contrast, float32 levels."""
        mean = self.feature_mean.astype(np.float64) if self.feature_mean.size else 0.0
        found = self.level + self.spread * (mean + self.length * self.directions(centroids))
        return np.asarray(found, np.float32)

    def amplitudes(
        self, patches: np.ndarray, centroids: np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        """What each patch keeps of its own when a centroid takes its place.

        It is mean + contrast · feature_mean + gain · (direction of its centroid). The gain is the
        contrast, by cosine times the length of the patch along its centroid.

        Args:
            patches: (n, d), pixel levels.
            centroids: (k, d).
            labels: (n,), the centroid of each.

        Returns:
            (n, 3) float64: mean, contrast, gain.
        """
        rows, found = self._applied(patches, light_alone=True)
        if self.distance == "cosine":
            if self.feature_mean.size:  # whitened centroids stand for whitened rows: there are few
                rows -= self.feature_mean
                centroids = self._whitened(centroids)
            for part in pieces(*rows.shape):
                np.einsum("nd,nd->n", rows[part], centroids[labels[part]], out=found[part, 2])
            np.maximum(found[:, 2], 0, out=found[:, 2])
        found[:, 2] *= found[:, 1]
        return found

    def _whitened(self, centroids: np.ndarray) -> np.ndarray:
        """Centroids, (k, d), times the whitening matrix, (k, d) float32."""
        (preprocess_rows,) = self.numba_kernels()
        short = np.require(centroids, np.float32, "C")
        made, light = np.empty(short.shape, np.float32), np.empty((len(short), 3))
        given = np.zeros_like(self.feature_mean), self.whitening
        preprocess_rows(short, False, 0.0, *given, False, made, light)
        return made

    def restored(
        self, patches: np.ndarray, centroids: np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        """Patches, (n, d), rebuilt from their centroids, (n, d) float64 pixel levels.

        Each keeps its own mean and contrast; see `amplitudes`.
        """
        return self._put_together(
            self.directions(centroids)[labels], self.amplitudes(patches, centroids, labels)
        )

    def _put_together(self, found: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
        """Patches of directions, (n, d), which they overwrite, and amplitudes, (n, 3)."""
        found *= amplitudes[:, 2:]
        if self.feature_mean.size:
            found += amplitudes[:, 1:2] * self.feature_mean
        found += amplitudes[:, :1]
        return found

    def squared_errors(
        self, patches: np.ndarray, centroids: np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        """Squared differences of patches and what is restored, summed over pixels, (n,) float64."""
        amplitudes = self.amplitudes(patches, centroids, labels)
        return self.errors_of_sums(patches, amplitudes, [self.directions(centroids)], [labels])

    def errors_of_sums(
        self,
        patches: np.ndarray,
        amplitudes: np.ndarray,
        directions: list[np.ndarray],
        labels: list[np.ndarray],
    ) -> np.ndarray:
        """The same of sums of directions, (k, d) each, with labels of all patches, (n,), each."""
        found = np.empty(len(patches))
        for part in pieces(*patches.shape):
            made = directions[0][labels[0][part]]
            for more, chosen in zip(directions[1:], labels[1:], strict=True):
                made += more[chosen[part]]
            errors = self._put_together(made, amplitudes[part])
            errors -= patches[part]
            np.einsum("nd,nd->n", errors, errors, out=found[part])
        return found

    def _learned(self, source: RowSource, progress: Progress) -> "Preprocessing":
        """The same with all that the patches say."""
        n, whiten, light = source.n_rows, self.kind == "zca", np.zeros(3)
        # the covariance is that of patches of any length
        before = replace(self, distance="euclidean") if whiten else self
        pixels = Moments(source.read_block(0).mean(axis=0, dtype=np.float64), pairs=False)
        of_rows = Moments(np.zeros(source.dim), pairs=True) if whiten else None
        progress.start("preprocessing", n, "rows")
        with closing(read_ahead(source)) as blocks:
            for block in blocks:
                rows, found = before._applied(block)
                light += found.sum(axis=0)
                pixels.add(block)
                if of_rows is not None:
                    of_rows.add(rows)
                progress.advance(len(block))
        progress.finish()
        facts: dict[str, Any] = dict(zip(("level", "spread", "length"), light / n, strict=True))
        given = self.kind, self.distance, self.floor, self.epsilon
        if of_rows is not None:
            mean = of_rows.mean.astype(np.float32)
            matrices = _whitening(of_rows.covariance(), self.epsilon)
            facts |= dict(zip(ARRAYS, (mean, *matrices), strict=True))
            if self.distance == "cosine":
                whole = Preprocessing(*given, **facts)
                facts["length"] = whole._applied(source.read_block(0))[1][:, 2].mean()
        numbers = {name: float(value) for name, value in facts.items() if name not in ARRAYS}
        return Preprocessing(*given, **facts | numbers, variance=pixels.variance)


def _whitening(covariance: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """V (Λ + ε)^-½ Vᵀ and its inverse, (d, d) float32."""
    values, vectors = np.linalg.eigh(covariance)
    roots = np.sqrt(np.maximum(values, 0) + epsilon)
    whitening, inverse = (vectors * scale @ vectors.T for scale in (1 / roots, roots))
    return whitening.astype(np.float32), inverse.astype(np.float32)
