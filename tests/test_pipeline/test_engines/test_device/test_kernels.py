"""Labels and sums by all kernels: torch's on a device with 64 bits (the CPU) and on one like
Apple's, and Triton's, on a GPU where there is one, else in its interpreter (see conftest).
"""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.engines.device import tiled_search
from pipeline.engines.device.dense_kernels import TorchKernels
from pipeline.engines.device.kernels import UNLABELLED, DeviceKernels, Uint8Sums
from storage import InputError
from tests.device_sweeps import CUDA
from tests.narrow_device import like_mps
from tests.oracles import squared_distances, sums_of

Make = Callable[..., DeviceKernels]  # of a dimension and a type
# Around each number of columns that a fused tile may have; one and two parts, and rows in steps.
BYTE_DIMS = (1, 14, 15, 16, 17, 25, 30, 31, 47, 48, 65, 79, 81, 96, 130, 147, 158, 160, 161, 200)
OTHER_DIMS = (1, 25, 48, 64, 65, 200)
SIGNED_DIMS = (25, 200)  # whose kernels are those of unsigned rows, but for a constant
TYPES = ("uint8", "int8", "uint16", "int16", "float32")
UNTOUCHED = -7


@pytest.fixture(params=["torch", "narrow", "fused"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes kernels; tiles of torch's are small, so that few rows and centroids take some."""
    monkeypatch.setattr(tiled_search, "TILE_CENTROIDS", 7)
    monkeypatch.setattr(tiled_search, "TILE_BYTES", {"cpu": 2000, "mps": 2000})
    monkeypatch.setattr(tiled_search, "MIN_TILE_ROWS", 11)
    if request.param == "narrow":
        with like_mps() as device:
            yield lambda dim, dtype: TorchKernels(device, dim, np.dtype(dtype))
    elif request.param == "torch":
        yield lambda dim, dtype: TorchKernels(torch.device("cpu"), dim, np.dtype(dtype))
    else:
        module = "pipeline.engines.device.fused_search"
        fused = pytest.importorskip(module, reason="Triton is not installed")
        device = torch.device("cuda" if CUDA else "cpu")
        yield lambda dim, dtype: fused.FusedKernels(device, dim, np.dtype(dtype))


# MPS does not add 64 bits by index: there bytes are added up on the host.
adding = pytest.mark.parametrize("make", ["torch", "fused"], indirect=True)


def rows_of(dtype: str, n: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    if dtype == "float32":
        return (rng.normal(size=(n, dim)) * 50 + 100).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, (n, dim), dtype, endpoint=True)


def label_with(kernels: DeviceKernels, rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    kernels.load(centroids)
    room = torch.full((len(rows) + 3,), UNTOUCHED, dtype=torch.int32, device=kernels.device)
    there = torch.from_numpy(rows).view(kernels.row_dtype).to(kernels.device)
    kernels.label(there, room[: len(rows)])
    found = room.cpu().numpy()
    assert (found[len(rows) :] == UNTOUCHED).all()
    return found[: len(rows)]


def label(make: Make, rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return label_with(make(rows.shape[1], rows.dtype), rows, centroids.astype(np.float32))


def excess(rows: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> float:
    """SSE more than that of the nearest centroids, relative to it."""
    distances = squared_distances(rows, centroids.astype(np.float32))
    least = distances.min(axis=1).sum()
    return float((distances[np.arange(len(rows)), labels].sum() - least) / max(least, 1e-9))


@pytest.mark.parametrize(
    ("make", "dtype", "dim", "n"),
    [
        *(("fused", "uint8", dim, 259) for dim in BYTE_DIMS),
        *(("fused", dtype, dim, 259) for dtype in ("uint16", "float32") for dim in OTHER_DIMS),
        *(("fused", dtype, dim, 259) for dtype in ("int8", "int16") for dim in SIGNED_DIMS),
        *(("torch", dtype, dim, 259) for dtype in TYPES for dim in (1, 25, 200)),
        *(("narrow", "uint8", dim, 110) for dim in (1, 25, 200)),
        *(
            ("narrow", dtype, dim, 110)
            for dtype, dim in zip(TYPES[1:], (1, 25, 200, 25), strict=True)
        ),
    ],
    indirect=["make"],
)
def test_labels_are_those_of_float64_or_as_good(make: Make, dtype: str, dim: int, n: int) -> None:
    rng = np.random.default_rng(dim)
    rows = rows_of(dtype, n, dim, rng)
    for k in (1, 5, 33, 65, 130):
        centroids = rows[rng.integers(len(rows), size=k)] + rng.normal(size=(k, dim)) * 5
        labels = label(make, rows, centroids)
        assert 0 <= labels.min() <= labels.max() < k
        # Scores are float32: what squares of 16 bits leave of it is less.
        assert excess(rows, centroids, labels) < (1e-5 if rows.itemsize == 2 else 1e-7)
        if rows.itemsize == 1:
            nearest = squared_distances(rows, centroids.astype(np.float32)).argmin(axis=1)
            assert (labels == nearest).mean() > 0.98


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 300),
    k=st.integers(1, 70),
    dim=st.sampled_from([1, 2, 9, 16, 25, 30, 48, 64, 81]),
    levels=st.sampled_from([2, 4, 256]),
    seed=st.integers(0, 1000),
)
def test_ties_go_to_the_lowest_index(
    make: Make, n: int, k: int, dim: int, levels: int, seed: int
) -> None:
    # Whole numbers, so that every score is exact; with few levels most rows are ties.
    rng = np.random.default_rng(seed)
    rows = rng.integers(levels, size=(n, dim), dtype=np.uint8)
    centroids = rng.integers(levels, size=(k, dim))
    nearest = squared_distances(rows, centroids).argmin(axis=1)
    np.testing.assert_array_equal(label(make, rows, centroids), nearest)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("make", "dim"),
    [*(("fused", dim) for dim in (5, 25, 81, 200)), ("torch", 25), ("narrow", 25)],
    indirect=["make"],
)
def test_equal_centroids_are_one(make: Make, dtype: str, dim: int) -> None:
    rows = rows_of(dtype, 100, dim, np.random.default_rng(0))
    some = rows[:23] + 0.37
    centroids = np.concatenate([some, some[::-1], some, some])
    assert label(make, rows, centroids).max() < len(some)
    assert (label(make, rows, np.repeat(some[:1], 150, axis=0)) == 0).all()


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257])
def test_any_number_of_rows(make: Make, n: int) -> None:
    rng = np.random.default_rng(n)
    rows, centroids = rows_of("uint8", n, 9, rng), rng.random((10, 9)) * 255
    labels = label(make, rows, centroids)
    assert n == len(labels) == 0 or excess(rows, centroids, labels) < 1e-7


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
    make: Make, dtype: str, values: list[float]
) -> None:
    rows = np.repeat(np.array(values, dtype), 3)[:, None] * np.ones((1, 30), dtype)
    centroids = np.concatenate([rows[::3].astype(np.float64), np.full((1, 30), np.mean(values))])
    np.testing.assert_array_equal(
        label(make, rows, centroids), np.repeat(np.arange(len(values)), 3)
    )


def test_kernels_take_one_dictionary_after_the_other(make: Make) -> None:
    rng = np.random.default_rng(3)
    rows, kernels = rows_of("uint8", 200, 25, rng), make(25, "uint8")
    for k in (200, 3, 130):
        centroids = (rng.random((k, 25)) * 255).astype(np.float32)
        again = label_with(kernels, rows, centroids)
        np.testing.assert_array_equal(again, label(make, rows, centroids))


@pytest.mark.parametrize("far", [1e5, 1e30])
def test_centroids_beyond_float16_are_met_in_float32(make: Make, far: float) -> None:
    rows = rows_of("uint8", 64, 25, np.random.default_rng(2))
    centroids = np.concatenate([np.full((1, 25), far), rows[:6], np.full((1, 25), -far)])
    labels = label(make, rows, centroids)
    assert 0 <= labels.min() <= labels.max() < 8
    if far < 1e20:  # beyond, float32 has no squares
        assert excess(rows, centroids, labels) < 1e-6


def test_rows_far_from_zero_meet_centroids_less_of_the_same(make: Make) -> None:
    rng = np.random.default_rng(5)
    rows = (1e5 + rng.integers(64, size=(500, 25)) / 16).astype(np.float32)
    centroids = rows[rng.integers(len(rows), size=40)] + rng.normal(size=(40, 25)) / 4
    assert excess(rows, centroids, label(make, rows, centroids)) < 1e-8


@pytest.mark.parametrize("make", ["narrow", "fused"], indirect=True)
def test_float64_is_refused_where_there_is_none(make: Make) -> None:
    with pytest.raises(InputError, match="no float64"):
        make(1, np.float64)


@pytest.mark.parametrize("make", ["torch"], indirect=True)
def test_float64_is_exact_where_there_is_one(make: Make) -> None:
    rows = np.array([[1.0], [1.0 + 1e-12]])
    assert label_with(make(1, rows.dtype), rows, rows[::-1].copy()).tolist() == [1, 0]


def there(sums: Uint8Sums, kernels: DeviceKernels, name: str, *arrays: np.ndarray) -> None:
    """Ask sums to do something with arrays, on their device."""
    getattr(sums, name)(*(torch.from_numpy(array).to(kernels.device) for array in arrays))


def check(sums: Uint8Sums, rows: np.ndarray, labels: np.ndarray, k: int) -> None:
    there = labels >= 0
    expected = sums_of(rows[there], labels[there], np.zeros((k, rows.shape[1])))
    kept = sums.fetch()
    for found, right in zip(kept, (expected.sums, expected.counts, expected.squares), strict=True):
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, right)


@adding
@pytest.mark.parametrize(
    ("dtype", "dim"),
    [*(("uint8", dim) for dim in (1, 12, 13, 25, 28, 29, 60, 61, 130)), ("int8", 25), ("int8", 61)],
)
def test_sums_are_exact(make: Make, dtype: str, dim: int) -> None:
    rng, kernels = np.random.default_rng(dim), make(dim, dtype)
    rows = rows_of(dtype, 700, dim, rng)
    for k in (1, 3, 130, 1025):  # the last are many for a fused program
        labels, sums = rng.integers(k, size=700, dtype=np.int32), kernels.sums(k)
        for part in (slice(300), slice(300, None)):
            there(sums, kernels, "add", rows[part], labels[part])
        check(sums, rows, labels, k)


@adding
@pytest.mark.parametrize(("dtype", "value"), [("uint8", 255), ("int8", -128)])
def test_many_extreme_rows_add_up_and_what_was_fetched_stays(
    make: Make, dtype: str, value: int
) -> None:
    n, dim, kernels = 3 * 8192 + 5, 3, make(3, dtype)  # more than a fused program adds
    sums, fetched = kernels.sums(2), []
    for _ in range(2):
        there(sums, kernels, "add", np.full((n, dim), value, dtype), np.zeros(n, np.int32))
        fetched.append(sums.fetch())
    for times, (found, counts, squares) in enumerate(fetched, 1):
        assert found.tolist() == [[times * n * value] * dim, [0] * dim]
        assert counts.tolist() == [times * n, 0]
        assert squares.tolist() == [times * n * dim * value**2, 0]


@adding
@pytest.mark.parametrize("dim", [1, 25, 33, 147])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_moved_rows_are_as_if_added_anew(make: Make, dim: int, dtype: str) -> None:
    rng, kernels = np.random.default_rng(dim), make(dim, dtype)
    rows, k = rows_of(dtype, 500, dim, rng), 9
    before, sums = np.full(500, UNLABELLED, np.int32), kernels.sums(k)
    for share in (1.0, 0.3, 0.01, 0.0):
        labels = np.where(rng.random(500) < share, rng.integers(k, size=500), before)
        labels = labels.astype(np.int32)
        labels[:130] = before[:130]  # a block of rows none of which moves
        for part in (slice(300), slice(300, None)):
            there(sums, kernels, "move", rows[part], before[part], labels[part])
        check(sums, rows, labels, k)
        before = labels


@adding
def test_successors_take_the_sums_over(make: Make) -> None:
    rng, kernels = np.random.default_rng(0), make(4, "uint8")
    rows, labels = rows_of("uint8", 90, 4, rng), rng.integers(5, size=90, dtype=np.int32)
    sums = kernels.sums(5)
    there(sums, kernels, "add", rows, labels)
    for successors, k in (([0, 2, 2, 1, 6], 7), ([0, 0, 1, 1, 1, 1, 1], 2)):
        sums.inherit(torch.tensor(successors, device=kernels.device), k)
        labels = np.array(successors, np.int32)[labels]
        check(sums, rows, labels, k)
