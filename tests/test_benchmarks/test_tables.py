"""`make bench` on a few rows: every table is made of all that it measures."""

import statistics

import numpy as np
import pytest

pytest.importorskip("faiss", reason="make bench needs faiss")

from tests.benchmarks import converging, stepping

ROWS = np.random.default_rng(0).integers(0, 256, (4000, 25)).astype(np.uint8)


@pytest.mark.filterwarnings("ignore")  # of the peers
def test_fits_of_all_ways_are_compared() -> None:
    table = converging.measure(ROWS, ROWS[:500], 3, None)
    names = [next(iter(row.values())) for row in table]
    assert [name.split()[0] for name in names] == ["patchdict", "scikit-learn", "faiss", *names[3:]]
    scores = [float(row["MSE"]) for row in table]
    assert len(scores) == 4
    assert scores[0] <= 1.01 * min(scores)


@pytest.mark.filterwarnings("ignore")
def test_passes_of_all_ways_are_compared() -> None:
    (row,) = stepping.measure(ROWS, [3], 1, statistics.median, passes=12)
    assert all(row.values())
