"""Initial centroids: K distinct rows, drawn at random or by k-means++ on a sample."""

from contextlib import closing

import numpy as np
import torch

from pipeline.streaming import Source, read_ahead, take_rows
from storage.errors import InputError

INITS = ("k-means++", "random")
MIN_SAMPLE_ROWS, SAMPLE_ROWS_PER_CENTROID = 1 << 16, 16
_EXACT_FLOAT32 = 1 << 24
_DISTINCT_STEP = 1 << 14  # rows compared at once


def seed_centroids(
    source: Source, k: int, init: str, rng: np.random.Generator, device: torch.device
) -> np.ndarray:
    """k distinct rows of the source as initial centroids.

    init: "random" (the study's) draws them uniformly; "k-means++" draws them from a uniform
        sample by greedy D² sampling.
    Returns: (k, d) of the rows' dtype.
    Raises: InputError when the source has fewer than k distinct rows.
    """
    if k < 1:
        raise InputError(f"K = {k} is too small: use at least 1")
    if init == "random":
        return _distinct(_sample(source, 2 * k, rng), source, k)[:k]
    sample = _sample(source, sample_rows(k), rng)
    if len(np.unique(sample, axis=0)) < k:
        # Too few distinct rows by chance: all of them are candidates then.
        sample = _distinct(sample, source, k)
    return kmeans_plus_plus(sample, k, rng, device)


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
    sample: np.ndarray, k: int, rng: np.random.Generator, device: torch.device
) -> np.ndarray:
    """Greedy k-means++ (Arthur & Vassilvitskii 2007, section 6: the best of a few candidates).

    sample: (m, d) with at least k distinct rows. Distances are exact for bytes up to d = 258, and
    float64 otherwise (on the host where the device has none). Returns: (k, d) rows of the sample.
    """
    narrow = sample.dtype == np.uint8 and sample.shape[1] * 255**2 < _EXACT_FLOAT32
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

    chosen = np.empty(k, np.int64)
    chosen[0] = rng.integers(len(sample))
    nearest = distances(chosen[:1])[0]
    for place in range(1, k):
        cumulative = np.cumsum(nearest.cpu().numpy(), dtype=np.float64)
        draws = rng.random(trials(k)) * cumulative[-1]
        candidates = np.minimum(np.searchsorted(cumulative, draws, side="right"), len(sample) - 1)
        closer = torch.minimum(distances(candidates), nearest)
        # Sums of whole numbers in float64 do not depend on the number of threads.
        remaining = closer.cpu().sum(1, dtype=torch.float64)
        best = int(remaining.argmin())
        chosen[place] = candidates[best]
        nearest = closer[best]
    return sample[chosen]


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
