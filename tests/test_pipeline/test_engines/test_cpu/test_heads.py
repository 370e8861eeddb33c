"""Heads: chosen where patches have most of their energy in a few directions, and only there."""

import numpy as np
import pytest

from pipeline.engines.cpu.centroid_table import head_points
from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.engines.cpu.scan import heads
from tests.oracles import equal
from tests.test_pipeline.test_engines.test_cpu.test_engine import cached, check, fresh, lloyd


def smooth(n: int, dim: int, dtype: str) -> np.ndarray:
    """Rows as of photographs: ten directions, and a little noise."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, 10)) * 2.0 ** -np.arange(10) @ rng.normal(size=(10, dim))
    rows = 128 + 20 * rows + rng.normal(size=(n, dim))
    return rows.clip(0, 255).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("dim", [192, 300])
def test_of_smooth_rows_few_candidates_are_looked_at_in_full(
    dtype: str, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = smooth(4000, dim, dtype)
    centroids = rows[:500].astype(np.float64 if dtype == "float64" else np.float32)
    products, labels = [], []
    for least in (heads.LEAST_DIM, 1 << 30):
        monkeypatch.setattr(heads, "LEAST_DIM", least)
        engine = PrunedEngine(dim, rows.dtype)
        engine.load(centroids)
        labels.append(engine.labeller.find(rows).label)
        products.append(engine.effort.products)
    check(rows, centroids, labels[0])
    np.testing.assert_array_equal(*labels)
    assert products[0] < products[1] / 10


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_passes_with_a_cache_are_those_without(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "best_size", lambda *_: 16)
    rows = smooth(6000, 192, dtype)
    with cached(rows) as executor:
        for centroids, sums in lloyd(executor, rows[:400].astype(np.float32), 6):
            assert equal(sums, fresh(rows, centroids))
        assert executor.engine.labeller._heads.basis is not None
        assert executor.engine.effort.scanned < executor.engine.effort.rows  # or nothing was kept


def test_rows_without_directions_are_compared_in_full() -> None:
    rows = np.random.default_rng(0).normal(size=(4000, 192)).astype(np.float32)
    engine = PrunedEngine(192, rows.dtype)
    engine.load(rows[:500])
    found = engine.labeller.find(rows)
    assert engine.labeller._heads.basis is None
    check(rows, rows[:500], found.label)


def test_a_basis_is_orthonormal_and_holds_what_there_is() -> None:
    points = smooth(300, 64, "float64") - 128
    basis = heads.basis_of(points, 16)
    np.testing.assert_allclose(basis @ basis.T, np.eye(16), atol=1e-12)
    best = np.linalg.svd(points, compute_uv=False)[:16]
    assert np.square(points @ basis.T).sum() > 0.999 * np.square(best).sum()
    few = heads.basis_of(points[:3], 16)  # fewer points than directions
    np.testing.assert_allclose(few @ few.T, np.eye(16), atol=1e-12)
    np.testing.assert_allclose(points[:3] @ few.T @ few, points[:3], atol=1e-9)


def test_distances_between_heads_are_no_larger() -> None:
    points = smooth(200, 100, "float64") - 128
    near = head_points(points, heads.basis_of(points, 8))
    apart, bound = (np.linalg.norm(p[:, None] - p, axis=2) for p in (points, near))
    assert (bound <= apart * (1 + 1e-9) + 1e-9).all()
    assert bound.sum() > 0.9 * apart.sum()
