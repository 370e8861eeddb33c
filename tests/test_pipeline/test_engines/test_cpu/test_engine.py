"""The pruned engine against float64, from any guess; and what it remembers between passes."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engines import EngineSpec
from pipeline.engines.cpu import coarse_quantizer as guessing
from pipeline.engines.cpu import engine as pruned
from pipeline.engines.cpu import neighbour_lists as neighbours
from pipeline.engines.cpu.assignment_cache import RowMemory
from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.engines.cpu.layouts import MAX_LEVEL
from pipeline.engines.dense import DenseEngine
from pipeline.engines.ordered_sums import piece_rows
from pipeline.execution.executor import LocalExecutor
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import ArraySource
from pipeline.runtime.devices import CPU, Device
from pipeline.runtime.kernel_cache import drop_stale
from pipeline.runtime.progress import SilentProgress
from tests.oracles import squared_distances, sums_of

DTYPES = ["uint8", "int8", "uint16", "int16", "float32", "float64"]


@pytest.fixture(params=["few centroids", "lists", "short lists"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way through the engine, on small data."""
    if request.param != "few centroids":
        monkeypatch.setattr(pruned, "SMALL", 0)
        monkeypatch.setattr(pruned, "FEW_ROWS", 0)
    if request.param == "short lists":
        monkeypatch.setattr(neighbours, "LIST_ENTRIES", 1)
        monkeypatch.setattr(guessing, "LISTED", 4)
    return request.param


def some_rows(rng: np.random.Generator, kind: str, n: int, dim: int, dtype: str) -> np.ndarray:
    """Rows as they come in patches, and as they come in nightmares."""
    if kind == "constant":
        rows = np.full((n, dim), 7.0)
    elif kind == "two levels":  # ties everywhere
        rows = rng.integers(0, 2, (n, dim)) * 100.0
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
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 90),
    k=st.integers(1, 120),
    dim=st.sampled_from([1, 2, 3, 16, 25, 49, 81, 147, 400]),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["plain", "constant", "two levels", "clumps", "outliers"]),
    seed=st.integers(0, 1000),
)
def test_labels_are_those_of_float64_from_any_guess(
    n: int, k: int, dim: int, dtype: str, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = some_rows(rng, kind, n, dim, dtype)
    pool = np.concatenate([rows, some_rows(rng, kind, k, dim, dtype)]).astype(np.float32)
    centroids = pool[rng.integers(0, len(pool), k)]  # some twice, some equal to rows
    engine = loaded(rows, centroids)
    found = engine._find(rows)
    check(rows, centroids, found.label)
    distances = np.sqrt(squared_distances(rows, centroids))
    unit = engine._unit / engine._loaded.table.scale
    for _ in range(2):  # adversarial guesses, of which nothing is known
        known = engine._find(rows)
        known.label[:] = rng.integers(0, k, n)
        known.upper[:], known.lower[:] = MAX_LEVEL, 0
        engine._label(rows, known, labelled=True)
        np.testing.assert_array_equal(known.label, found.label)
        sure = known.upper < MAX_LEVEL
        chosen = distances[np.arange(n), known.label]
        assert (known.upper[sure] * unit >= chosen[sure] * (1 - 1e-6)).all()
        equals = (centroids[known.label][:, None] == centroids).all(2)
        others = np.where(equals, np.inf, distances)
        assert (known.lower * unit <= others.min(1) * (1 + 1e-6)).all()


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


def small_blocks(rows: np.ndarray, size: int) -> ArraySource:
    source = ArraySource(rows)
    source.block_rows = size
    return source


def equal(one: ClusterSums, other: ClusterSums) -> bool:
    return all(
        a.dtype == b.dtype and np.array_equal(a, b)
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", DTYPES)
def test_passes_with_a_memory_are_those_without(dtype: str) -> None:
    rng = np.random.default_rng(0)
    rows = some_rows(rng, "clumps", 5000, 9, dtype)
    source = small_blocks(rows, 512)
    start = rows[rng.choice(5000, 90, replace=False)].astype(
        np.float64 if dtype == "float64" else np.float32
    )
    engine = PrunedEngine(9, rows.dtype)
    remembering = LocalExecutor(source, engine, engine.cache_for(source))
    for centroids, sums in lloyd(remembering, start, 12):
        plain = PrunedEngine(9, rows.dtype)
        fresh, _ = LocalExecutor(source, plain).run_pass(centroids, SilentProgress())
        assert equal(sums, fresh)
    assert engine.effort.walked < engine.effort.rows  # or nothing was remembered
    remembering.close()


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_those_of_the_torch_engine_for_the_same_labels(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    rows = some_rows(rng, "plain", 40_000, 25, dtype)
    centroids = rows[:300].astype(np.float32)
    ours, theirs = loaded(rows, centroids), DenseEngine(25, rows.dtype)
    theirs.load(centroids)
    one, other = (ClusterSums.zeros(300, 25, rows.dtype, np.full(25, 0.5)) for _ in range(2))
    labels = torch.from_numpy(ours.assign(rows)).split(piece_rows(25))
    left = iter(labels)
    monkeypatch.setattr(theirs, "_nearest", lambda _: next(left))
    monkeypatch.setattr(theirs, "_threads", SimpleNamespace(map=map))  # pieces in order
    ours.step(rows, one)
    theirs.step(rows, other)
    assert equal(one, other)


def test_blocks_and_threads_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    rows = some_rows(rng, "clumps", 30_000, 25, "uint8")
    start = rows[rng.choice(30_000, 400, replace=False)].astype(np.float32)
    results = []
    for threads, size in (("1", 30_000), ("2", 4096), ("7", 1000)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        source, engine = small_blocks(rows, size), PrunedEngine(25, rows.dtype)
        executor = LocalExecutor(source, engine, engine.cache_for(source))
        results.append([sums for _, sums in lloyd(executor, start, 6)])
        executor.close()
    for sums, *others in zip(*results, strict=True):
        assert all(equal(sums, other) for other in others)


class Damaged(RowMemory):
    """Bytes change on the disk between two passes."""

    def __init__(self, *arguments: object, how: str) -> None:
        super().__init__(*arguments)
        self._how = how

    def finish(self, sums: ClusterSums) -> None:
        super().finish(sums)
        if self._how == "truncated":
            self._file.truncate(700)
            return
        self._file.seek(333)
        byte = self._file.read(1)[0]
        self._file.seek(333)
        self._file.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("how", ["flipped", "truncated"])
def test_damage_to_what_is_remembered_costs_time_only(how: str) -> None:
    rng = np.random.default_rng(3)
    rows = some_rows(rng, "clumps", 3000, 9, "uint8")
    source = small_blocks(rows, 512)
    start = rows[:40].astype(np.float32)
    engine, other = (PrunedEngine(9, rows.dtype) for _ in range(2))
    damaged = LocalExecutor(source, engine, Damaged(3000, 512, None, how=how))
    whole = LocalExecutor(source, other, other.cache_for(source))
    pairs = zip(lloyd(damaged, start, 5), lloyd(whole, start, 5), strict=True)
    assert all(equal(mine[1], theirs[1]) for mine, theirs in pairs)
    assert engine.effort.walked > other.effort.walked
    damaged.close()
    whole.close()


def test_equal_centroids_may_part_again() -> None:
    rng = np.random.default_rng(7)
    rows = some_rows(rng, "plain", 4000, 9, "uint8")
    source = small_blocks(rows, 512)
    engine = PrunedEngine(9, rows.dtype)
    executor = LocalExecutor(source, engine, engine.cache_for(source))
    centroids = rows[np.repeat(np.arange(20), 3)].astype(np.float32)
    for _ in range(8):  # equal ones take no rows, and then step aside
        sums, _ = executor.run_pass(centroids, SilentProgress())
        fresh, _ = LocalExecutor(source, PrunedEngine(9, rows.dtype)).run_pass(
            centroids, SilentProgress()
        )
        assert equal(sums, fresh)
        empty = sums.counts == 0
        centroids = sums.means(centroids).astype(np.float32)
        centroids[empty] += rng.integers(-3, 4, (empty.sum(), 9)).astype(np.float32)
        centroids[1] = centroids[0]
    executor.close()


def test_an_interrupted_pass_leaves_no_wrong_sums() -> None:
    rng = np.random.default_rng(4)
    rows = some_rows(rng, "clumps", 3000, 9, "uint8")
    source = small_blocks(rows, 512)
    engine = PrunedEngine(9, rows.dtype)
    executor = LocalExecutor(source, engine, engine.cache_for(source))
    steps = lloyd(executor, rows[:40].astype(np.float32), 4)

    class Stops(SilentProgress):
        def advance(self, units: int, **facts: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.run_pass(steps[2][0], Stops())
    again, _ = executor.run_pass(steps[3][0], SilentProgress())
    assert equal(again, steps[3][1])
    executor.close()


def test_a_pass_that_ended_before_its_first_block_leaves_none_either() -> None:
    rng = np.random.default_rng(4)
    rows = some_rows(rng, "clumps", 3000, 9, "uint8")
    source = small_blocks(rows, 512)
    engine = PrunedEngine(9, rows.dtype)
    executor = LocalExecutor(source, engine, engine.cache_for(source))
    steps = lloyd(executor, rows[:40].astype(np.float32), 4)
    engine.load(steps[0][0], executor.cache)
    again, _ = executor.run_pass(steps[3][0], SilentProgress())
    assert equal(again, steps[3][1])
    executor.close()


def test_a_memory_serves_another_k_after_the_first() -> None:
    rng = np.random.default_rng(5)
    rows = some_rows(rng, "clumps", 3000, 9, "uint8")
    source = small_blocks(rows, 512)
    engine = PrunedEngine(9, rows.dtype)
    executor = LocalExecutor(source, engine, engine.cache_for(source))
    for k in (40, 300, 7):
        (_, _), (centroids, sums) = lloyd(executor, rows[:k].astype(np.float32), 2)
        check(rows, centroids, loaded(rows, centroids).assign(rows))
        assert equal(sums, sums_of(rows, loaded(rows, centroids).assign(rows), k))
    executor.close()


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


def test_auto_is_pruned_on_a_cpu_and_torch_elsewhere() -> None:
    kind = np.dtype(np.uint8)
    assert isinstance(EngineSpec.resolve("auto", CPU, 3, kind).make(), PrunedEngine)
    assert isinstance(EngineSpec.resolve("torch", CPU, 3, kind).make(), DenseEngine)
    with pytest.raises(ValueError, match="as it runs on the cpu, not on cuda"):
        EngineSpec.resolve("pruned", Device("cuda"), 3, kind).make()


def test_kernels_older_than_any_source_are_not_used(tmp_path: Path) -> None:
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    files = [tmp_path / "one.py", tmp_path / "two.py", cache / "one.nbi", cache / "two.1.nbc"]
    for seconds, file in enumerate(files, start=1000):
        file.touch()
        os.utime(file, (seconds, seconds))
    drop_stale(tmp_path)
    assert all(file.exists() for file in files)
    os.utime(files[1], (1002.5, 1002.5))
    drop_stale(tmp_path)
    assert [file.exists() for file in files] == [True, True, False, True]


def test_one_engine_serves_sizes_whose_lists_take_the_same_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours, "LIST_ENTRIES", 48 * 32)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (4000, 25), dtype=np.uint8)
    engine = PrunedEngine(25, rows.dtype)
    monkeypatch.setattr(pruned, "SMALL", 0)
    for k in (32, 48):  # 32 lists of 48 entries, 48 lists of 32
        centroids = rng.random((k, 25), dtype=np.float32) * 255
        engine.load(centroids)
        check(rows, centroids, engine.assign(rows))
