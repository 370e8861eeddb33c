"""What the engine remembers of rows while prefixes and the number of centroids change."""

from contextlib import closing

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engines.cpu import labeller
from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.execution.executor import LocalExecutor
from pipeline.rows.source import ArraySource
from pipeline.runtime.progress import SilentProgress


@settings(max_examples=40, derandomize=True)
@given(data=st.data(), dtype=st.sampled_from(["uint8", "float32"]), seed=st.integers(0, 999))
def test_sums_are_right_whatever_k_prefix_and_heirs_came_before(
    data: st.DataObject, dtype: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.integers(0, 4, (700, 5)) * 20 + rng.integers(0, 9, (700, 5))).astype(dtype)
    source = ArraySource(rows)
    source.block_rows = 128
    engine = PrunedEngine(5, source.dtype)
    kept = labeller.SMALL, labeller.FEW_ROWS
    labeller.SMALL, labeller.FEW_ROWS = 0, 0
    centroids = rows[:30].astype(np.float32)
    try:
        with closing(LocalExecutor(source, engine, engine.cache_for(source))) as executor:
            for _ in range(6):
                n = data.draw(st.sampled_from([1, 128, 129, 300, 512, 700]))
                change = data.draw(st.sampled_from(["none", "move", "grow", "shrink", "any"]))
                successors = None
                if change == "move":
                    centroids = centroids + rng.normal(0, 2, centroids.shape).astype(np.float32)
                elif change == "grow":
                    centroids = np.concatenate([centroids, rows[rng.integers(0, 700, 7)]])
                elif change == "shrink" and len(centroids) > 9:
                    k = len(centroids)
                    centroids = centroids[7:]
                    successors = np.maximum(np.arange(k) - 7, 0)
                elif change == "any":  # successors that have nothing to do with where centroids are
                    k = data.draw(st.integers(1, 50))
                    successors = rng.integers(0, k, len(centroids))
                    centroids = rows[rng.integers(0, 700, k)]
                centroids = centroids.astype(np.float32)
                if successors is not None:
                    executor.relabel(successors)
                sums, _ = executor.run_pass(centroids, SilentProgress(), n)
                again = LocalExecutor(ArraySource(rows[:n]), PrunedEngine(5, source.dtype))
                expected, _ = again.run_pass(centroids, SilentProgress())
                np.testing.assert_array_equal(sums.counts, expected.counts)
                if dtype == "uint8":
                    np.testing.assert_array_equal(sums.sums, expected.sums)
                    np.testing.assert_array_equal(sums.squares, expected.squares)
                else:
                    np.testing.assert_allclose(
                        sums.sums + sums.counts[:, None] * sums.origin,
                        expected.sums + sums.counts[:, None] * expected.origin,
                        rtol=1e-9,
                        atol=1e-6,
                    )
    finally:
        labeller.SMALL, labeller.FEW_ROWS = kept
