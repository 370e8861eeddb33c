"""Passes of the pruned engine that come in parts, as those of a cluster's workers."""

from copy import deepcopy

import numpy as np
import pytest

from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import block_count, prefix
from pipeline.runtime.progress import SilentProgress
from tests.oracles import equal
from tests.test_pipeline.test_engines.test_cpu.test_engine import fresh, small_blocks, some_rows


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_a_pass_may_come_in_strided_parts_of_blocks_worked_on_together(
    at_once: int, dtype: str
) -> None:
    """Lloyd on a prefix, then on more, with centroids that leave and come; the last part twice."""
    rng, parts = np.random.default_rng(9), 4
    rows = some_rows(rng, "clumps", 5000, 9, dtype)
    source, engine = small_blocks(rows, 256), PrunedEngine(9, rows.dtype)
    cache = engine.cache_for(source)
    centroids = rows[:40].astype(np.float32)
    for n_rows in (1500, 1500, 3000, 3000, 5000, 5000, 5000, 1500, 5000):
        some, total = prefix(source, n_rows), ClusterSums.zeros(centroids, rows.dtype)
        blocks, before = block_count(some), total
        for part in range(parts + 1):
            mine = range(min(part, parts - 1), blocks, parts)
            sums = engine.run_pass(
                *(some, mine, centroids, cache, SilentProgress()),
                goes_on=part > 0,
                at_once=at_once,
            )
            if part < parts:
                total += sums
            else:  # as where what a worker held is lost
                assert equal(sums, before)
            before = deepcopy(sums)
        expected = fresh(rows[:n_rows], centroids)
        if dtype == "uint8":
            assert equal(total, expected)
        np.testing.assert_array_equal(total.counts, expected.counts)
        np.testing.assert_allclose(total.sums, expected.sums, rtol=1e-9, atol=1e-6)
        centroids = total.means(centroids).astype(np.float32)
        if n_rows == 3000:
            fewer = len(centroids) - 3
            successors = rng.permutation(np.arange(len(centroids)) % fewer)
            cache.relabel(successors)
            means = [centroids[successors == one].mean(0) for one in range(fewer)]
            centroids = np.stack(means).astype(np.float32)
    cache.close()
