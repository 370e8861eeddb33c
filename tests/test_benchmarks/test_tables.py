"""`make bench` on a few rows: all ways to measure run and agree."""

import statistics

import numpy as np
import pytest

pytest.importorskip("faiss", reason="make bench needs faiss")

from tests.benchmarks import converging, stepping

ROWS = np.random.default_rng(0).integers(0, 256, (2000, 25)).astype(np.uint8)


@pytest.mark.filterwarnings("ignore")  # of the peers
@pytest.mark.parametrize("way", ["ours", "scikit_learn", "flat_faiss", "minibatch"])
def test_a_way_ends_near_the_same_error(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converging, "BLOCK", 256)
    curve = getattr(converging, way)(ROWS, 3)
    assert len(curve.seconds) == len(curve.mse) > 0
    assert curve.mse[-1] == pytest.approx(0.945 * ROWS.astype(float).var(), rel=0.01)
    assert curve.mse[-1] == pytest.approx(converging.score(ROWS, curve.centroids), rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_passes_of_all_ways_are_compared() -> None:
    (row,) = stepping.measure(ROWS, [3], 1, statistics.median, passes=12)
    assert all(row.values())
