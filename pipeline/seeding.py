"""Initial centroids: K distinct rows, drawn at random or by k-means++ on a sample."""

from contextlib import closing

import numpy as np
import torch

from pipeline.progress import Progress, SilentProgress
from pipeline.streaming import Source, read_ahead, take_rows
from pipeline.sums import squares_fit_float32
from storage.errors import InputError

INITS = ("k-means++", "random")
MIN_SAMPLE_ROWS, SAMPLE_ROWS_PER_CENTROID = 1 << 16, 16
_DISTINCT_STEP = 1 << 14  # rows compared at once


def seed_centroids(
    source: Source,
    k: int,
    init: str,
    rng: np.random.Generator,
    device: torch.device,
    given: np.ndarray | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """K initial centroids: distinct rows of the source, after those that are `given`.

    init: "random" (the study's) draws them uniformly; "k-means++" draws them from a uniform
        sample by greedy D² sampling.
    given: (m, d) centroids to start from, m <= k; the others are drawn by k-means++.
    Returns: (k, d), of the rows' dtype if nothing is given.
    Raises: InputError when the source has fewer than k distinct rows.
    """
    if k < 1:
        raise InputError(f"K = {k} is too small: use at least 1")
    if given is not None and len(given) == k:
        return given
    if init == "random" and given is None:
        return _distinct(_sample(source, 2 * k, rng), source, k)[:k]
    sample = _sample(source, sample_rows(k), rng)
    if len(np.unique(sample, axis=0)) < k:
        # Too few distinct rows by chance: all of them are candidates then.
        sample = _distinct(sample, source, k)
    return kmeans_plus_plus(sample, k, rng, device, given, progress)


def sample_rows(k: int) -> int:
    """Rows in the sample from which k-means++ draws k centroids."""
    return max(MIN_SAMPLE_ROWS, SAMPLE_ROWS_PER_CENTROID * k)


def projected_bytes(k: int, dim: int, itemsize: int) -> int:
    """Memory of seeding in bytes, at most: the sample as read, in float64, and the distances."""
    rows = sample_rows(k)
    return rows * (2 * dim * itemsize + 8 * dim + 3 * 8 * trials(k))


def trials(k: int) -> int:
    """Candidates of which k-means++ keeps the best at each step, as in scikit-learn."""
    return 2 + int(np.log(k))


def kmeans_plus_plus(
    sample: np.ndarray,
    k: int,
    rng: np.random.Generator,
    device: torch.device,
    given: np.ndarray | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Greedy k-means++ (Arthur & Vassilvitskii 2007, section 6: the best of a few candidates).

    sample: (m, d) with at least k distinct rows. given: centroids that stand already, fewer than
    k. Distances are exact for bytes up to d = 258, and float64 otherwise (on the host where the
    device has none).
    Returns: (k, d), the given ones, then rows of the sample; of its dtype if nothing is given.
    """
    narrow = squares_fit_float32(sample.dtype, sample.shape[1]) and given is None
    progress = progress or SilentProgress()
    progress.start(f"K={k} seeding", k, "centroids")
    where = torch.device("cpu") if device.type == "mps" and not narrow else device
    rows = torch.from_numpy(sample).to(where, torch.float32 if narrow else torch.float64)
    lengths = rows.square().sum(1)

    def distances(candidates: np.ndarray) -> torch.Tensor:
        """Squared distances of the candidates to all rows, (c, m)."""
        index = torch.from_numpy(candidates).to(where)
        squared = torch.addmm(lengths, rows[index], rows.T, alpha=-2)
        squared += lengths[index, None]
        squared.clamp_(min=0)
        squared[torch.arange(len(index), device=where), index] = 0  # free of rounding
        return squared

    chosen: list[int] = []
    if given is None:
        chosen.append(int(rng.integers(len(sample))))
        nearest = distances(np.asarray(chosen))[0]
    else:
        centroids = torch.from_numpy(given).to(where, rows.dtype)
        nearest = torch.cdist(rows, centroids[:1])[:, 0]
        for centroid in centroids[1:]:
            torch.minimum(nearest, torch.cdist(rows, centroid[None])[:, 0], out=nearest)
        nearest = nearest.square()
    progress.advance(len(chosen) if given is None else len(given))
    while len(chosen) + (0 if given is None else len(given)) < k:
        cumulative = np.cumsum(nearest.cpu().numpy(), dtype=np.float64)
        draws = rng.random(trials(k)) * cumulative[-1]
        candidates = np.minimum(np.searchsorted(cumulative, draws, side="right"), len(sample) - 1)
        closer = torch.minimum(distances(candidates), nearest)
        # Sums of whole numbers in float64 do not depend on the number of threads.
        remaining = closer.cpu().sum(1, dtype=torch.float64)
        best = int(remaining.argmin())
        chosen.append(int(candidates[best]))
        nearest = closer[best]
        progress.advance(1)
    progress.finish()
    drawn = sample[chosen]
    return drawn if given is None else np.concatenate([given, drawn.astype(given.dtype)])


def _sample(source: Source, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows drawn uniformly without replacement, in the order drawn; all of them if few."""
    numbers = rng.choice(source.n_rows, min(count, source.n_rows), replace=False)
    return take_rows(source, numbers)


def require_distinct(source: Source, k: int) -> None:
    """Raises InputError when the source has fewer than k distinct rows; reads until it knows."""
    _distinct(np.empty((0, source.dim), source.dtype), source, k)


def _distinct(rows: np.ndarray, source: Source, k: int) -> np.ndarray:
    """At least k distinct rows: those of `rows` in order, then others as the source gives them."""
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
