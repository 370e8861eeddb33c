"""The pruned engine against float64, from any guess; and what it keeps between passes."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engines.cpu import coarse_quantizer, labeller, neighbour_lists
from pipeline.engines.cpu.assignment_cache import MAX_LEVEL, AssignmentCache, set_unknown
from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.engines.cpu.scan import heads, quantized
from pipeline.execution.executor import LocalExecutor
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import ArraySource
from pipeline.runtime.progress import SilentProgress
from tests.oracles import equal, squared_distances

DTYPES = ["uint8", "int8", "uint16", "int16", "float32", "float64"]


@pytest.fixture(params=["few centroids", "lists", "short lists"])
def lists(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way through the engine, on small data."""
    if request.param != "few centroids":
        monkeypatch.setattr(labeller, "SMALL", 0)
        monkeypatch.setattr(labeller, "SMALL_BY_HEADS", 0)
        monkeypatch.setattr(labeller, "FEW_ROWS", 0)
    if request.param == "short lists":
        monkeypatch.setattr(neighbour_lists, "LIST_ENTRIES", 1)
        monkeypatch.setattr(coarse_quantizer, "LISTED", 4)
    return request.param


@pytest.fixture(params=[False, True], ids=["in full", "by heads"])
def path(request: pytest.FixtureRequest, lists: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same with heads of rows of 16 values and more, and without."""
    monkeypatch.setattr(heads, "LEAST_DIM", 16 if request.param else 1 << 30)
    monkeypatch.setattr(heads, "CHOICE_ROWS", 1)
    monkeypatch.setattr(heads, "best_size", lambda rows, *_: 16 >> len(rows) % 2)
    return lists


def some_rows(rng: np.random.Generator, kind: str, n: int, dim: int, dtype: str) -> np.ndarray:
    """Rows as they come in patches, and as they come in nightmares."""
    if kind == "constant":
        rows = np.full((n, dim), 7.0)
    elif kind == "two levels":  # ties everywhere
        rows = rng.integers(0, 2, (n, dim)) * 100.0
    elif kind == "far":  # from zero, where float32 products cancel
        rows = rng.random((n, dim)) * 90 + (1e6 if dtype.startswith("float") else 30)
    elif kind == "clumps":
        rows = rng.random((3, dim))[rng.integers(0, 3, n)] * 90 + rng.random((n, dim))
    elif kind == "outliers":
        rows = rng.random((n, dim)) * 2
        rows[:: max(1, n // 3)] += 120
    else:
        rows = rng.random((n, dim)) * 120
    return rows.astype(dtype)


def loaded(rows: np.ndarray, centroids: np.ndarray) -> PrunedEngine:
    engine = PrunedEngine(rows.shape[1], rows.dtype)
    engine.load(centroids)
    return engine


def check(rows: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> None:
    distances = squared_distances(rows, centroids)
    chosen = distances[np.arange(len(rows)), labels]
    assert (chosen <= distances.min(1) * (1 + 1e-12)).all()
    clear = np.sort(distances, 1)[:, :2]
    if len(centroids) > 1:  # where float64 itself is in no doubt, the label is the lowest index
        exact = (clear[:, 1] > clear[:, 0] * (1 + 1e-12)) | (clear[:, 1] == clear[:, 0])
        np.testing.assert_array_equal(labels[exact], distances.argmin(1)[exact])


@pytest.mark.usefixtures("path")
@settings(max_examples=40, derandomize=True)
@given(
    n=st.integers(1, 90),
    k=st.integers(1, 120),
    dim=st.sampled_from([1, 2, 3, 16, 25, 49, 81, 147, 400]),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["plain", "constant", "two levels", "far", "clumps", "outliers"]),
    seed=st.integers(0, 1000),
)
def test_labels_are_those_of_float64_from_any_guess(
    n: int, k: int, dim: int, dtype: str, kind: str, seed: int
) -> None:
    if heads.LEAST_DIM == 16 and "int" in dtype:  # kernels of the others are of the same lines
        dtype = "uint8"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantized, "BYTE_PRODUCTS", seed % 3 > 0)
        check_labels(n, k, dim, dtype, kind, seed)


def check_labels(n: int, k: int, dim: int, dtype: str, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = some_rows(rng, kind, n, dim, dtype)
    pool = np.concatenate([rows, some_rows(rng, kind, k, dim, dtype)]).astype(np.float32)
    centroids = pool[rng.integers(0, len(pool), k)]  # some twice, some equal to rows
    engine = loaded(rows, centroids)
    found = engine.labeller.find(rows)
    check(rows, centroids, found.label)
    distances = np.sqrt(squared_distances(rows, centroids))
    table = engine.labeller._loaded.table
    level = table.level / table.scale
    for _ in range(2):  # adversarial guesses, of which nothing is known
        known = engine.labeller.find(rows)
        known.label[:] = rng.integers(0, k, n)
        set_unknown(known)
        engine.labeller.label(rows, known, labelled=True)
        np.testing.assert_array_equal(known.label, found.label)
        sure = known.upper < MAX_LEVEL
        chosen = distances[np.arange(n), known.label]
        assert (known.upper[sure] * level >= chosen[sure] * (1 - 1e-6)).all()
        equals = (centroids[known.label][:, None] == centroids).all(2)
        others = np.where(equals, np.inf, distances)
        assert (known.lower * level <= others.min(1) * (1 + 1e-6)).all()


def lloyd(
    executor: LocalExecutor, centroids: np.ndarray, passes: int
) -> list[tuple[np.ndarray, ClusterSums]]:
    """Steps of Lloyd, each as (centroids, their sums)."""
    steps = []
    for _ in range(passes):
        sums, _ = executor.run_pass(centroids, SilentProgress())
        steps.append((centroids, sums))
        centroids = sums.means(centroids).astype(centroids.dtype)
    return steps


def small_blocks(rows: np.ndarray, size: int = 512) -> ArraySource:
    source = ArraySource(rows)
    source.block_rows = size
    return source


@contextmanager
def cached(
    rows: np.ndarray, size: int = 512, cache: AssignmentCache | None = None
) -> Iterator[LocalExecutor]:
    """Passes over the rows in blocks of a size, each from where the last one ended."""
    source, engine = small_blocks(rows, size), PrunedEngine(rows.shape[1], rows.dtype)
    with closing(LocalExecutor(source, engine, cache or engine.cache_for(source))) as executor:
        yield executor


def fresh(rows: np.ndarray, centroids: np.ndarray) -> ClusterSums:
    """Sums of a pass of which nothing is known before."""
    engine = PrunedEngine(rows.shape[1], rows.dtype)
    return LocalExecutor(small_blocks(rows), engine).run_pass(centroids, SilentProgress())[0]


@pytest.mark.usefixtures("lists")
@pytest.mark.parametrize("dtype", DTYPES)
def test_passes_with_a_cache_are_those_without(dtype: str) -> None:
    rng = np.random.default_rng(0)
    rows = some_rows(rng, "clumps", 3000, 9, dtype)
    start = rows[rng.choice(3000, 90, replace=False)].astype(
        np.float64 if dtype == "float64" else np.float32
    )
    with cached(rows) as executor:
        for centroids, sums in lloyd(executor, start, 8):
            assert equal(sums, fresh(rows, centroids))
        effort = executor.engine.effort
        assert effort.scanned < effort.rows  # or nothing was kept


@pytest.mark.parametrize(
    ("dtype", "sizes"), [("uint8", (30_000, 4096, 1000)), ("float32", (30_000,) * 3)]
)
def test_blocks_and_threads_do_not_change_the_result(
    dtype: str, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    rows = some_rows(rng, "clumps", 30_000, 25, dtype)
    start = rows[rng.choice(30_000, 400, replace=False)].astype(np.float32)
    results = []
    for threads, size in zip("127", sizes, strict=True):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        with cached(rows, size) as executor:
            results.append([sums for _, sums in lloyd(executor, start, 6)])
    for sums, *others in zip(*results, strict=True):
        assert all(equal(sums, other) for other in others)


class Damaged(AssignmentCache):
    """Bytes change on the disk between two passes."""

    def __init__(self, *arguments: object, how: str) -> None:
        super().__init__(*arguments)
        self._how = how

    def finish(self, wanted: range, sums: ClusterSums) -> None:
        super().finish(wanted, sums)
        if self._how == "truncated":
            self._file.truncate(700)
            return
        self._file.seek(333)
        byte = self._file.read(1)[0]
        self._file.seek(333)
        self._file.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("how", ["flipped", "truncated"])
def test_damage_to_what_is_kept_costs_time_only(how: str) -> None:
    rows = some_rows(np.random.default_rng(3), "clumps", 3000, 9, "uint8")
    start, damage = rows[:40].astype(np.float32), Damaged(3000, 512, None, how=how)
    with cached(rows, cache=damage) as damaged, cached(rows) as whole:
        pairs = zip(lloyd(damaged, start, 5), lloyd(whole, start, 5), strict=True)
        assert all(equal(mine[1], theirs[1]) for mine, theirs in pairs)
        assert damaged.engine.effort.scanned > whole.engine.effort.scanned


def test_equal_centroids_may_part_again() -> None:
    rng = np.random.default_rng(7)
    rows = some_rows(rng, "plain", 4000, 9, "uint8")
    centroids = rows[np.repeat(np.arange(20), 3)].astype(np.float32)
    with cached(rows) as executor:
        for _ in range(8):  # equal ones take no rows, and then step aside
            sums, _ = executor.run_pass(centroids, SilentProgress())
            assert equal(sums, fresh(rows, centroids))
            empty = sums.counts == 0
            centroids = sums.means(centroids).astype(np.float32)
            centroids[empty] += rng.integers(-3, 4, (empty.sum(), 9)).astype(np.float32)
            centroids[1] = centroids[0]


class Stops(SilentProgress):
    def advance(self, units: int, **facts: object) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("after", ["no block", "a block"])
def test_an_interrupted_pass_leaves_no_wrong_sums(after: str) -> None:
    rows = some_rows(np.random.default_rng(4), "clumps", 3000, 9, "uint8")
    with cached(rows) as executor:
        steps = lloyd(executor, rows[:40].astype(np.float32), 4)
        if after == "no block":
            executor.engine.labeller.begin(steps[0][0], executor.cache, len(rows))
        else:
            with pytest.raises(KeyboardInterrupt):
                executor.run_pass(steps[2][0], Stops())
        again, _ = executor.run_pass(steps[3][0], SilentProgress())
        assert equal(again, steps[3][1])


def test_the_scratch_file_has_no_name(tmp_path: Path) -> None:
    rows = np.zeros((3000, 9), np.uint8)
    engine = PrunedEngine(9, rows.dtype)
    source = small_blocks(rows, 512)
    executor = LocalExecutor(source, engine, engine.cache_for(source, tmp_path))
    executor.run_pass(rows[:1].astype(np.float32), SilentProgress())
    assert list(tmp_path.iterdir()) == []
    executor.close()


def test_values_beyond_float32_are_left_to_float64() -> None:
    rng = np.random.default_rng(6)
    for size in (1e-30, 1e30, 1e120):
        rows = rng.random((300, 4)) * size
        rows[5] *= 1e25
        centroids = rows[100:120].copy()
        check(rows, centroids, loaded(rows, centroids).assign(rows))


def test_one_engine_serves_sizes_whose_lists_take_the_same_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbour_lists, "LIST_ENTRIES", 48 * 32)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (4000, 25), dtype=np.uint8)
    engine = PrunedEngine(25, rows.dtype)
    monkeypatch.setattr(labeller, "SMALL", 0)
    for k in (32, 48):  # 32 lists of 48 entries, 48 lists of 32
        centroids = rng.random((k, 25), dtype=np.float32) * 255
        engine.load(centroids)
        check(rows, centroids, engine.assign(rows))
