"""Shards of a store, the tree that adds up their sums, and where each of them runs."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import FitOptions
from pipeline.engines import EngineSpec
from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.engines.cpu.neighbour_lists import LIST_ENTRIES
from pipeline.execution import shards
from pipeline.execution.blocks import BlockRows
from pipeline.execution.cluster import assign_shards, pass_graph
from pipeline.execution.gather import StoreOnWorkers
from pipeline.execution.scheduler import Scheduler
from pipeline.execution.shards import (
    FAN_IN,
    MAX_SHARDS,
    SHARD_CHUNKS,
    ClusterPass,
    WorkersTask,
    add_up,
    fold_levels,
    shard_count,
    sums_bytes,
    sums_held,
)
from pipeline.kmeans.plan import FitPlan
from pipeline.rows.source import StoreSource
from pipeline.runtime.devices import CPU
from tests.linked_stores import linked_store, striped_images

WORKERS = st.integers(1, 300).map(lambda n: [f"tcp://{place}" for place in range(n)])


@given(st.integers(1, 20_000), st.floats(0, 1))
def test_the_first_chunks_lie_in_all_shards(blocks: int, share: float) -> None:
    wanted, shards = max(1, round(share * blocks)), shard_count(blocks)
    assert shards <= MAX_SHARDS
    assert blocks >= SHARD_CHUNKS * (shards - 1) + 1
    found = [range(shard, wanted, shards) for shard in range(shards)]
    assert sorted(block for mine in found for block in mine) == list(range(wanted))
    lengths = [len(mine) for mine in found]
    assert max(lengths) - min(lengths) <= 1
    assert sum(map(bool, lengths)) == min(wanted, shards)


@given(st.integers(1, MAX_SHARDS))
def test_each_sum_is_added_once_and_few_wait(shards: int) -> None:
    live, most = 0, 1
    counts = {(-1, shard): 1 for shard in range(shards)}  # of shards in each sum
    levels = list(fold_levels(shards))
    waiting: list[list[int]] = [[] for _ in range(len(levels) + 1)]

    def made(level: int, place: int) -> None:
        """A sum is there; the one that waits for it last is made at once."""
        nonlocal live, most
        live, most = live + 1, max(most, live + 1)
        waiting[level].append(place)
        if level == len(levels):
            return
        group = levels[level][place // FAN_IN]
        assert len(group) <= FAN_IN
        if place == group[-1]:
            assert waiting[level] == list(group)
            counts[level, place // FAN_IN] = sum(counts[level - 1, one] for one in group)
            most = max(most, live + 1)
            live -= len(group)
            waiting[level].clear()
            made(level + 1, place // FAN_IN)

    for shard in range(shards):
        made(0, shard)
    assert counts[len(levels) - 1, 0] == shards
    assert live == 1
    assert most <= sums_held(shards)


def test_sums_of_a_worker_are_counted() -> None:
    spec = EngineSpec.resolve("pruned", CPU, 25, np.dtype(np.uint8))
    each = 8 * 10_000 * 27
    # 8 of 77 shards, 8 of the 10 sums of such, both of the last two, what is made, what comes out
    assert sums_bytes(spec, 10_000, 77) == (8 + 8 + 2 + 2) * each + each + (128 << 20)
    assert sums_bytes(spec, 10, 77) == (8 + 8 + 2 + 2 + 77) * 8 * 10 * 27
    floats = EngineSpec.resolve("pruned", CPU, 25, np.dtype(np.float32))
    assert sums_bytes(floats, 10_000, 77) == (8 + 8 + 2 + 2) * each


def long_source(folder: Path) -> tuple[StoreSource, EngineSpec]:
    """A million rows, and what labels them."""
    rows = np.random.default_rng(0).integers(0, 256, (64, 25)).astype(np.uint8)
    images = striped_images(folder / "stripes.npy", 25)
    source = StoreSource(linked_store(folder, rows, 1 << 20, images))
    return source, EngineSpec.resolve("pruned", CPU, 25, source.dtype)


def test_what_workers_alone_hold_is_not_counted_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, engine = long_source(tmp_path)

    def made(scheduler: str, init: str = "random") -> FitPlan:
        options = FitOptions.checked(mode="full", init=init)
        return FitPlan.make(source, [3000], options, engine, Scheduler(scheduler))

    here, spread = made(""), made("processes:2")
    assert here.blocks > 1
    rows_at_once = (here.blocks - 1) * source.block_rows * source.dim
    assert spread.allocated() < here.allocated() - engine.host_bytes(3000, 1) - rows_at_once
    samples = made("processes:2", "k-means++").allocated() - spread.allocated()
    assert samples > engine.host_bytes(3000, 1)  # which are labelled here
    one, none = spread._worker_bytes(), spread._worker_bytes(0)
    monkeypatch.setattr("pipeline.engines.cpu.spec.thread_count", lambda: 64)
    assert spread._worker_bytes() == one > none > engine.host_bytes(3000, source.block_rows, 1)


def test_a_cap_of_this_machine_makes_no_blocks_of_workers_elsewhere_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, engine = long_source(tmp_path)
    monkeypatch.setattr("pipeline.kmeans.plan.keep_no_gaps", lambda: None)
    asked = []
    monkeypatch.setattr("pipeline.kmeans.plan.fits", lambda needed, _: bool(asked.append(needed)))
    monkeypatch.setattr("pipeline.kmeans.plan.check_budget", lambda step, needed, cap: needed)
    scheduler = Scheduler("tcp://127.0.0.1:1")
    least = FitPlan.make(source, [3000], FitOptions(), engine, scheduler, memory=1 << 30)
    assert least.tight
    assert (least.blocks, least.engine) == (engine.blocks_at_once(3000, source), engine)
    assert least.blocks > 1
    assert asked[0] > asked[1] == least.projected
    assert len(asked) == 2  # no two ways that take the same


def test_a_worker_makes_the_engine_that_was_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that keeps shorter lists, where the cap is small."""
    worker = SimpleNamespace(state=SimpleNamespace(nthreads=1), local_directory=str(tmp_path))
    monkeypatch.setattr("distributed.get_worker", lambda: worker)
    monkeypatch.setattr(shards, "use_threads", lambda count: None)
    spec = EngineSpec.resolve("pruned", CPU, 2, np.dtype(np.uint8)).with_less()
    assert spec is not None
    rows = BlockRows(2, np.dtype(np.uint8), {})
    state = shards._begun(WorkersTask("fit", rows, spec, True, 1, None))
    assert isinstance(state.engine, PrunedEngine)
    assert state.engine._list_entries == LIST_ENTRIES // 2


def test_sums_are_added_in_order_and_stay_what_they_are() -> None:
    rng = np.random.default_rng(3)
    parts = [
        (rng.standard_normal((4, 3)) * 10.0**place, np.arange(4), np.ones(4)) for place in range(5)
    ]
    before = [tuple(one.copy() for one in part) for part in parts]
    sums, counts, squares = add_up(parts)
    expected = ((((parts[0][0] + parts[1][0]) + parts[2][0]) + parts[3][0]) + parts[4][0]).tobytes()
    assert sums.tobytes() == expected
    assert counts.tolist() == [0, 5, 10, 15]
    assert squares.tolist() == [5, 5, 5, 5]
    for part, kept in zip(parts, before, strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(part, kept, strict=True))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@given(homes=st.lists(st.sampled_from(["tcp://a", "tcp://b", "tcp://c"]), min_size=1, max_size=90))
def test_sums_of_bytes_are_added_where_they_are_first(dtype: str, homes: list[str]) -> None:
    """Others by their numbers, wherever they are: the same bits for any workers."""
    spec = EngineSpec.resolve("torch", CPU, 2, np.dtype(dtype))
    task = WorkersTask("fit", StoreOnWorkers("", ""), spec, True, 1, None)
    graph, keys = pass_graph(ClusterPass(task, 1, np.zeros((1, 2)), None, 1), homes)
    tasks, sent = dict(graph), list[str]()
    leaves = [(f"sum_shard-{task.name}-1", shard) for shard in range(len(homes))]

    def added(key: Any) -> tuple[list[int], str]:
        """Shards under a sum, in the order in which they are added, and where that is made."""
        if key in leaves:
            return [key[1]], homes[key[1]]
        work, parts = tasks[key]
        assert work is add_up
        assert len(parts) <= FAN_IN
        found = [added(part) for part in parts]
        place = found[0][1]
        sent.extend(one for _, one in found if one != place)
        return [shard for shards, _ in found for shard in shards], place

    order, _ = added(keys[-1])
    if dtype == "uint8":
        assert sorted(order) == [*range(len(homes))]
        assert len(sent) == len(set(homes)) - 1
    else:
        assert order == [*range(len(homes))]


def sizes_of(blocks: int, shards: int) -> list[int]:
    """Chunks of each shard of so many."""
    return [len(range(shard, blocks, shards)) for shard in range(min(shards, blocks))]


def loads(sizes: list[int], homes: list[str]) -> Counter[str]:
    """Chunks of each worker."""
    return sum((Counter({home: n}) for home, n in zip(homes, sizes, strict=True)), Counter())


@given(st.integers(1, 1500), WORKERS)
def test_chunks_are_dealt_evenly_and_neighbours_together(blocks: int, workers: list[str]) -> None:
    sizes = sizes_of(blocks, shard_count(blocks))
    homes = assign_shards(sizes, workers, {})
    load = loads(sizes, homes)
    assert max(load.values()) - min(load[one] for one in workers) <= max(sizes)
    assert sum(one != other for one, other in pairwise(homes)) < 2 * len(workers)


@pytest.mark.parametrize(("blocks", "loaded"), [(16, [8, 8]), (19, [10, 9]), (24, [12, 12])])
def test_few_chunks_are_dealt_evenly_too(blocks: int, loaded: list[int]) -> None:
    """The first workers got the shards that have a chunk more: 9 and 7, 12 and 7."""
    workers, shards, held = ["tcp://a", "tcp://b"], shard_count(blocks), dict[int, str]()
    homes = assign_shards(sizes_of(blocks, shards), workers, {})
    assert sorted(loads(sizes_of(blocks, shards), homes).values(), reverse=True) == loaded
    for rows in (1, 2, 4, 8, 16, blocks):  # a prefix that grows
        homes = assign_shards(sizes_of(min(rows, blocks), shards), workers, held)
        held = dict(enumerate(homes))
    load = loads(sizes_of(blocks, shards), homes)
    assert max(load.values()) - min(load.values()) <= 2


@given(st.data())
def test_workers_that_remember_a_shard_get_it_again(data: st.DataObject) -> None:
    workers = data.draw(WORKERS)
    shards = data.draw(st.integers(1, 200))
    gone = [*workers, "tcp://gone"]
    held = data.draw(st.dictionaries(st.integers(0, 2 * shards), st.sampled_from(gone)))
    homes = assign_shards([1] * shards, workers, held)
    assert len(homes) == shards
    assert set(homes) <= set(workers)
    share = -(-shards // len(workers))
    load = Counter(homes)
    assert all(2 * load[one] >= share - 1 for one in workers)
    remembered = {shard: one for shard, one in held.items() if shard < shards and one in workers}
    moved = sum(homes[shard] != one for shard, one in remembered.items())
    before = Counter(remembered.values())
    # no more go elsewhere than those lack that have too few
    assert moved <= sum(share - before[one] for one in workers if 2 * before[one] < share)


def test_a_worker_that_came_late_takes_its_share_once() -> None:
    old, new = ["tcp://a", "tcp://b"], ["tcp://a", "tcp://b", "tcp://c"]
    first = assign_shards([3] * 12, old, {})
    assert first == ["tcp://a"] * 6 + ["tcp://b"] * 6
    second = assign_shards([3] * 12, new, dict(enumerate(first)))
    assert Counter(second) == {"tcp://a": 4, "tcp://b": 4, "tcp://c": 4}
    assert sum(one != other for one, other in zip(first, second, strict=True)) == 4
    uneven = dict(enumerate(["tcp://a"] * 7 + ["tcp://b"] * 5))  # b is slower: it stays so
    assert assign_shards([3] * 12, old, uneven) == list(uneven.values())
    assert assign_shards([1] * 3, [], {}) == [""] * 3


@pytest.mark.parametrize("remembered", ["all by one", "none"])
def test_a_short_prefix_runs_on_all_workers(remembered: str) -> None:
    held = dict.fromkeys(range(4), "tcp://a") if remembered == "all by one" else {}
    assert set(assign_shards([3] * 4, ["tcp://a", "tcp://b"], held)) == {"tcp://a", "tcp://b"}
