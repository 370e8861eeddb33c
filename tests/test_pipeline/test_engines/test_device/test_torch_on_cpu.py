"""The torch engine on a CPU: every row against every centroid, whatever the tiles and threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engines import AssignmentEngine, EngineSpec
from pipeline.engines import ordered_sums as piece_sums
from pipeline.engines.device import tiled_search as tiles
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.runtime.devices import CPU
from tests.oracles import equal, squared_distances, sums_of


def torch_engine(dim: int, dtype: np.dtype) -> AssignmentEngine:
    return EngineSpec.resolve("torch", CPU, dim, dtype).make()


def step(rows: np.ndarray, centroids: np.ndarray, *, block: int | None = None) -> ClusterSums:
    engine = torch_engine(rows.shape[1], rows.dtype)
    engine.load(centroids)
    sums = ClusterSums.zeros(len(centroids), rows.shape[1], rows.dtype)
    for start in range(0, len(rows), block or len(rows)):
        engine.step(rows[start : start + (block or len(rows))], sums)
    return sums


def assign(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    engine = torch_engine(rows.shape[1], rows.dtype)
    engine.load(centroids)
    return engine.assign(rows)


@pytest.fixture
def tiny_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE_CENTROIDS", 5)
    monkeypatch.setattr(tiles, "TILE_BYTES", {"cpu": 80})
    monkeypatch.setattr(tiles, "MIN_TILE_ROWS", 3)
    monkeypatch.setattr(piece_sums, "MAX_PIECE_ROWS", 11)


@pytest.mark.usefixtures("tiny_tiles")
@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 40),
    k=st.integers(1, 17),
    dim=st.sampled_from([1, 2, 25, 49, 300]),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32", "float64"]),
    seed=st.integers(0, 1000),
)
def test_labels_and_sums_agree_with_the_oracle(
    n: int, k: int, dim: int, dtype: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.random((n, dim)) * 255).astype(dtype)
    centroids = (rng.random((k, dim)) * 255).astype(np.float32)
    labels = assign(rows, centroids)
    distances = squared_distances(rows, centroids)
    chosen = distances[np.arange(n), labels]
    assert (chosen <= distances.min(1) * (1 + 1e-4)).all()
    sums, expected = step(rows, centroids), sums_of(rows, labels, k)
    assert sums.sums.dtype == (np.int64 if rows.dtype.kind in "ui" else np.float64)
    if rows.dtype.kind in "ui":
        assert equal(sums, expected)
    else:
        np.testing.assert_allclose(sums.sums, expected.sums, rtol=1e-12)
        np.testing.assert_array_equal(sums.counts, expected.counts)
    sse = sums.sse(centroids).sum()
    assert sse == pytest.approx(chosen.sum(), rel=1e-9, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(block=st.integers(10, 3000), pieces=st.integers(10, 2000), tile=st.integers(1, 99))
def test_sums_are_bit_identical_for_any_partition(block: int, pieces: int, tile: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (3000, 25), dtype=np.uint8)
    centroids = rows[:40].astype(np.float32)
    whole = step(rows, centroids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(piece_sums, "MAX_PIECE_ROWS", pieces)
        patch.setattr(tiles, "TILE_BYTES", {"cpu": tile * 160})
        patch.setattr(tiles, "MIN_TILE_ROWS", 1)
        assert equal(step(rows, centroids, block=block), whole)


def test_threads_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows = rng.random((100_000, 9), dtype=np.float32)
    centroids = rows[:30].copy()
    results = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        results.append(step(rows, centroids))
    assert equal(results[0], results[1])
    assert equal(results[0], results[2])
