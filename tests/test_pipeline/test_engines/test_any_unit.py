"""Labels and sums of rows in tight groups, far from zero, or in an unusual unit, by all engines."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import StreamingKMeans
from pipeline.engines import EngineSpec
from pipeline.engines.nearest import assign
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.runtime.devices import CPU
from tests.oracles import squared_distances

ENGINES = ("pruned", "torch", "fused")
MODES: dict[str, dict[str, Any]] = {"nested": {}, "full": {}, "minibatch": {"batch_size": 500}}


def assert_nearest(rows: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> None:
    """Labels are those of float64, but for ties that its own rounding may decide."""
    squares = squared_distances(rows, centroids)
    found = np.take_along_axis(squares, labels[:, np.newaxis].astype(np.int64), 1)[:, 0]
    np.testing.assert_array_less(found, squares.min(1) * (1 + 1e-13) + 1e-300)


def skip_unless_it_runs(engine: str, dtype: np.dtype) -> None:
    if engine == "fused":
        pytest.importorskip("triton", reason="Triton is not installed")
        if dtype == np.float64:
            pytest.skip("the fused engine takes no float64")


def tight_groups(dtype: str, n: int = 600) -> np.ndarray:
    """Nine groups of spread 0.01 at multiples of 1000 (of one level, for integers)."""
    rng = np.random.default_rng(18)
    group, spread = rng.integers(0, 9, n), 0.01 if "float" in dtype else 1.0
    steps = 1000 if dtype != "uint8" else 25
    rows = group[:, np.newaxis] * steps + rng.normal(0, spread, (n, 7))
    return rows.astype(dtype) if "float" in dtype else np.rint(np.abs(rows)).astype(dtype)


def one_far_off() -> np.ndarray:
    """Rows near zero, and one whose distance leaves no digit of theirs in float32."""
    rows = np.random.default_rng(20).normal(size=(501, 5))
    rows[-1] = 1e30
    return rows.astype(np.float32)


def left_in(dtype: str) -> np.ndarray:
    """Rows between 0 and 100, a few of them at a value that stands for no data."""
    rows = (np.random.default_rng(19).random((600, 9)) * 100).astype(dtype)
    rows[::100] = 65535 if dtype == "uint16" else -9999
    return rows


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("rows", "k"),
    [
        *((tight_groups(dtype), 36) for dtype in ("float32", "float64", "uint16")),
        *((left_in(dtype), 30) for dtype in ("float32", "float64", "uint16", "int16")),
        (one_far_off(), 20),
    ],
)
def test_labels_are_those_of_float64(engine: str, rows: np.ndarray, k: int) -> None:
    skip_unless_it_runs(engine, rows.dtype)
    rng = np.random.default_rng(0)
    centroids = np.concatenate([rows[rng.choice(len(rows), k - 1, replace=False)], rows[-1:]])
    centroids = centroids.astype(np.float64 if rows.dtype == np.float64 else np.float32)
    assert_nearest(rows, centroids, assign(rows, centroids, engine=engine, device="cpu"))


@pytest.mark.parametrize("dim", [3, 70])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_labels_of_bytes_by_the_fused_engine_are_within_its_bound(dtype: str, dim: int) -> None:
    # |x − c|² exceeds the least by 4 · (d + 24) · 2^-24 · (|x − m| + |x − c|)² at most, where m is
    # the mean of the centroids.
    skip_unless_it_runs("fused", np.dtype(dtype))
    rng = np.random.default_rng(dim)
    rows = rng.integers(0, 127, (500, dim)).astype(dtype)
    near = rows[:40].astype(np.float32)
    centroids = np.concatenate([near + rng.normal(0, 1e-4, near.shape) for _ in range(8)])
    centroids = centroids.astype(np.float32)
    labels = assign(rows, centroids, engine="fused", device="cpu")
    squares = squared_distances(rows, centroids)
    found = squares[np.arange(500), labels]
    length = np.linalg.norm(rows - centroids.mean(0, dtype=np.float64), axis=1)
    bound = 4 * (dim + 24) * 2.0**-24 * (length + np.sqrt(found)) ** 2
    assert (found - squares.min(1) <= bound).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_the_sse_of_tight_groups_is_that_of_differences(engine: str, dtype: str) -> None:
    rows = tight_groups(dtype)
    skip_unless_it_runs(engine, rows.dtype)
    labels = rows[:, 0].astype(np.float64) // (12 if dtype == "uint8" else 500)
    centroids = np.stack([rows[labels == one].mean(0) for one in np.unique(labels)])
    centroids = centroids.astype(np.float64 if dtype == "float64" else np.float32)
    made = EngineSpec.resolve(engine, CPU, 7, rows.dtype).make(largest=len(centroids))
    sums = ClusterSums.zeros(centroids, rows.dtype)
    made.load(centroids)
    made.step(rows, sums)
    assert sums.sse(centroids).sum() == pytest.approx(
        squared_distances(rows, centroids).min(1).sum(), rel=1e-9
    )


def test_the_sse_of_saturated_16_bit_rows_is_exact_beyond_two_to_the_63() -> None:
    # 2^32 rows of 65535, less one at 65534
    n, value = 1 << 32, 65535
    sums = ClusterSums.zeros(np.zeros((1, 1), np.float32), np.dtype(np.uint16))
    sums.counts[0], sums.sums[0, 0] = n, n * value - 1
    sums.squares[0] = float((n - 1) * value**2 + 65534**2)
    assert sums.squares[0] > 2.0**63
    assert sums.sse(np.array([[65535.0]]))[0] <= 2**12  # the last bit of the squares
    assert sums.sse(np.array([[65534.0]]))[0] == pytest.approx(n - 1, rel=1e-6)


def test_rows_without_spread_leave_nothing() -> None:
    for rows in (np.full((90, 4), 255, np.uint8), np.full((90, 4), 0.1, np.float32)):
        model = StreamingKMeans(1, random_state=0).fit(rows)
        assert model.inertia_ == 0
        np.testing.assert_array_equal(model.cluster_centers_[0], rows[0].astype(np.float32))


@pytest.mark.parametrize(
    ("mode", "engine"),
    [
        *((mode, engine) for mode in MODES for engine in ("pruned", "torch")),
        ("full", "fused"),
        *(pytest.param(mode, "fused", marks=pytest.mark.slow) for mode in ("nested", "minibatch")),
    ],
)
@settings(max_examples=4)
@given(data=st.data())
def test_rows_times_a_power_of_two_give_centroids_times_it(
    mode: str, engine: str, data: st.DataObject
) -> None:
    wide = engine != "fused" and data.draw(st.booleans())
    power = data.draw(st.integers(-900, 500) if wide else st.integers(-100, 120))
    skip_unless_it_runs(engine, np.dtype(np.float64 if wide else np.float32))
    few = engine == "fused"  # which is interpreted
    rows = np.random.default_rng(1).normal(size=(120 if few else 400, 6)) + 3
    rows = rows.astype(np.float64 if wide else np.float32)
    options = {"n_clusters": 7, "random_state": 0, "mode": mode, "max_iter": 2 if few else 6}
    options |= {"breathing": 2, "engine": engine, "device": "cpu", **MODES[mode]}
    if mode != "nested":
        del options["breathing"]
    plain = StreamingKMeans(**options).fit(rows)
    moved = StreamingKMeans(**options).fit(np.ldexp(rows, power))
    np.testing.assert_array_equal(moved.cluster_centers_, np.ldexp(plain.cluster_centers_, power))
    np.testing.assert_array_equal(moved.labels_, plain.labels_)
    np.testing.assert_array_equal(moved.predict(np.ldexp(rows, power)), plain.predict(rows))
    np.testing.assert_array_equal(
        moved.transform(np.ldexp(rows, power)), np.ldexp(plain.transform(rows), power)
    )
    assert moved.n_iter_ == plain.n_iter_
    with np.errstate(over="ignore"):
        assert moved.inertia_ == np.ldexp(plain.inertia_, 2 * power)


def test_inertia_below_the_normal_range_is_rounded_once() -> None:
    # 2^-516: clusters rounded one by one would not add up to the same
    rows = np.random.default_rng(1).normal(size=(400, 6)) + 3
    options = {"n_clusters": 7, "random_state": 0, "mode": "full", "max_iter": 6}
    plain = StreamingKMeans(**options).fit(rows)
    for power in range(-540, -510, 3):
        moved = StreamingKMeans(**options).fit(np.ldexp(rows, power))
        assert moved.inertia_ == np.ldexp(plain.inertia_, 2 * power)


@pytest.mark.parametrize("power", [-900, -100, 0, 100])
def test_split_clusters_come_alive_in_any_unit(power: int) -> None:
    rows = np.ldexp(np.random.default_rng(2).normal(size=(500, 3)) + 1000, power)
    far = np.concatenate([rows[:4], np.full((2, 3), np.ldexp(1e6, power))])
    model = StreamingKMeans(6, init=far, empty="split", mode="full", random_state=0).fit(rows)
    assert (model.counts_ > 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_inertia_is_that_of_differences_where_groups_are_tight(engine: str) -> None:
    rows = tight_groups("float32", 200 if engine == "fused" else 2000)
    skip_unless_it_runs(engine, rows.dtype)
    options = {"random_state": 0, "engine": engine, "device": "cpu"}
    model = StreamingKMeans(9, mode="full", max_iter=5, **options).fit(rows)
    squares = squared_distances(rows, model.cluster_centers_)
    np.testing.assert_array_equal(model.labels_, squares.argmin(1))
    assert model.inertia_ == pytest.approx(squares.min(1).sum(), rel=1e-9)
    assert -model.score(rows) == pytest.approx(model.inertia_, rel=1e-9)
