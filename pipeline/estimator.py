"""K-means as a scikit-learn estimator, for data that need not fit into memory."""

from contextlib import closing
from copy import deepcopy
from typing import Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from pipeline.config import FitOptions
from pipeline.estimator_files import SavedModel
from pipeline.estimator_parameters import Parameters
from pipeline.kmeans.fitter import Fitter, generator
from pipeline.kmeans.loop import StoppingRules
from pipeline.kmeans.minibatch import learn_batches
from pipeline.kmeans.plan import FitPlan
from pipeline.kmeans.seeding import kmeans_plus_plus, require_distinct
from pipeline.labels import LabelsOfRows
from pipeline.option_values import parse_size
from pipeline.rows.arrays import as_array, checked_block, is_lazy
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.distances import distances
from pipeline.rows.source import (
    ArraySource,
    RowSource,
    as_source,
    centroid_type,
    read_ahead,
)
from pipeline.runtime.machine import place
from pipeline.runtime.progress import Progress, SilentProgress, shown
from storage.errors import InputError


class StreamingKMeans(
    Parameters,
    LabelsOfRows,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClusterMixin,
    SavedModel,
):
    """K-means over a stream of rows, with exact sums.

    Rows are a patch store (`open_patches`), a numpy, dask, zarr or xarray array, a data frame or a
    tensor of torch: (n, d), or patches (n, rows, columns[, channels]), of floats or integers; those
    of more than 16 bits are taken as float64. Stores and dask, zarr and xarray arrays are read by
    blocks, so memory does not grow with n. Masked values, NaN and stated no-data are refused.
    `save` and `load` keep it as an .npz file, `to_sklearn` makes a KMeans of scikit-learn.

    Args:
        n_clusters: K, number of centroids.
        init: "k-means++", "random", or an array of up to K rows, (m, d); missing ones are added
            by k-means++.
        mode: "nested" (Lloyd on growing prefixes, which takes rows to be in random order), "full"
            (Lloyd on all rows) or "minibatch" (Sculley).
        max_iter: most steps that move the centroids, in nested on each prefix; None: 300 there,
            100 for full, 10 for minibatch.
        tol: stop when the squared shift of all centroids is at most tol · mean column variance.
        min_gain: stop when a pass gains less than this share of the MSE; None: 1e-4 for nested,
            0 for the others. In nested times rows · K / 3·10¹⁰, 0.5 to 6.
        breathing: rounds of adding centroids where error is large and removing the least missed,
            in nested, as far as max_iter goes; None: 60 for small K to 8 for large ones.
        batch_size: rows of a mini-batch.
        preprocess: "none", "contrast" (each row less its mean, over √(variance + contrast_floor)),
            or "zca" (whitened after that); see `pipeline.preprocessing`.
        contrast_floor: added to variances, for values of 0 … 255 (floats: 0 … 1, in proportion).
        zca_epsilon: added to eigenvalues.
        distance: "euclidean", or "cosine" (spherical: rows and centroids of length 1).
        empty: an empty cluster gets a "random" row, or half of the worst cluster ("split").
        engine: "pruned" (exact, skips what cannot be nearest, CPU only), "torch" (every row against
            every centroid), "fused" (the same by Triton, CUDA only), or "auto": pruned on a CPU,
            fused on CUDA where Triton is installed and rows are no float64, else torch.
        device: "auto", "cpu", "cuda", "mps".
        device_memory: cap on what is taken of the device's memory, as in "8GiB"; None: 80 % of
            what is free there.
        scheduler: "" or None (this process), "processes:N", or the address of a Dask cluster, on
            whose workers the passes of `fit` over a patch store or a Dask array run; all else runs
            here. Dask arrays are fitted where Dask computes, see `fit`.
        memory: cap on the resident memory, as in "1GiB", or None for no cap.
        progress: an observer (see `Progress`); None: in a notebook a line, else nobody looks.
        random_state: int, RandomState or None; an int makes results repeatable bit for bit.
        moves, target: what breathing and min_gain were called; they go with the next version.

    Attributes:
        cluster_centers_: (K, d) float32; float64 for float64 rows; as preprocessed rows meet them.
        preprocessing_: what is done to rows before that, a `Preprocessing`; None: nothing.
        counts_: (K,) int64, rows of each cluster.
        inertia_: SSE, sum of squared distances, float.
        n_iter_: Lloyd steps, or passes of mini-batches; the last may have moved nothing.
        stopped_: which option ended the fit: "tol", "target" or "max_iter".
        history_: dict of lists, one entry per pass (see `pipeline.kmeans.history.History`).
        labels_: (n,) int32, of the rows of the last `fit`. Where those are read block by block, or
            mapped: found when first asked for, kept in a temporary file, and not pickled; or a Dask
            array, see `fit`.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        mode: str = "nested",
        max_iter: int | None = None,
        tol: float = 1e-4,
        min_gain: float | None = None,
        breathing: int | None = None,
        batch_size: int = 65536,
        preprocess: str = "none",
        contrast_floor: float = 10.0,
        zca_epsilon: float = 0.1,
        distance: str = "euclidean",
        empty: str = "random",
        engine: str = "auto",
        device: str = "auto",
        device_memory: str | int | None = None,
        scheduler: str | None = "",
        memory: str | int | None = None,
        progress: Progress | None = None,
        random_state: Any = None,
        moves: Any = "deprecated",
        target: Any = "deprecated",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.mode = mode
        self.max_iter = max_iter
        self.tol = tol
        self.min_gain = min_gain
        self.breathing = breathing
        self.batch_size = batch_size
        self.preprocess = preprocess
        self.contrast_floor = contrast_floor
        self.zca_epsilon = zca_epsilon
        self.distance = distance
        self.empty = empty
        self.engine = engine
        self.device = device
        self.device_memory = device_memory
        self.scheduler = scheduler
        self.memory = memory
        self.progress = progress
        self.random_state = random_state
        self.moves = moves
        self.target = target

    def fit(self, X: Any, y: None = None) -> Self:  # noqa: N803  # scikit-learn's names
        """Learn the centroids from all rows of X; y is ignored.

        Where workers of a Dask cluster are at work, by `scheduler` or as a client is the default
        one of this process, passes over a Dask array run on them (but mini-batches): each block
        is computed once and kept there, as by `persist`, until the fit ends, so that the workers
        need memory for all of X, or disk to spill to. A task sees one block; sums, and samples of
        the rows, come here. `labels_` is then a Dask array, too. Results of integers are those of
        the same rows in this process, bit for bit, but of more than 16 bits, which are floats.

        Raises: InputError (a ValueError) for bad parameters, or fewer than K distinct rows;
            MemoryBudgetError where the cap is too small.
        """
        options = self._options()
        source = self._source(X, reset=True)
        self._forget("cluster_centers_", "counts_", "inertia_", "n_iter_")
        given, memory = source, parse_size("memory", self.memory)
        with (
            shown(self.progress) as progress,
            self._scheduler(source, memory, progress) as scheduler,
        ):
            source = self._spread(source, scheduler)
            self._prepare(source, options, progress)
            source = self._met(source)
            engine, init = self._engine_spec(source), self._initial(source.dim)
            require_distinct(source, self.n_clusters)
            progress.note(place(self.device, engine))
            plan = FitPlan.make(
                source,
                [self.n_clusters],
                options,
                engine,
                scheduler,
                memory=memory,
                device_memory=parse_size("device_memory", self.device_memory),
            )
            for note in plan.notes:
                progress.note(note)
            plan = plan.preflight(progress)
            with closing(Fitter(plan, progress)) as fitter:
                progress.stage(fitter.steps(self.n_clusters, warm=False))
                fit = fitter.fit(self.n_clusters, init)
        self.cluster_centers_, self.counts_ = fit.centroids, fit.sums.counts
        self.inertia_ = fit.inertia
        self.n_iter_, self.stopped_ = fit.updates, fit.stopped
        self.history_ = vars(fit.history)
        self._taken, self._row_type = fit.sums, source.dtype
        if self._lazily(given):
            self._labels = self._lazy_labels(given)
        else:
            self._label(X, source)
        return self

    def partial_fit(self, X: Any, y: None = None) -> Self:  # noqa: N803
        """Learn from the next rows of a stream, by Sculley's rule; y is ignored.

        The first call seeds the centroids from its own rows. `counts_` and `inertia_` add up over
        the calls, each row scored against the centroids it met.
        """
        options, first = self._options(), not hasattr(self, "cluster_centers_")
        source = self._source(X, reset=first)
        if first:
            self._prepare(source, options, SilentProgress())
        else:
            self._check_goes_on(options)
        source = self._met(source)
        if not first and source.dtype != self._row_type:
            raise InputError(
                f"rows of {source.dtype} do not go on with a stream of {self._row_type}:"
                " convert them"
            )
        if first:
            centroids, inertia, passes = self._seed(source, options), 0.0, 0
            taken = ClusterSums.zeros(centroids, source.dtype)
        else:  # copies, lest half of X be added
            centroids, inertia, passes = self.cluster_centers_, self.inertia_, self.n_iter_
            taken = deepcopy(self._taken)
        engine, size = self._engine(source), options.batch_size
        rules = StoppingRules.of(options)
        for _, sse, moved in learn_batches(source, engine, centroids, taken, size, rules):
            inertia += float(sse.sum())
            centroids = moved
        self._forget()
        self.cluster_centers_, self.inertia_, self._taken = centroids, inertia, taken
        self.counts_, self._row_type, self.n_iter_ = taken.counts, source.dtype, passes + 1
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Index of the nearest centroid of each row, (n,) int32; ties go to the lowest.

        Of a Dask array it is one, lazy, where `fit` would run on workers.
        """
        check_is_fitted(self, "cluster_centers_")
        source = self._source(X, reset=False)
        return (
            self._lazy_labels(source) if self._lazily(source) else self._assign(self._met(source))
        )

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Euclidean distance of each row to each centroid, (n, K), float64 for float64 rows, else
        float32. Memory: all of it.
        """
        check_is_fitted(self, "cluster_centers_")
        source = self._met(self._source(X, reset=False))
        dtype = centroid_type(source.dtype)
        centroids = self.cluster_centers_.astype(dtype)
        rows = (block.astype(dtype) for block in read_ahead(source))
        return np.concatenate([distances(block, centroids) for block in rows])

    def score(self, X: Any, y: None = None) -> float:  # noqa: N803
        """Minus the SSE of the rows; y is ignored."""
        check_is_fitted(self, "cluster_centers_")
        centroids, source = self.cluster_centers_, self._source(X, reset=False)
        with self._executor(source, len(centroids)) as executor:
            return -float(executor.run_pass(centroids, SilentProgress())[0].sse(centroids).sum())

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def _source(self, rows: Any, *, reset: bool) -> RowSource:
        if reset:
            self._note_patches(rows)
        if not is_lazy(rows):
            rows = as_array(rows)
            nested = isinstance(rows, (list, tuple)) and np.ndim(rows) > 2
            if nested or getattr(rows, "ndim", 2) > 2 or np.ma.isMaskedArray(rows):
                rows = checked_block(np.asanyarray(rows), 0)
            # scikit-learn knows what to do with data frames, and refuses sparse matrices
            checked = validate_data(self, rows, reset=reset, dtype="numeric", order="C")
            source: RowSource = ArraySource(checked)
        else:
            source = as_source(rows)
            if reset:
                self.n_features_in_ = source.dim
                self._forget("feature_names_in_")
            elif source.dim != self.n_features_in_:
                raise InputError(
                    f"the rows have {source.dim} columns where {self.n_features_in_} are expected"
                )
        if reset and source.n_rows < self.n_clusters:
            raise InputError(
                f"n_samples={source.n_rows} is less than n_clusters={self.n_clusters}: use fewer"
            )
        return source

    def _seed(self, source: RowSource, options: FitOptions) -> np.ndarray:
        init, rows = self._initial(source.dim), source.read_block(0)
        rng = generator(options, self.n_clusters)
        if init is None or len(init) < self.n_clusters:
            require_distinct(ArraySource(rows), self.n_clusters)
            init = kmeans_plus_plus(rows, self.n_clusters, rng, init)
        return init.astype(centroid_type(source.dtype))
