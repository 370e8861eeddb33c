"""Whole passes of the engine that keeps rows on a device, on one like Apple's."""

import numpy as np
import pytest

from pipeline.engines.device.dense_kernels import TorchKernels
from pipeline.engines.device.engine import DeviceEngine
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import as_source, block_count
from pipeline.runtime.progress import SilentProgress
from tests.narrow_device import like_mps
from tests.oracles import squared_distances, sums_of


@pytest.mark.parametrize(
    ("dtype", "share"),
    [
        *((dtype, share) for dtype in ("uint8", "float32") for share in (0.0, 0.5, 1.0)),
        *((dtype, 0.5) for dtype in ("int8", "uint16", "int16")),
    ],
)
def test_passes_agree_with_the_oracle(dtype: str, share: float) -> None:
    rng = np.random.default_rng(6)
    rows = (rng.random((9000, 12)) * 250).astype(dtype)
    centroids = (rng.random((9, 12)) * 250).astype(np.float32)
    source = as_source(rows)
    with like_mps() as device:
        kernels = TorchKernels(device, 12, rows.dtype)
        least = DeviceEngine(kernels, 12, rows.dtype, 1 << 40, largest=12)._plan.least
        budget = least + int(share * rows.nbytes * 4)
        engine = DeviceEngine(kernels, 12, rows.dtype, budget, largest=12)
        memory = engine.cache_for(source)
        for k in (5, 9, 9):
            blocks = range(block_count(source))
            sums = engine.run_pass(source, blocks, centroids[:k], memory, SilentProgress())
            labels = squared_distances(rows, centroids[:k]).argmin(1)
            if source.origin is not None:
                expected = sums_of(rows - source.origin, labels, k)
            else:
                expected = sums_of(rows, labels, k)
            np.testing.assert_array_equal(sums.counts, expected.counts)
            np.testing.assert_allclose(sums.sums, expected.sums, rtol=1e-9, atol=1e-6)
            np.testing.assert_allclose(sums.squares, expected.squares, rtol=1e-9)
        np.testing.assert_array_equal(engine.assign(rows[:999]), labels[:999])
        batch = ClusterSums.zeros(9, 12, rows.dtype)  # as mini-batches do
        engine.step(rows[:999], batch)
        np.testing.assert_array_equal(batch.counts, np.bincount(labels[:999], minlength=9))
