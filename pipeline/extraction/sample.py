"""Which rows a store has: all kept patches or a uniform random part of them, and their order."""

import numpy as np

from storage.patch_spec import PatchSpec

_MOST_AT_ONCE = 5 * 10**8  # numpy draws hypergeometrically from less than 10⁹, a tile is less


def placed(counts: np.ndarray, spec: PatchSpec) -> tuple[np.ndarray, np.ndarray]:
    """Where the rows of each tile go.

    Args:
        counts: (tiles,) int64, kept patches of each tile.
        spec: how many of them are drawn, and the seed of draw and order.

    Returns:
        offsets (tiles + 1,) and order (tiles,), both int64, in the store's order.
    """
    counts = drawn_counts(counts, spec.drawn(int(counts.sum())), spec.seed)
    order = np.random.default_rng(spec.seed).permutation(len(counts)).astype(np.int64)
    return np.concatenate([[0], np.cumsum(counts[order])]), order


def drawn_counts(counts: np.ndarray, n: int, seed: int) -> np.ndarray:
    """How many patches of each tile are among n that are drawn from all without replacement.

    Beyond 5·10⁸ patches, runs of tiles with fewer each get their share, rounded.

    Args:
        counts: (tiles,) int64, kept patches of each tile.
        n: how many are drawn.
        seed: of the draw.

    Returns:
        (tiles,) int64, which add up to n.
    """
    total = int(counts.sum())
    if n >= total:
        return counts
    rng = np.random.default_rng([seed, 1])
    ends = np.cumsum(counts)
    runs = np.flatnonzero(np.diff(ends // _MOST_AT_ONCE)) + 1
    found, done, before = np.empty_like(counts), 0, 0
    for tiles in np.split(np.arange(len(counts)), runs):
        before += int(counts[tiles].sum())
        share = n * before // total - done
        found[tiles] = rng.multivariate_hypergeometric(counts[tiles], share, method="marginals")
        done += share
    return found


def drawn_rows(tile: int, kept: int, n: int, seed: int) -> np.ndarray:
    """Which of a tile's kept patches are drawn: (n,) ascending places among them."""
    chosen = np.random.default_rng([seed, 2, tile]).choice(kept, n, replace=False, shuffle=False)
    return np.sort(chosen)
