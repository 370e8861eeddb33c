"""Numbers past 2^24 and 2^31: rows in a cluster, rows, rows times K, bytes of the scratch file.

The stores are as long as they say, but all their chunks are one file.
"""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans

from pipeline import StreamingKMeans
from pipeline.engines import EngineSpec
from pipeline.engines.cpu.assignment_cache import AssignmentCache
from pipeline.execution.executor import LocalExecutor
from pipeline.kmeans.nested import planned_rows, prefixes
from pipeline.kmeans.seeding import draw_sample
from pipeline.rows.source import StoreSource, block_count, prefix, take_rows
from pipeline.runtime.devices import CPU
from pipeline.runtime.progress import SilentProgress
from storage import PatchStore
from tests.linked_stores import linked_store, striped_images
from tests.oracles import squared_distances

PAST_FLOAT32 = (1 << 24) + (1 << 22) + 3  # rows


def store_of(folder: Path, rows: np.ndarray, n_rows: int) -> PatchStore:
    images = striped_images(folder / "stripes.npy", rows.shape[1])
    return linked_store(folder, rows, n_rows, images)


def exact_mean(values: np.ndarray, n: int) -> np.float32:
    """Of n numbers that are these over and over."""
    whole, rest = divmod(n, len(values))
    return np.float32(float(Fraction(whole * int(values.sum()) + int(values[:rest].sum()), n)))


@pytest.mark.parametrize("engine", ["pruned", pytest.param("torch", marks=pytest.mark.slow)])
def test_more_than_two_to_the_31_pairs_of_a_row_and_a_centroid(tmp_path: Path, engine: str) -> None:
    rng, k, repeats = np.random.default_rng(3), 1000, 600
    rows = rng.integers(0, 256, (4096, 4)).astype(np.uint8)
    store = store_of(tmp_path, rows, repeats * len(rows))
    assert store.n_rows * k > 1 << 31
    centroids = rng.uniform(0, 255, (k, 4)).astype(np.float32)
    executor = LocalExecutor(
        StoreSource(store), EngineSpec.resolve(engine, CPU, 4, store.dtype).make()
    )
    sums, _ = executor.run_pass(centroids, SilentProgress())
    distances = squared_distances(rows, centroids)
    labels = distances.argmin(1)
    once, counts = np.zeros((k, 4), np.int64), np.bincount(labels, minlength=k)
    np.add.at(once, labels, rows)
    np.testing.assert_array_equal(sums.counts, repeats * counts)
    np.testing.assert_array_equal(sums.sums, repeats * once)
    assert sums.sse(centroids).sum() == pytest.approx(repeats * distances.min(1).sum(), rel=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "full", "engine": "pruned"},
        {"mode": "full", "engine": "torch"},
        pytest.param({"mode": "nested"}, marks=pytest.mark.slow),
        pytest.param({"mode": "minibatch", "batch_size": 1 << 22}, marks=pytest.mark.slow),
        pytest.param({"mode": "full", "scheduler": "processes:2"}, marks=pytest.mark.slow),
        pytest.param({"mode": "nested", "scheduler": "processes:2"}, marks=pytest.mark.slow),
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_more_rows_in_one_cluster_than_float32_can_count(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    values = np.where(np.arange(1 << 12) % 5 == 0, 1, 254).astype(np.uint8)
    store = store_of(tmp_path, values[:, None], PAST_FLOAT32)
    km = StreamingKMeans(1, init="random", max_iter=1, random_state=0, **options).fit(store)
    assert km.counts_.tolist() == [PAST_FLOAT32]
    assert km.cluster_centers_[0, 0] == exact_mean(values, PAST_FLOAT32)


@pytest.mark.parametrize(
    "who",
    ["patchdict", *(pytest.param(w, marks=pytest.mark.slow) for w in ("scikit-learn", "faiss"))],
)
def test_peers_in_float32_miss_the_mean_of_equal_rows(who: str) -> None:
    rows = np.full((PAST_FLOAT32, 1), 254, np.uint8)
    rows[::5] = 1
    init = np.array([[0.0], [200.0]], np.float32)
    if who == "patchdict":
        model = StreamingKMeans(2, init=init, mode="full", max_iter=1).fit(rows)
        found = model.cluster_centers_.ravel().tolist()
    elif who == "faiss":
        faiss = pytest.importorskip("faiss", reason="faiss-cpu is a dependency of the benchmarks")
        km = faiss.Kmeans(1, 2, niter=1, max_points_per_centroid=len(rows), seed=1)
        km.train(rows.astype(np.float32), init_centroids=init)
        found = km.centroids.ravel().tolist()
    else:
        model = KMeans(2, init=init, n_init=1, max_iter=1, tol=0, algorithm="lloyd")
        found = model.fit(rows.astype(np.float32)).cluster_centers_.ravel().tolist()
    print(f"{who}: {found}, exact [1.0, 254.0]")
    assert (found == [1.0, 254.0]) == (who == "patchdict")


class LongSource:
    """2^40 rows of two columns: the number of the block, and 1."""

    n_rows, dim, dtype, block_rows = (1 << 40) + 3, 2, np.dtype(np.uint8), 1 << 20
    origin = None

    def read_block(self, index: int) -> np.ndarray:
        rows = np.ones((min(self.block_rows, self.n_rows - index * self.block_rows), 2), np.uint8)
        rows[:, 0] = index % 251
        return rows


def test_rows_are_found_past_two_to_the_31() -> None:
    source = LongSource()
    assert block_count(source) == (1 << 20) + 1
    numbers = np.array([1 << 40, 5, (1 << 31) + 7, (1 << 40) + 2, (1 << 32) - 1])
    expected = [number // source.block_rows % 251 for number in numbers.tolist()]
    assert take_rows(source, numbers)[:, 0].tolist() == expected
    assert draw_sample(source, 3, np.random.default_rng(0)).shape == (3, 2)
    assert len(prefix(source, (1 << 32) + 9).read_block(1 << 12)) == 9
    sizes, _ = prefixes(source.n_rows, 100, warm=False)
    assert sizes[-1] == source.n_rows
    assert all(2 * one >= two for one, two in pairwise(sizes))
    assert planned_rows(source.n_rows, 100, 30, 300, warm=False) > source.n_rows


@pytest.mark.parametrize("k", [2, 70_000])  # labels of 16 and of 32 bits
def test_the_scratch_file_reaches_past_two_to_the_31_bytes(tmp_path: Path, k: int) -> None:
    n_rows, block_rows = (1 << 32) + 5, 1024  # most of the file is a hole
    cache = AssignmentCache(n_rows, block_rows, tmp_path)
    centroids = np.arange(k, dtype=np.float32)[:, None]
    cache.begin(n_rows, centroids, 1.0)
    last = n_rows // block_rows
    # In 31 or 32 bits the second would lie where the first does.
    blocks = {0: 1024, 1 << 21: 1024, last: n_rows % block_rows}
    for index, length in blocks.items():
        known, labelled = cache.read(index)
        assert not labelled
        known.label[:], known.upper[:], known.lower[:] = index % 65_521 % k, index % 60_000, 7
        assert len(known.label) == length
        cache.write(index, known)
    for index, length in blocks.items():
        known, labelled = cache.read(index)
        assert labelled
        assert known.label.tolist() == [index % 65_521 % k] * length
    cache.close()


@pytest.mark.slow
def test_a_pass_over_more_than_two_to_the_31_rows(tmp_path: Path) -> None:
    values = np.where(np.arange(1 << 12) % 5 == 0, 1, 254).astype(np.uint8)
    n = (1 << 31) + 12345
    store = store_of(tmp_path, values[:, None], n)
    assert store.n_rows == n
    source = StoreSource(store)
    engine = EngineSpec.resolve("pruned", CPU, 1, store.dtype).make()
    centroids = np.array([[0.0], [200.0]], np.float32)
    sums, _ = LocalExecutor(source, engine).run_pass(centroids, SilentProgress())
    whole, rest = divmod(n, len(values))
    small = whole * int((values == 1).sum()) + int((values[:rest] == 1).sum())
    assert sums.counts.tolist() == [small, n - small]
    assert sums.sums.ravel().tolist() == [small, 254 * (n - small)]
    assert sums.squares.tolist() == [small, 254**2 * (n - small)]
    assert sums.sse(centroids).tolist() == [small, 54.0**2 * (n - small)]
    assert take_rows(source, np.array([n - 1, 1 << 31])).ravel().tolist() == [
        values[(n - 1) % len(values)],
        values[0],
    ]
