"""Initial centroids: K distinct rows, drawn at random or by k-means++ on a sample."""

from contextlib import closing

import numpy as np

from pipeline.engines import AssignmentEngine, EngineSpec
from pipeline.engines.cpu.threads import ThreadPool
from pipeline.kmeans.d2_sampling import (
    Field,
    assign_points,
    draw_centroids,
    make_state,
    padded_dim,
    state_bytes,
)
from pipeline.kmeans.d2_trials import LONG, draw_side_by_side
from pipeline.kmeans.empty_clusters import new_rows
from pipeline.rows.source import RowSource, centroid_type, read_ahead, take_rows
from pipeline.runtime.kernel_cache import compilation_told
from pipeline.runtime.progress import Progress, SilentProgress
from storage.errors import InputError

INITS = ("k-means++", "random")
MIN_SAMPLE_ROWS, SAMPLE_ROWS_PER_CENTROID = 1 << 16, 16
# Larger patches: fewer rows, but for each centroid. Bytes take less, and may be twice as many.
SAMPLE_VALUES = 256 * MIN_SAMPLE_ROWS
SAMPLE_BYTES = 2 * SAMPLE_VALUES
TRIALS = 4
DRAWN_FROM = 50  # times as many numbers or fewer, and numpy's choice lists them all
_DISTINCT_STEP = 1 << 14  # rows compared at once
_REPORT = 256  # centroids between reports of progress


def seed_centroids(
    source: RowSource,
    k: int,
    init: str,
    rng: np.random.Generator,
    given: np.ndarray | None = None,
    progress: Progress | None = None,
    engine: AssignmentEngine | None = None,
    sample: np.ndarray | None = None,
) -> np.ndarray:
    """K initial centroids: distinct rows of the source, after those that are `given`.

    init: "random" (the study's) draws them uniformly; "k-means++" draws them from a uniform
        sample by greedy D² sampling.
    given: (m, d) centroids to start from, m <= k; the others are drawn by k-means++.
    engine: labels the sample; None: one of its own.
    sample: (m, d), of which k-means++ draws; None: as many rows as `sample_rows` says.
    Returns: (k, d), of the rows' dtype if nothing is given.
    Raises: InputError when the source has fewer than k distinct rows.
    """
    if given is not None and len(given) == k:
        return given
    progress = progress or SilentProgress()
    progress.start(f"K={k} seeding", k, "centroids")
    if init == "random" and given is None:
        seeds = distinct_rows(source, k, draw_sample(source, 2 * k, rng))[:k]
    else:
        if sample is None:
            rows = sample_rows(k, source.dim, source.dtype.itemsize)
            sample = draw_sample(source, rows, rng)
        if len(np.unique(sample, axis=0)) < k:
            # Too few distinct rows by chance: all of them are candidates then.
            sample = distinct_rows(source, k, sample)
        seeds = kmeans_plus_plus(sample, k, rng, given, progress, engine=engine)
    progress.finish()
    return seeds


def check_start(centroids: np.ndarray, k: int, dim: int) -> np.ndarray:
    """The centroids to start from, if they are 1 to k finite rows; raises InputError otherwise."""
    if not np.isfinite(centroids).all():
        raise InputError("init holds infinite values or NaN: give finite rows")
    if centroids.ndim != 2 or centroids.shape[1] != dim or not 1 <= len(centroids) <= k:
        raise InputError(
            f"init has the shape {centroids.shape} where 1 to {k} rows of {dim} are expected"
        )
    return centroids


def sample_rows(k: int, dim: int, itemsize: int) -> int:
    """Rows in the sample from which k centroids are drawn, and by which they are judged.

    dim, itemsize: values of a row, bytes of a value.
    """
    values = max(SAMPLE_VALUES, SAMPLE_BYTES // itemsize)
    return max(min(MIN_SAMPLE_ROWS, values // dim), SAMPLE_ROWS_PER_CENTROID * k)


def projected_bytes(k: int, dim: int, itemsize: int, rows: int, init: str, of: int) -> int:
    """Memory in bytes, at most, of drawing k centroids from a sample of so many rows of a source's.

    The sample as read; then their numbers as they are drawn, or the sample as it is sorted, or its
    field and labels.
    """
    if init == "random":
        rows = 2 * k
    sample = rows * dim * itemsize
    numbers = 8 * of if of <= DRAWN_FROM * rows else 32 * rows  # a hash table, 24 as measured
    if init == "random":
        return sample + max(numbers, 2 * sample)
    field = state_bytes(rows, dim, k) + 64 * rows
    return sample + max(numbers, 2 * sample, field)


def field_bytes(rows: int, dim: int, itemsize: int) -> int:
    """Bytes of a sample of so many rows, and of the field that it becomes."""
    return rows * (dim * itemsize + 4 * padded_dim(dim))


def trials(k: int) -> int:
    """Candidates of which k-means++ keeps the best at each step.

    scikit-learn's 2 + ln K, but no more than four: on patches of MNIST the advantage of more is
    gone after a few Lloyd steps.
    """
    return min(2 + int(np.log(k)), TRIALS)


def kmeans_plus_plus(
    sample: np.ndarray,
    k: int,
    rng: np.random.Generator,
    given: np.ndarray | None = None,
    progress: Progress | None = None,
    engine: AssignmentEngine | None = None,
) -> np.ndarray:
    """Greedy k-means++ (Arthur & Vassilvitskii 2007, section 6: the best of a few candidates).

    sample: (m, d) with at least k distinct rows. given: centroids that stand already, fewer than
    k. engine: see `seed_centroids`.
    Returns: (k, d), the given ones, then rows of the sample; of its dtype if nothing is given.
    """
    progress = progress or SilentProgress()
    if given is None:
        first = int(rng.integers(len(sample)))
        standing, labels = sample[first : first + 1], np.zeros(len(sample), np.int64)
    else:
        standing = given
        engine = engine or EngineSpec.for_samples(sample.shape[1], sample.dtype).make()
        engine.load(given.astype(centroid_type(sample.dtype)))
        labels = engine.assign(sample)
    progress.advance(len(standing))
    with compilation_told(progress):
        chosen = add_by_distance(
            Field.of(sample), standing, labels, k - len(standing), rng, progress
        )
    seeds = np.concatenate([standing, sample[chosen].astype(standing.dtype)])
    if len(seeds) < k:  # rows that differ by less than float32 tells
        seeds = np.concatenate([seeds, new_rows(sample.astype(seeds.dtype), seeds, k - len(seeds))])
    return seeds


def add_by_distance(
    field: Field,
    centroids: np.ndarray,
    labels: np.ndarray,
    many: int,
    rng: np.random.Generator,
    progress: Progress | None = None,
) -> np.ndarray:
    """Points to add to given centroids, one after the other, by greedy D² sampling.

    field: m points. centroids: (k, d), as the rows are. labels: (m,), the nearest of them.
    Returns: numbers of points, (many,) int64, or fewer where all others are centroids.
    """
    dim, k, total = centroids.shape[1], len(centroids), len(centroids) + many
    state = make_state(field.points, total)
    state.centroids[:k, :dim] = points = field.points_of(centroids)
    state.columns.reshape(-1, len(state.start))[:dim, :k] = points.T
    assign_points(state, labels)
    chosen = np.empty(many, np.int64)
    pool = ThreadPool() if dim >= LONG else None
    for start in range(0, many, _REPORT):
        stop = min(start + _REPORT, many)
        draws = rng.random((stop - start, trials(total)))
        if pool is not None:
            drawn = draw_side_by_side(state, k + start, dim, draws, chosen[start:stop], pool)
        else:
            drawn = draw_centroids(state, k + start, dim, draws, chosen[start:stop])
        if drawn < stop - start:
            return chosen[: start + drawn]
        if progress is not None:
            progress.advance(drawn)
    return chosen


def draw_sample(source: RowSource, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows drawn uniformly without replacement, in the order drawn; all of them if few."""
    numbers = rng.choice(source.n_rows, min(count, source.n_rows), replace=False)
    return take_rows(source, numbers)


def require_distinct(source: RowSource, k: int) -> None:
    """Raises InputError when the source has fewer than k distinct rows; reads until it knows."""
    distinct_rows(source, k, np.empty((0, source.dim), source.dtype))


def distinct_rows(source: RowSource, k: int, rows: np.ndarray) -> np.ndarray:
    """K distinct rows or more: those of `rows` in order, then others as the source gives them.

    Raises: InputError when there are fewer.
    """
    found = _drop_repeats(rows)
    step = max(_DISTINCT_STEP, k)
    with closing(read_ahead(source)) as blocks:
        for block in blocks:
            for start in range(0, len(block), step):
                if len(found) >= k:
                    return found
                found = _drop_repeats(np.concatenate([found, block[start : start + step]]))
    if len(found) >= k:
        return found
    raise InputError(f"K = {k} is more than the {len(found)} distinct rows there are: use fewer")


def _drop_repeats(rows: np.ndarray) -> np.ndarray:
    _, first = np.unique(rows, axis=0, return_index=True)
    return rows[np.sort(first)]
