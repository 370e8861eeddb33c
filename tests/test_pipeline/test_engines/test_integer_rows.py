"""Rows of every type of integers, signed and wide ones too, by all engines and modes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import StreamingKMeans
from pipeline.engines import EngineSpec
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import ArraySource, centroid_type
from pipeline.runtime.devices import CPU
from storage import InputError
from tests.oracles import squared_distances

NARROW = ("int8", "int16", ">i2")
WIDE = ("int32", "int64", "uint64")  # which are taken as float64
PAIRS = [
    (e, d)
    for d in NARROW + WIDE
    for e in ("pruned", "torch", "fused")
    if d in NARROW or e != "fused"
]
MODES: dict[str, dict[str, Any]] = {
    "nested": {"breathing": 2},
    "full": {},
    "minibatch": {"batch_size": 100},
}


def needed(engine: str) -> None:
    if engine == "fused":
        pytest.importorskip("triton", reason="Triton is not installed")


def drawn(dtype: str, n: int, seed: int) -> np.ndarray:
    """Rows (n, 5) over the whole range of a type, both ends too, in groups; exact in float64."""
    rng, limits = np.random.default_rng(seed), np.iinfo(dtype)
    unit = 1 << max(0, limits.bits - 53 + 1)
    low, high = limits.min // unit, limits.max // unit
    spread = max((high - low) // 40, 1)
    groups = rng.integers(low, high, (9, 5), endpoint=True, dtype=np.int64)[rng.integers(0, 9, n)]
    rows = np.clip(groups + rng.integers(-spread, spread, (n, 5)), low, high)
    rows[0], rows[-1] = low, high
    return (rows.astype(object) * unit).astype(dtype)


@pytest.mark.parametrize(("engine", "dtype"), PAIRS)
@settings(max_examples=8)
@given(seed=st.integers(0, 1 << 30), k=st.integers(1, 40))
def test_labels_and_sums_are_those_of_brute_force(
    engine: str, dtype: str, seed: int, k: int
) -> None:
    needed(engine)
    given_rows = drawn(dtype, 60, seed)
    rows = ArraySource(given_rows).read_block(0)
    np.testing.assert_array_equal(rows.astype(object), given_rows.astype(object))
    kind = centroid_type(rows.dtype)
    centroids = drawn(dtype, k, seed + 1).astype(kind)
    made = EngineSpec.resolve(engine, CPU, 5, rows.dtype).make(largest=k)
    sums = ClusterSums.zeros(centroids, rows.dtype)
    made.load(centroids)
    made.step(rows, sums)
    squares = squared_distances(rows, centroids)
    labels = squares.argmin(1)
    np.testing.assert_array_equal(made.assign(rows), labels)
    np.testing.assert_array_equal(sums.counts, np.bincount(labels, minlength=k))
    assert sums.sse(centroids).sum() == pytest.approx(squares.min(1).sum(), rel=1e-9)


# Triton's interpreter is slow: its kernels know no modes, and get each type once.
INTERPRETED = {"int8": "nested", "int16": "full", ">i2": "minibatch"}


@pytest.mark.parametrize(
    ("engine", "dtype", "mode"),
    [
        pytest.param(engine, dtype, mode, marks=[] if quick else pytest.mark.slow)
        for engine, dtype in PAIRS
        for mode in MODES
        for quick in [engine != "fused" or INTERPRETED[dtype] == mode]
    ],
)
def test_a_fit_is_that_of_the_same_rows_as_float64(engine: str, dtype: str, mode: str) -> None:
    needed(engine)
    rows = drawn(dtype, 80 if engine == "fused" else 300, 7)
    options = {"random_state": 0, "engine": engine, "device": "cpu", "max_iter": 4, "mode": mode}
    model = StreamingKMeans(9, **options | MODES[mode]).fit(rows)
    squares = squared_distances(rows, model.cluster_centers_)
    np.testing.assert_array_equal(model.labels_, squares.argmin(1))
    np.testing.assert_array_equal(model.predict(rows), model.labels_)
    np.testing.assert_array_equal(model.counts_, np.bincount(model.labels_, minlength=9))
    assert model.inertia_ == pytest.approx(squares.min(1).sum(), rel=1e-9)
    assert model.score(rows) == pytest.approx(-squares.min(1).sum(), rel=1e-9)
    np.testing.assert_allclose(model.transform(rows), np.sqrt(squares), rtol=1e-5)
    if mode == "full":
        again = StreamingKMeans(9, **options | {"init": model.cluster_centers_, "max_iter": 1})
        means = [rows[model.labels_ == j].astype(np.float64).mean(0) for j in range(9)]
        np.testing.assert_allclose(again.fit(rows).cluster_centers_, means, rtol=1e-6)


@pytest.mark.parametrize(("engine", "dtype"), PAIRS)
def test_a_stream_of_integers_adds_up(engine: str, dtype: str) -> None:
    needed(engine)
    rows = drawn(dtype, 120, 3)
    model = StreamingKMeans(4, random_state=0, engine=engine, device="cpu", batch_size=30)
    for part in np.split(rows, 3):
        model.partial_fit(part)
    assert model.counts_.sum() == len(rows)
    np.testing.assert_array_equal(
        model.predict(rows), squared_distances(rows, model.cluster_centers_).argmin(1)
    )


def test_wide_integers_that_float64_cannot_tell_apart_are_refused() -> None:
    small = drawn("int8", 50, 1).astype(np.int64)
    stamps = small * 10**9 + 1_700_000_000_000_000_000  # nanoseconds; float64 rounds to 256
    model = StreamingKMeans(3, random_state=0).fit(stamps)
    np.testing.assert_array_equal(model.predict(stamps[:1]), model.labels_[:1])
    for far in (small + 2**60, small - 2**60, (small + 128).astype(np.uint64) + 2**63):
        with pytest.raises(
            InputError, match=r"differ by 255 at most, .*: subtract an offset first"
        ):
            StreamingKMeans(3).fit(far)
        for method in (model.predict, model.partial_fit, model.score, model.transform):
            with pytest.raises(InputError, match="of rows 0 to 50 are integers up to"):
                method(far)
