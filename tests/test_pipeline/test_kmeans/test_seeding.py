from collections import Counter
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import kmeans_plusplus

from pipeline import StreamingKMeans
from pipeline.kmeans import seeding
from pipeline.kmeans.seeding import kmeans_plus_plus, require_distinct, seed_centroids
from pipeline.rows.source import ArraySource
from storage import InputError
from tests.oracles import squared_distances

RNG = np.random.default_rng


def blobs(n: int = 4000) -> np.ndarray:
    rng = RNG(0)
    centres = rng.integers(20, 230, (25, 6))
    noise = rng.normal(0, 4, (n, 6))
    return np.clip(centres[rng.integers(0, 25, n)] + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("init", seeding.INITS)
def test_seeds_are_distinct_rows_and_repeat_with_the_seed(init: str) -> None:
    rows = blobs()
    one, again, other = (
        seed_centroids(ArraySource(rows), 60, init, RNG(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert len(np.unique(one, axis=0)) == 60
    assert {tuple(row) for row in one} <= {tuple(row) for row in rows}


@pytest.mark.parametrize("init", seeding.INITS)
def test_every_distinct_row_can_be_asked_for_and_one_more_is_refused(init: str) -> None:
    # 40 distinct rows, of which one makes up nearly all: a sample by chance lacks most
    rows = np.zeros((30_000, 3), np.uint8)
    rows[-39:, 0] = np.arange(1, 40)
    seeds = seed_centroids(ArraySource(rows), 40, init, RNG(0))
    assert len(np.unique(seeds, axis=0)) == 40
    with pytest.raises(InputError, match="K = 41 is more than the 40 distinct rows there are"):
        seed_centroids(ArraySource(rows), 41, init, RNG(0))


def test_distinct_rows_are_counted_over_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 64)
    monkeypatch.setattr(seeding, "_DISTINCT_STEP", 5)
    rows = np.repeat(np.arange(50, dtype=np.uint8), 3)[:, None]
    require_distinct(ArraySource(rows), 50)
    with pytest.raises(InputError, match="the 50 distinct rows"):
        require_distinct(ArraySource(rows), 51)


def test_random_seeding_is_uniform() -> None:
    rows = np.arange(10, dtype=np.uint8)[:, None]
    rng = RNG(0)
    drawn = Counter(
        int(row[0])
        for _ in range(1000)
        for row in seed_centroids(ArraySource(rows), 3, "random", rng)
    )
    assert all(240 <= drawn[value] <= 360 for value in range(10))


def test_d_squared_sampling_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # With one candidate per step, from row 0: squared distances 0, 1, 4, 25 of 30 in all
    monkeypatch.setattr(seeding, "trials", lambda k: 1)
    rows = np.array([[0], [1], [2], [5]], np.uint8)
    rng = RNG(0)
    second: Counter[int] = Counter()
    starts = 0
    for _ in range(8000):
        first, next_one = (int(row[0]) for row in kmeans_plus_plus(rows, 2, rng))
        if first == 0:
            starts += 1
            second[next_one] += 1
    assert second[0] == 0
    for value, share in ((1, 1 / 30), (2, 4 / 30), (5, 25 / 30)):
        assert second[value] / starts == pytest.approx(share, abs=0.03)


def test_as_good_as_scikit_learns() -> None:
    rows = blobs()
    ours = [kmeans_plus_plus(rows, 25, RNG(seed)) for seed in range(8)]
    theirs = [kmeans_plusplus(rows.astype(float), 25, random_state=s)[0] for s in range(8)]
    potential = [
        np.mean([squared_distances(rows, seeds).min(1).sum() for seeds in group])
        for group in (ours, theirs)
    ]
    assert potential[0] <= 1.15 * potential[1]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_given_centroids_are_kept_and_the_others_drawn_away_from_them(dtype: str) -> None:
    rows = np.repeat(np.array([[0, 0], [9, 9], [200, 0]]), 50, axis=0).astype(dtype)
    given = np.array([[0, 0], [200, 1]], np.float32)
    seeds = seed_centroids(ArraySource(rows), 3, "random", RNG(0), given)
    np.testing.assert_array_equal(seeds[:2], given)
    assert seeds[2].tolist() == [9, 9]


def test_moves_judge_by_the_rows_that_seeds_were_drawn_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn, draw = [], seeding.draw_sample

    def recorded(*given: Any) -> np.ndarray:
        drawn.append(draw(*given))
        return drawn[-1]

    monkeypatch.setattr(seeding, "draw_sample", recorded)
    rows = RNG(1).integers(0, 256, (3000, 4), np.uint8)
    StreamingKMeans(20, breathing=2, max_iter=20).fit(rows)
    assert len(drawn) == 1  # a store is read through for each
    given = np.array([[0, 0, 0, 0]], np.float32)
    seeds = seed_centroids(ArraySource(rows), 5, "k-means++", RNG(0), given, sample=rows[:40])
    assert len(drawn) == 1
    assert {tuple(row) for row in seeds[1:]} <= {tuple(row) for row in rows[:40]}


@pytest.mark.parametrize(
    ("dim", "itemsize", "rows"),
    [
        (25, 1, 65536),
        (256, 8, 65536),
        (512, 1, 65536),
        (768, 1, 43690),
        (768, 2, 21845),
        (768, 4, 21845),
        (3072, 1, 16000),
    ],
)
def test_samples_of_large_patches_have_fewer_rows_but_enough_for_each_centroid(
    dim: int, itemsize: int, rows: int
) -> None:
    """At d = 768 scikit-learn ended 1 % lower than a sample of 21,845 rows led to."""
    assert seeding.sample_rows(1000, dim, itemsize) == rows
