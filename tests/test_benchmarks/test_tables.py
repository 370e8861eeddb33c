"""`make bench` on a few rows: all ways to measure run and agree."""

import statistics
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("faiss", reason="make bench needs faiss")

from storage import PatchSpec
from tests.benchmarks import converging, extracting, floor, lance_stream, stepping
from tests.benchmarks.peers import limited_breathing
from tests.process_trees import run_measured

ROWS = np.random.default_rng(0).integers(0, 256, (2000, 25)).astype(np.uint8)


@pytest.mark.filterwarnings("ignore")  # of the peers
@pytest.mark.parametrize("way", [*converging.LARGE_WAYS, converging.minibatch])
def test_a_way_ends_near_the_same_error(
    way: converging.Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converging, "BLOCK", 256)
    curve = way(ROWS, 3)
    assert len(curve.seconds) == len(curve.mse) > 0
    assert curve.mse[-1] == pytest.approx(0.945 * ROWS.astype(float).var(), rel=0.01)
    assert curve.mse[-1] == pytest.approx(converging.score(ROWS, curve.centroids), rel=1e-6)


def test_curves_are_compared_and_drawn_run_by_run() -> None:
    ours = converging.Curve("ours", [1.0, 2.0], [9.0, 5.0])
    runs = converging.Curve("theirs", [3.0, 8.0], [9.0, 4.0], runs=["short", "long"])
    table = converging.compared("K", [ours, runs])
    assert [row["K"] for row in table] == ["ours", "short", "long"]
    assert [row["sooner by"] for row in table] == ["", "3.0 ×", "never"]
    labels = [text.get_text() for text in converging.draw({"": [ours, runs]}).legends[0].texts]
    assert labels == ["ours", "theirs"]


@pytest.mark.filterwarnings("ignore")
def test_passes_of_all_ways_are_compared() -> None:
    (row,) = stepping.measure(ROWS, [3], 1, statistics.median, passes=12)
    assert all(row.values())


@pytest.mark.filterwarnings("ignore")
def test_the_lowest_of_all_has_no_excess(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in (("RESTARTS", 2), ("LONG_SEEDS", 1), ("LONG_ROUNDS", 40)):
        monkeypatch.setattr(floor, name, few)
    table = floor.measure(ROWS, 3)
    excess = [float(row["excess over the best"].rstrip("%")) for row in table]
    assert min(excess) == 0 <= max(excess) < 1
    assert len(excess) >= 3


@pytest.mark.filterwarnings("ignore")
def test_breathing_that_is_out_of_time_hands_out_its_first_fit() -> None:
    bkmeans = pytest.importorskip("bkmeans", reason="bkmeans is a dependency of the benchmarks")
    model = limited_breathing(bkmeans, 0.0)(n_clusters=3, random_state=0).fit(ROWS)
    assert not model.in_time
    assert model.cluster_centers_.shape == (3, ROWS.shape[1])
    whole = limited_breathing(bkmeans, 60.0)(n_clusters=3, random_state=0).fit(ROWS)
    assert whole.in_time
    assert whole.inertia_ <= model.inertia_


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lance_trains_in_a_process_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("lance", reason="pylance is a dependency of the benchmarks")
    store = extracting.store_of("digits", tmp_path, PatchSpec(5, 5), tmp_path)
    rows, centroids = tmp_path / "rows.lance", tmp_path / "centroids.npy"
    lance_stream.write(store, rows)
    command = ["-m", "tests.benchmarks.lance_stream", str(rows), "20", str(centroids)]
    told = lance_stream.told_by(run_measured(command, cwd=lance_stream.ROOT))
    assert told["seconds"] > 0
    assert told["peak"] > 1 << 26  # an empty interpreter and lance take more
    assert np.load(centroids).shape == (20, store.dim)
