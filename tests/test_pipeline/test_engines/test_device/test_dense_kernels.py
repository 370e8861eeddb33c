"""Labels and sums by torch, on a device with 64 bits (the CPU) and on one like Apple's."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engines.device import tiled_search as tiles
from pipeline.engines.device.dense_kernels import TorchKernels, sum_piece
from pipeline.engines.device.engine import DeviceEngine
from pipeline.engines.device.kernels import UNLABELLED
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import as_source, block_count
from pipeline.runtime.progress import SilentProgress
from storage import InputError
from tests.narrow_device import MEMORY, like_mps
from tests.oracles import squared_distances, sums_of

CPU = torch.device("cpu")
BYTES = ("uint8", "int8")
Sums = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def narrow() -> Iterator[torch.device]:
    with like_mps() as stand_in:
        yield stand_in


@pytest.fixture(params=["wide", "narrow"])
def device(request: pytest.FixtureRequest) -> torch.device:
    return CPU if request.param == "wide" else request.getfixturevalue("narrow")


def put(kernels: TorchKernels, rows: np.ndarray) -> torch.Tensor:
    """Rows on the device of the kernels, as they lie there."""
    return torch.from_numpy(rows).view(kernels.row_dtype).to(kernels.device)


def label(device: torch.device, rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    kernels = TorchKernels(device, rows.shape[1], rows.dtype)
    kernels.load(centroids)
    labels = torch.full((len(rows),), UNLABELLED, dtype=torch.int32, device=device)
    kernels.label(put(kernels, rows), labels)
    return labels.cpu().numpy()


def whole_rows(rng: np.random.Generator, dtype: str, n: int, dim: int) -> np.ndarray:
    range_of = np.iinfo(dtype)
    return rng.integers(range_of.min, range_of.max, (n, dim), dtype, endpoint=True)


def exact_sums(rows: np.ndarray, labels: np.ndarray, k: int) -> Sums:
    """By Python's and numpy's int64, a cluster at a time."""
    wide = rows.astype(np.int64)
    own = [wide[labels == cluster] for cluster in range(k)]
    sums = np.array([mine.sum(0) for mine in own])
    return sums, np.array([len(mine) for mine in own]), np.array([(m * m).sum() for m in own])


def assert_sums(found: Sums, expected: Sums) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.int64
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32"])
@pytest.mark.parametrize(
    ("n", "k", "dim"), [(1, 1, 1), (300, 1, 25), (77, 1023, 2), (500, 1025, 81), (99, 2500, 200)]
)
def test_labels_agree_with_float64(
    device: torch.device, dtype: str, n: int, k: int, dim: int
) -> None:
    rng = np.random.default_rng(k)
    rows = (
        rng.random((n, dim), np.float32) if dtype == "float32" else whole_rows(rng, dtype, n, dim)
    )
    spread = np.ptp(rows.astype(np.float64)) + 1
    centroids = (rows[rng.integers(0, n, k)] + rng.normal(0, spread / 9, (k, dim))).astype("f4")
    labels = label(device, rows, centroids)
    distances = squared_distances(rows, centroids)
    chosen = distances[np.arange(n), labels]
    assert (chosen <= distances.min(1) * (1 + 1e-4)).all()
    assert (labels == distances.argmin(1)).mean() > 0.98


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_ties_between_whole_numbers_go_to_the_lowest_index(
    device: torch.device, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "TILE_CENTROIDS", 7)
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 5, (4000, 3)).astype(dtype)
    centroids = rng.integers(0, 5, (40, 3)).astype(np.float32)
    expected = squared_distances(rows, centroids).argmin(1)
    np.testing.assert_array_equal(label(device, rows, centroids), expected)


def test_equal_centroids_are_told_apart_by_index_at_any_place(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "TILE_CENTROIDS", 7)  # products are rounded in several ways then
    rng = np.random.default_rng(3)
    base = (rng.random((50, 81)) * 255).astype(np.float32)
    rows = whole_rows(rng, "uint8", 2000, 81)
    labels = label(device, rows, np.concatenate([base, base[::-1], base]))
    assert labels.max() < 50
    assert (labels == label(device, rows, base)).mean() > 0.999


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("uint8", [0, 255]),
        ("int8", [-128, 127]),
        ("uint16", [0, 32767, 32768, 65535]),
        ("int16", [-32768, 32767]),
        ("float32", [-1e15, 1e-20, 1e15]),
    ],
)
def test_constant_and_extreme_rows_find_themselves(
    device: torch.device, dtype: str, values: list[float]
) -> None:
    rows = np.repeat(np.array(values, dtype), 3)[:, None] * np.ones((1, 30), dtype)
    labels = label(device, rows, rows[::3].astype(np.float32))
    np.testing.assert_array_equal(labels, np.repeat(np.arange(len(values)), 3))


def test_float64_is_exact_where_there_is_one_and_refused_where_not(narrow: torch.device) -> None:
    rows = np.array([[1.0], [1.0 + 1e-12]])
    assert label(CPU, rows, rows[::-1].copy()).tolist() == [1, 0]
    with pytest.raises(InputError, match="no float64"):
        TorchKernels(narrow, 1, rows.dtype)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize(("n", "k", "dim"), [(1, 1, 1), (999, 7, 25), (300, 3, 258), (40, 2, 5000)])
@pytest.mark.parametrize("largest", [False, True])
def test_sums_are_exact(dtype: str, n: int, k: int, dim: int, largest: bool) -> None:
    rng = np.random.default_rng(n)
    rows = whole_rows(rng, dtype, n, dim)
    if largest:
        rows[:] = 255 if dtype == "uint8" else -128
    labels = rng.integers(0, k, n).astype(np.int32)
    sums = TorchKernels(CPU, dim, rows.dtype).sums(k)
    sums.add(torch.from_numpy(rows), torch.from_numpy(labels))
    assert_sums(sums.fetch(), exact_sums(rows, labels, k))


@settings(max_examples=10, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 500), max_size=4),
    dim=st.sampled_from([1, 25, 300]),
    seed=st.integers(0, 99),
)
def test_moving_rows_is_adding_them_again(cuts: list[int], dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = whole_rows(rng, "uint8", 500, dim)
    passes = rng.integers(0, 6, (3, 500)).astype(np.int32)
    passes[1, :200] = passes[0, :200]
    passes[0, rng.integers(0, 500, 50)] = UNLABELLED
    ends = [0, *sorted(cuts), 500]
    sums = TorchKernels(CPU, dim, rows.dtype).sums(6)
    before = np.full(500, UNLABELLED, np.int32)
    for labels in passes:
        for start, stop in pairwise(ends):
            parts = (rows[start:stop], before[start:stop], labels[start:stop])
            sums.move(*(torch.from_numpy(part) for part in parts))
        before = labels
        assert_sums(sums.fetch(), exact_sums(rows, labels, 6))


def test_successors_take_over_whole_sums() -> None:
    rng = np.random.default_rng(8)
    rows = whole_rows(rng, "uint8", 300, 9)
    labels = rng.integers(0, 4, 300).astype(np.int32)
    successors = np.array([2, 0, 4, 0])  # two clusters go to one
    sums = TorchKernels(CPU, 9, rows.dtype).sums(4)
    there = torch.from_numpy(rows)
    sums.add(there, torch.from_numpy(labels))
    sums.inherit(torch.from_numpy(successors), 5)
    after = successors[labels].astype(np.int32)
    assert_sums(sums.fetch(), exact_sums(rows, after, 5))
    sums.move(there, torch.from_numpy(after), torch.from_numpy(after // 2))
    assert_sums(sums.fetch(), exact_sums(rows, after // 2, 5))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_a_whole_step_of_wider_rows(device: torch.device, dtype: str) -> None:
    rng = np.random.default_rng(4)
    if dtype == "float32":
        rows = rng.random((600, 30), np.float32)
    else:
        rows = whole_rows(rng, dtype, 600, 30)
    centroids = rows[:20].astype(np.float32)
    kernels = TorchKernels(device, 30, rows.dtype)
    kernels.load(centroids)
    there = put(kernels, rows)
    labels = torch.empty(600, dtype=torch.int32, device=device)
    kernels.label(there, labels)
    sums = sum_piece(there, labels, 20, np.zeros(30), rows.dtype)
    expected = sums_of(rows, labels.cpu().numpy(), 20)
    np.testing.assert_allclose(sums.sums, expected.sums, rtol=1e-12)
    np.testing.assert_allclose(sums.squares, expected.squares, rtol=1e-12)
    np.testing.assert_array_equal(sums.counts, expected.counts)


def test_only_cuda_adds_bytes_by_itself(narrow: torch.device) -> None:
    kernels = [TorchKernels(on, 4, np.dtype("u1")) for on in (torch.device("cuda"), CPU, narrow)]
    assert [one.sums_bytes for one in kernels] == [True, False, False]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    ("n", "k", "dim"), [(40_000, 10, 25), (20_000, 3000, 25), (3000, 40, 1200)]
)
def test_it_takes_no_more_of_the_device_than_it_says(
    narrow: torch.device, dtype: str, n: int, k: int, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiles.TILE_BYTES, narrow.type, 1 << 20)  # so that small data fill them
    rng = np.random.default_rng(5)
    rows = (rng.random((n, dim)) * 255).astype(dtype)
    kernels = TorchKernels(narrow, dim, rows.dtype)
    there = put(kernels, rows)
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
        moved = rows if source.origin is None else rows - source.origin
        expected = sums_of(moved, labels, k)
        np.testing.assert_array_equal(sums.counts, expected.counts)
        np.testing.assert_allclose(sums.sums, expected.sums, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(sums.squares, expected.squares, rtol=1e-9)
    np.testing.assert_array_equal(engine.assign(rows[:999]), labels[:999])
    batch = ClusterSums.zeros(9, 12, rows.dtype)  # as mini-batches do
    engine.step(rows[:999], batch)
    np.testing.assert_array_equal(batch.counts, np.bincount(labels[:999], minlength=9))
