"""The Triton kernels: on a GPU where there is one, else in Triton's interpreter (see conftest)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import InputError
from tests.oracles import squared_distances, sums_of

fused = pytest.importorskip(
    "pipeline.engines.device.fused_search", reason="Triton is not installed"
)
fused_layout = pytest.importorskip("pipeline.engines.device.fused_layout")
fused_sums = pytest.importorskip("pipeline.engines.device.fused_sums")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TYPES = ("uint8", "int8", "uint16", "int16", "float32")
# Around each number of columns that a tile may have; one and two parts, and rows read in steps.
BYTE_DIMS = (1, 14, 15, 16, 17, 25, 30, 31, 47, 48, 65, 79, 81, 96, 130, 147, 158, 160, 161, 200)
OTHER_DIMS = (1, 25, 48, 64, 65, 200)
UNTOUCHED = -7


def rows_of(dtype: str, n: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    if dtype == "float32":
        return (rng.normal(size=(n, dim)) * 50 + 100).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, (n, dim)).astype(dtype)


def label(
    rows: np.ndarray, centroids: np.ndarray, *, group: int | None = None, **named: object
) -> np.ndarray:
    kernels = fused.FusedKernels(DEVICE, rows.shape[1], rows.dtype, group=group, **named)
    kernels.load(centroids)
    room = torch.full((len(rows) + 3,), UNTOUCHED, dtype=torch.int32, device=DEVICE)
    kernels.label(torch.from_numpy(rows).to(DEVICE), room[: len(rows)])
    found = room.cpu().numpy()
    assert (found[len(rows) :] == UNTOUCHED).all()
    return found[: len(rows)]


def excess(rows: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> float:
    """SSE more than that of the nearest centroids, relative to it."""
    distances = squared_distances(rows, centroids)
    least = distances.min(axis=1).sum()
    return float((distances[np.arange(len(rows)), labels].sum() - least) / max(least, 1e-9))


@pytest.mark.parametrize(
    ("dtype", "dim"),
    [("uint8", dim) for dim in BYTE_DIMS] + [(other, d) for other in TYPES[1:] for d in OTHER_DIMS],
)
def test_labels_are_those_of_float64_or_as_good(dtype: str, dim: int) -> None:
    rng = np.random.default_rng(dim)
    rows = rows_of(dtype, 259, dim, rng)
    for k, group in ((1, None), (5, None), (33, 4), (65, 8), (130, None)):
        near = rows[rng.integers(len(rows), size=k)].astype(np.float32)
        centroids = near + (rng.normal(size=(k, dim)) * 5).astype(np.float32)
        labels = label(rows, centroids, group=group)
        assert labels.min() >= 0
        assert labels.max() < k
        # Scores are float32: what squares of 16 bits leave of it is less.
        assert excess(rows, centroids, labels) < (1e-5 if rows.itemsize == 2 else 1e-7)
        if rows.itemsize == 1:
            nearest = squared_distances(rows, centroids).argmin(axis=1)
            assert (labels == nearest).mean() > 0.98


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 300),
    k=st.integers(1, 70),
    dim=st.sampled_from([1, 2, 9, 16, 25, 30, 48, 64, 81]),
    group=st.sampled_from([None, 1, 4, 8]),
    levels=st.sampled_from([2, 4, 256]),
    seed=st.integers(0, 1000),
)
def test_ties_go_to_the_lowest_index(
    n: int, k: int, dim: int, group: int | None, levels: int, seed: int
) -> None:
    # Whole numbers, so that every score is exact; with few levels most rows are ties.
    rng = np.random.default_rng(seed)
    rows = rng.integers(levels, size=(n, dim), dtype=np.uint8)
    centroids = rng.integers(levels, size=(k, dim)).astype(np.float32)
    nearest = squared_distances(rows, centroids).argmin(axis=1)
    np.testing.assert_array_equal(label(rows, centroids, group=group), nearest)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("dim", "group"), [(5, None), (25, 8), (200, None)])
def test_equal_centroids_are_one(dtype: str, dim: int, group: int | None) -> None:
    rng = np.random.default_rng(0)
    rows = rows_of(dtype, 100, dim, rng)
    some = rows[:7].astype(np.float32) + np.float32(0.37)
    centroids = np.concatenate([some, some[::-1], some, some])
    assert label(rows, centroids, group=group).max() < len(some)
    assert (label(rows, np.repeat(some[:1], 150, axis=0), group=group) == 0).all()


@pytest.mark.parametrize(
    "configuration", [c for width in (64, 160) for c in fused_layout.CONFIGURATIONS[width]]
)
def test_no_configuration_changes_a_label(configuration: "fused_layout.Configuration") -> None:
    rng = np.random.default_rng(1)
    rows = rows_of("uint8", 300, 25, rng)
    centroids = (rng.random((150, 25)) * 255).astype(np.float32)
    usual = label(rows, centroids)
    for group in (1, 4):
        other = label(rows, centroids, configuration=configuration, group=group)
        np.testing.assert_array_equal(other, usual)


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257])
def test_any_number_of_rows(n: int) -> None:
    rng = np.random.default_rng(n)
    rows = rows_of("uint8", n, 9, rng)
    centroids = (rng.random((10, 9)) * 255).astype(np.float32)
    if n == 0:
        assert label(rows, centroids).size == 0
    else:
        assert excess(rows, centroids, label(rows, centroids)) < 1e-7


@pytest.mark.parametrize("far", [1e5, 1e30])
def test_centroids_beyond_float16_are_met_in_float32(far: float) -> None:
    rng = np.random.default_rng(2)
    rows = rows_of("uint8", 64, 25, rng)
    centroids = np.concatenate([np.full((1, 25), far), rows[:6], np.full((1, 25), -far)])
    labels = label(rows, centroids.astype(np.float32))
    assert labels.min() >= 0
    assert labels.max() < 8
    if far < 1e20:  # beyond, float32 has no squares
        assert excess(rows, centroids, labels) < 1e-6


def test_rows_far_from_zero_meet_centroids_less_of_the_same() -> None:
    rng = np.random.default_rng(5)
    rows = (1e5 + rng.integers(64, size=(500, 25)) / 16).astype(np.float32)
    centroids = rows[rng.integers(len(rows), size=40)] + rng.normal(size=(40, 25)) / 4
    centroids = centroids.astype(np.float32)
    assert excess(rows, centroids, label(rows, centroids)) < 1e-8


def test_constant_rows_and_centroids_at_the_ends_of_the_range() -> None:
    for value in (0, 255):
        rows = np.full((40, 25), value, np.uint8)
        centroids = np.stack([np.zeros(25), np.full(25, 255.0), np.full(25, 127.5)])
        assert (label(rows, centroids.astype(np.float32)) == (value == 255)).all()


def test_one_engine_takes_one_dictionary_after_the_other() -> None:
    rng = np.random.default_rng(3)
    rows = rows_of("uint8", 200, 25, rng)
    kernels = fused.FusedKernels(DEVICE, 25, rows.dtype)
    found = torch.empty(200, dtype=torch.int32, device=DEVICE)
    for k in (200, 3, 130):
        centroids = (rng.random((k, 25)) * 255).astype(np.float32)
        kernels.load(centroids)
        kernels.label(torch.from_numpy(rows).to(DEVICE), found)
        np.testing.assert_array_equal(found.cpu().numpy(), label(rows, centroids))


def test_float64_rows_are_refused() -> None:
    with pytest.raises(InputError, match="no float64 rows: use engine torch"):
        fused.FusedKernels(DEVICE, 4, np.dtype(np.float64))


def sums_over(k: int, dim: int, dtype: str = "uint8") -> "fused_sums.FusedSums":
    return fused.FusedKernels(DEVICE, dim, np.dtype(dtype)).sums(k)


def check(sums: "fused_sums.FusedSums", rows: np.ndarray, labels: np.ndarray, k: int) -> None:
    expected, kept = sums_of(rows[labels >= 0], labels[labels >= 0], k), sums.fetch()
    for found, right in zip(kept, (expected.sums, expected.counts, expected.squares), strict=True):
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize(
    ("dtype", "dim"),
    [*(("uint8", dim) for dim in (1, 12, 13, 25, 28, 29, 60, 61, 130)), ("int8", 25), ("int8", 61)],
)
def test_sums_are_exact(dtype: str, dim: int) -> None:
    rng = np.random.default_rng(dim)
    rows = rows_of(dtype, 700, dim, rng)
    there = torch.from_numpy(rows).to(DEVICE)
    for k in (1, 3, 130, fused_sums.FEW + 1):
        labels = rng.integers(k, size=700, dtype=np.int32)
        sums = sums_over(k, dim, dtype)
        sums.add(there[:300], torch.from_numpy(labels[:300]).to(DEVICE))
        sums.add(there[300:], torch.from_numpy(labels[300:]).to(DEVICE))
        check(sums, rows, labels, k)


def test_sums_of_many_white_rows_are_exact() -> None:
    n, dim = 3 * fused_sums.ROWS_ADDED + 5, 3
    rows = np.full((n, dim), 255, np.uint8)
    labels = np.zeros(n, np.int32)
    sums = sums_over(2, dim)
    for _ in range(2):
        sums.add(torch.from_numpy(rows).to(DEVICE), torch.from_numpy(labels).to(DEVICE))
    sums, counts, squares = sums.fetch()
    assert sums.tolist() == [[2 * 255 * n] * dim, [0] * dim]
    assert counts.tolist() == [2 * n, 0]
    assert squares.tolist() == [2 * dim * 255**2 * n, 0]


@pytest.mark.parametrize("dim", [1, 25, 33, 147])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_moved_rows_are_as_if_added_anew(dim: int, dtype: str) -> None:
    rng = np.random.default_rng(dim)
    rows, k = rows_of(dtype, 500, dim, rng), 9
    there = torch.from_numpy(rows).to(DEVICE)
    before = np.full(500, -1, np.int32)
    sums = sums_over(k, dim, dtype)
    for share in (1.0, 0.3, 0.01, 0.0):
        labels = np.where(rng.random(500) < share, rng.integers(k, size=500), before)
        labels = labels.astype(np.int32)
        labels[:130] = before[:130]  # a block of rows none of which moves
        sums.move(there, *(torch.from_numpy(some).to(DEVICE) for some in (before, labels)))
        check(sums, rows, labels, k)
        before = labels


def test_successors_take_the_sums_over() -> None:
    rng = np.random.default_rng(0)
    rows = rows_of("uint8", 90, 4, rng)
    labels = rng.integers(5, size=90, dtype=np.int32)
    sums = sums_over(5, 4)
    sums.add(torch.from_numpy(rows).to(DEVICE), torch.from_numpy(labels).to(DEVICE))
    for successors, k in (([0, 2, 2, 1, 6], 7), ([0, 0, 1, 1, 1, 1, 1], 2)):
        sums.inherit(torch.tensor(successors, device=DEVICE), k)
        labels = np.array(successors, np.int32)[labels]
        check(sums, rows, labels, k)


def test_what_was_fetched_does_not_change() -> None:
    sums, one = sums_over(1, 2), torch.ones((3, 2), dtype=torch.uint8, device=DEVICE)
    labels = torch.zeros(3, dtype=torch.int32, device=DEVICE)
    sums.add(one, labels)
    before = sums.fetch()[0]
    sums.add(one, labels)
    assert before.tolist() == [[3, 3]]


@given(dim=st.integers(1, 400), half=st.booleans())
def test_tiles_are_as_narrow_as_can_be(dim: int, half: bool) -> None:
    first, second = fused_layout.widths(dim, half)
    assert first + second >= dim
    if first + second <= (fused_layout.SHORT if half else fused_layout.SHORT_FLOATS):
        assert all(width >= 16 and width & (width - 1) == 0 for width in (first, second) if width)
        assert first + second - dim < max(16, dim // 2)


@pytest.mark.parametrize(("tile", "group"), [(64, 8), (64, 4), (32, 4), (32, 1)])
def test_members_of_a_group_lie_eight_columns_apart(tile: int, group: int) -> None:
    order = fused_layout.arranged(torch.arange(3 * tile), tile, group).reshape(3, tile).numpy()
    assert sorted(order.reshape(-1)) == list(range(3 * tile))
    for column in range(tile):
        block, place = divmod(column, 8 * group)
        member, lane = divmod(place, 8)
        assert order[1, column] == tile + (8 * block + lane) * group + member


def test_projected_memory_covers_what_is_there() -> None:
    for dim, dtype, k in ((25, "uint8", 1000), (147, "uint8", 100), (25, "float32", 500)):
        kernels = fused.FusedKernels(DEVICE, dim, np.dtype(dtype))
        kernels.load(np.ones((k, dim), np.float32))
        held = [value for value in vars(kernels).values() if isinstance(value, torch.Tensor)]
        sums = kernels.sums(k)._table
        there = sum(tensor.nbytes for tensor in [*held, sums, sums])
        assert there < kernels.device_bytes(k) < 8 * there
