"""The engine that keeps rows on a device, on a device of numpy: its sums are those of the CPU's."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engines import ordered_sums as piece_sums
from pipeline.engines.device import engine as device_engine
from pipeline.engines.device import plan as device_plan
from pipeline.engines.device import transfers as transfers
from pipeline.engines.device.engine import DeviceEngine
from pipeline.execution.executor import LocalExecutor
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import ArraySource
from pipeline.runtime.progress import SilentProgress
from storage import MemoryBudgetError
from tests.device_kernels import CPU, LateKernels, LateStreams, PlainKernels
from tests.oracles import equal, squared_distances, sums_of

PLENTY = 1 << 30
DTYPES = ["uint8", "int8", "uint16", "float32", "float64"]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_plan, "PIECE_BYTES", 400)
    monkeypatch.setattr(piece_sums, "MAX_PIECE_ROWS", 11)


class CountingSource(ArraySource):
    """Rows in blocks of a given size; how often each block was read."""

    def __init__(self, rows: np.ndarray, block_rows: int) -> None:
        super().__init__(rows)
        self.block_rows = block_rows
        self.read = Counter[int]()

    def read_block(self, index: int) -> np.ndarray:
        self.read[index] += 1
        return super().read_block(index)


def some_rows(n: int, dim: int, dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((n, dim)) * 120).astype(dtype)


def some_centroids(rows: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wide = np.float64 if rows.dtype == np.float64 else np.float32
    return (rng.random((k, rows.shape[1])) * 120).astype(wide)


def engine_of(rows: np.ndarray, budget: int = PLENTY, **more: Any) -> DeviceEngine:
    kernels = PlainKernels(CPU, rows.shape[1], rows.dtype)
    return DeviceEngine(kernels, rows.shape[1], rows.dtype, budget, **more)


def kernels_of(engine: DeviceEngine) -> PlainKernels:
    kernels = engine._kernels
    assert isinstance(kernels, PlainKernels)
    return kernels


def budget_for(rows: np.ndarray, stay: int, k: int = 20) -> int:
    """With which so many rows stay, or a few more."""
    plan = engine_of(rows, largest=k)._plan
    if stay > len(rows):
        return PLENTY
    budget = plan.least
    while engine_of(rows, budget, largest=k)._plan.room(1 << 20, 1 << 20) < stay:
        budget += plan.row_bytes
    return budget


def labelled_by_float64(rows: np.ndarray, source: ArraySource, centroids: np.ndarray) -> Any:
    """Sums of one pass with labels of float64, added as the engines of the CPU do."""
    sums = ClusterSums.zeros(centroids, rows.dtype)
    for start in range(0, len(rows), source.block_rows):
        add_in_order(rows[start : start + source.block_rows], centroids, sums)
    return sums


def add_in_order(block: np.ndarray, centroids: np.ndarray, into: ClusterSums) -> None:
    size = piece_sums.piece_rows(block.shape[1])
    for start in range(0, len(block), size):
        piece = block[start : start + size]
        labels = squared_distances(piece, centroids).argmin(1)
        into += piece_sums.sum_piece(piece, labels, len(centroids), into.origin)


class Passes:
    """Passes of a device engine over one source, each compared with that of the CPU."""

    def __init__(
        self, rows: np.ndarray, block_rows: int, budget: int = PLENTY, **more: Any
    ) -> None:
        self.rows, self.source = rows, CountingSource(rows, block_rows)
        self.engine = engine_of(rows, budget, **more)
        self.memory = self.engine.cache_for(self.source)
        self.executor = LocalExecutor(self.source, self.engine, self.memory)

    def check(
        self, centroids: np.ndarray, n: int | None = None, successors: np.ndarray | None = None
    ) -> None:
        if successors is not None:
            self.executor.relabel(successors)
        sums, _ = self.executor.run_pass(centroids, SilentProgress(), n)
        seen = self.rows[:n]
        plain = CountingSource(seen, self.source.block_rows)
        assert equal(sums, labelled_by_float64(seen, plain, centroids))
        assert self.memory.nbytes + self.engine._plan.fixed <= self.engine._budget


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stay", [0, 100, 1 << 20])
def test_sums_of_many_passes_are_those_of_the_cpu(dtype: str, stay: int) -> None:
    rows = some_rows(333, 5, dtype)
    passes = Passes(rows, 60, budget_for(rows, stay))
    for seed in range(5):
        passes.check(some_centroids(rows, 20, seed))
    capacity = passes.memory.capacity
    assert capacity == {0: 0, 1 << 20: 333}.get(stay, capacity)
    assert 80 <= capacity <= 130 or stay != 100
    whole = capacity // 60  # blocks that stay
    reads = [passes.source.read[block] for block in range(6)]
    assert reads[0] == (1 if whole else 5)
    assert reads[1:] == [1 if block < whole or stay > 333 else 5 for block in range(1, 6)]
    if dtype == "uint8":
        asked = kernels_of(passes.engine).asked
        assert (asked["move"] == 4) is (stay > 0)
        if stay > 333:
            assert kernels_of(passes.engine).rows["add"] == 333


@settings(max_examples=60)
@given(
    n=st.integers(1, 200),
    block_rows=st.integers(1, 70),
    stay=st.integers(0, 250),
    dtype=st.sampled_from(DTYPES),
    sums_bytes=st.booleans(),
    steps=st.lists(
        st.tuples(st.integers(1, 200), st.integers(1, 12), st.booleans(), st.integers(0, 3)),
        min_size=1,
        max_size=7,
    ),
    data=st.data(),
)
def test_any_prefixes_and_numbers_of_centroids(
    n: int,
    block_rows: int,
    stay: int,
    dtype: str,
    sums_bytes: bool,
    steps: list[tuple[int, int, bool, int]],
    data: st.DataObject,
) -> None:
    rows = some_rows(n, 3, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainKernels, "sums_bytes", sums_bytes)
        passes = Passes(rows, block_rows, budget_for(rows, stay))
    before = 0
    for seen, k, passed_on, seed in steps:
        successors = None
        if passed_on and before:
            successors = np.array(
                data.draw(st.lists(st.integers(0, k - 1), min_size=before, max_size=before))
            )
        passes.check(some_centroids(rows, k, seed), min(seen, n), successors)
        before = k


def test_rows_that_change_sides_alone_are_moved() -> None:
    rows = np.array([[0], [1], [9], [10], [4]], np.uint8)
    passes = Passes(rows, 2)
    passes.check(np.array([[0.0], [10.0]], np.float32))
    asked = kernels_of(passes.engine)
    assert (asked.asked["add"], asked.asked["move"]) == (3, 0)  # one for each block
    passes.check(np.array([[0.0], [7.0]], np.float32))
    assert (asked.asked["add"], asked.asked["move"], asked.asked["label"]) == (3, 1, 4)
    # the second cluster's rows go to the first, a third one is added
    passes.check(np.array([[5.0], [9.0]], np.float32), successors=np.array([0, 0]))
    passes.check(np.array([[5.0], [9.0], [0.0]], np.float32))
    assert (asked.asked["add"], asked.asked["move"], asked.asked["inherit"]) == (3, 3, 2)
    passes.check(np.array([[5.0]], np.float32))  # nobody says who takes the rows: anew
    assert (asked.asked["add"], asked.asked["move"]) == (4, 3)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), torch.OutOfMemoryError("CUDA")])
@pytest.mark.parametrize("fault", ["label", "add", "move", "fetch", "read"])
@pytest.mark.parametrize("stay", [100, 1 << 20])
def test_a_pass_that_was_broken_off_leaves_no_trace(
    fault: str, raised: BaseException, stay: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_rows(333, 4, "uint8")
    for after in range(8):
        passes = Passes(rows, 60, budget_for(rows, stay))
        passes.check(some_centroids(rows, 20, 0), 150)
        kernels, source = kernels_of(passes.engine), passes.source
        last = source.read.total() + after

        def read(index: int, source: CountingSource = source, last: int = last) -> np.ndarray:
            if source.read.total() >= last:
                raise raised
            return CountingSource.read_block(source, index)

        with monkeypatch.context() as patch:
            if fault == "read":
                patch.setattr(source, "read_block", read)
            else:
                kernels.faults[fault] = kernels.asked[fault] + after, raised
            try:
                passes.check(some_centroids(rows, 20, 1))
            except (KeyboardInterrupt, MemoryBudgetError):
                pass
            else:
                assert after > 0
        kernels.faults.clear()
        passes.check(some_centroids(rows, 20, 2))
        passes.check(some_centroids(rows, 20, 3))


def test_rows_make_room_for_more_centroids_than_were_expected() -> None:
    rows = some_rows(300, 4, "uint8")
    passes = Passes(rows, 60, budget_for(rows, 200, 5), largest=5)
    passes.check(some_centroids(rows, 5))
    before = passes.memory.capacity
    passes.check(some_centroids(rows, 8))
    assert 0 < passes.memory.capacity < before
    passes.check(some_centroids(rows, 5))
    with pytest.raises(MemoryBudgetError, match=r"K = 1000 needs .*DEVICE_MEMORY=1MiB"):
        passes.check(some_centroids(rows, 1000))


def test_memories_share_what_the_engine_may_take() -> None:
    rows = some_rows(300, 4, "uint8")
    source = CountingSource(rows, 50)
    engine = engine_of(rows, budget_for(rows, 170), largest=20)
    ranges = [range(0, 2), range(2, 4), range(4, 6)]
    memories = [engine.cache_for(source, None, blocks) for blocks in ranges]
    centroids = some_centroids(rows, 20)
    whole = sums_of(rows, squared_distances(rows, centroids).argmin(1), centroids)

    def check() -> list[int]:
        sums = ClusterSums.zeros(centroids, rows.dtype)
        for blocks, memory in zip(ranges, memories, strict=True):
            sums += engine.run_pass(source, blocks, centroids, memory, SilentProgress())
        assert equal(sums, whole)
        return [memory.capacity for memory in memories]

    first = check()
    assert first[0] == 100
    assert 50 <= first[1] < 100
    assert first[2] < 20
    assert sum(first) <= 190
    assert check() == first
    memories[0].close()
    memories[0] = engine.cache_for(source, None, ranges[0])
    assert check() == first


def test_blocks_are_not_decoded_further_ahead_than_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfers, "thread_count", lambda: 2)
    rows = some_rows(1000, 4, "uint8")
    source = CountingSource(rows, 10)
    engine = engine_of(rows, budget_for(rows, 0, 3), largest=3)
    engine.load(some_centroids(rows, 3))
    source.read.clear()
    done = 0
    most = 0

    class Watching(SilentProgress):
        def advance(self, units: int, **facts: Any) -> None:
            nonlocal done, most
            done += units
            most = max(most, source.read.total() - done // 10)

    engine.run_pass(source, range(100), some_centroids(rows, 3), None, Watching())
    assert done == 1000
    assert 1 <= most <= transfers.blocks_held()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_at_hand_larger_than_the_device(dtype: str) -> None:
    rows = some_rows(1000, 4, dtype)
    centroids = some_centroids(rows, 7)
    engine = engine_of(rows, budget_for(rows, 0, 7), largest=7)
    engine.load(centroids)
    labels = squared_distances(rows, centroids).argmin(1)
    found = engine.assign(rows)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, labels)
    assert engine.assign(rows[:0]).shape == (0,)
    sums, expected = (ClusterSums.zeros(centroids, rows.dtype) for _ in range(2))
    for _ in range(2):
        engine.step(rows, sums)
        add_in_order(rows, centroids, expected)
    assert equal(sums, expected)


@pytest.fixture(params=["copy", "work"])
def late(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LateStreams]:
    streams = LateStreams(request.param)
    monkeypatch.setattr(device_engine, "Streams", lambda device: streams)
    yield streams
    streams.drain()


@pytest.mark.parametrize("stay", [0, 100, 1 << 20])
def test_nothing_is_overwritten_while_it_is_in_use(late: LateStreams, stay: int) -> None:
    rows = some_rows(700, 4, "uint8")
    kernels = LateKernels(CPU, 4, rows.dtype)
    kernels.streams = late
    engine = DeviceEngine(kernels, 4, rows.dtype, budget_for(rows, stay), largest=20)
    source = CountingSource(rows, 60)
    with closing(LocalExecutor(source, engine, engine.cache_for(source))) as executor:
        for seed, n in enumerate([200, 700, 700, 300, 700]):
            centroids = some_centroids(rows, 20, seed)
            sums, _ = executor.run_pass(centroids, SilentProgress(), n)
            labels = squared_distances(rows[:n], centroids).argmin(1)
            assert equal(sums, sums_of(rows[:n], labels, centroids))
    sums = ClusterSums.zeros(centroids, rows.dtype)
    engine.step(rows, sums)
    assert equal(sums, sums_of(rows, squared_distances(rows, centroids).argmin(1), centroids))
