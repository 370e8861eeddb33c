"""The torch engine on a CPU and on a device like Apple's: what it takes of it, whole passes."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pipeline.engines import EngineSpec
from pipeline.engines.device import tiled_search
from pipeline.engines.device.dense_kernels import TorchKernels
from pipeline.engines.device.engine import DeviceEngine
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import as_source, block_count
from pipeline.runtime.devices import CPU
from pipeline.runtime.progress import SilentProgress
from tests.narrow_device import MEMORY, like_mps
from tests.oracles import equal, squared_distances, sums_of


@pytest.fixture
def narrow() -> Iterator[torch.device]:
    with like_mps() as stand_in:
        yield stand_in


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_sums_depend_on_neither_tiles_nor_threads_nor_blocks(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (np.random.default_rng(1).random((30_000, 9)) * 255).astype(dtype)
    engine = EngineSpec.resolve("torch", CPU, 9, rows.dtype).make()
    centroids = rows[:30].astype(np.float32)
    engine.load(centroids)
    whole = ClusterSums.zeros(centroids, rows.dtype)
    engine.step(rows, whole)
    for threads, tile in (("1", 1 << 20), ("2", 160), ("5", 1600)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        if dtype == "uint8":  # floats are rounded otherwise in other tiles and blocks
            monkeypatch.setitem(tiled_search.TILE_BYTES, "cpu", tile)
        step = 7777 if dtype == "uint8" else len(rows)
        sums = ClusterSums.zeros(centroids, rows.dtype)
        for start in range(0, len(rows), step):
            engine.step(rows[start : start + step], sums)
        assert equal(sums, whole)


def test_only_cuda_adds_bytes_by_itself(narrow: torch.device) -> None:
    devices = [torch.device("cuda"), torch.device("cpu"), narrow]
    found = [TorchKernels(device, 4, np.dtype("u1")).sums_bytes for device in devices]
    assert found == [True, False, False]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(("n", "k", "dim"), [(40_000, 10, 25), (5000, 3000, 25), (3000, 40, 1200)])
def test_it_takes_no_more_of_the_device_than_it_says(
    narrow: torch.device, dtype: str, n: int, k: int, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        tiled_search.TILE_BYTES, narrow.type, 1 << 20
    )  # so that small data fill them
    rng = np.random.default_rng(5)
    rows = (rng.random((n, dim)) * 255).astype(dtype)
    kernels = TorchKernels(narrow, dim, rows.dtype)
    there = torch.from_numpy(rows).view(kernels.row_dtype).to(narrow)
    labels = torch.zeros(n, dtype=torch.int32, device=narrow)
    MEMORY.reset()
    before = MEMORY.now
    kernels.load(rows[rng.integers(0, n, k)].astype(np.float32))  # some of them equal
    kernels.label(there, labels)
    taken = MEMORY.peak - before
    assert kernels.device_bytes(k) / 32 < taken <= kernels.device_bytes(k)


@pytest.mark.parametrize(
    ("dtype", "share"),
    [
        *((dtype, share) for dtype in ("uint8", "float32") for share in (0.0, 0.5, 1.0)),
        *((dtype, 0.5) for dtype in ("int8", "uint16", "int16")),
    ],
)
def test_passes_on_a_narrow_device_agree_with_the_oracle(
    narrow: torch.device, dtype: str, share: float
) -> None:
    rng = np.random.default_rng(6)
    rows = (rng.random((9000, 12)) * 250).astype(dtype)
    centroids = (rng.random((9, 12)) * 250).astype(np.float32)
    source = as_source(rows)
    kernels = TorchKernels(narrow, 12, rows.dtype)
    least = DeviceEngine(kernels, 12, rows.dtype, 1 << 40, largest=12)._plan.least
    budget = least + int(share * rows.nbytes * 4)
    engine = DeviceEngine(kernels, 12, rows.dtype, budget, largest=12)
    cache = engine.cache_for(source)
    for k in (5, 9, 9):
        blocks = range(block_count(source))
        sums = engine.run_pass(source, blocks, centroids[:k], cache, SilentProgress())
        labels = squared_distances(rows, centroids[:k]).argmin(1)
        expected = sums_of(rows, labels, centroids[:k])
        np.testing.assert_array_equal(sums.counts, expected.counts)
        np.testing.assert_allclose(sums.sums, expected.sums, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(sums.squares, expected.squares, rtol=1e-9)
    np.testing.assert_array_equal(engine.assign(rows[:999]), labels[:999])
    batch = ClusterSums.zeros(centroids, rows.dtype)  # as mini-batches do
    engine.step(rows[:999], batch)
    np.testing.assert_array_equal(batch.counts, np.bincount(labels[:999], minlength=9))
