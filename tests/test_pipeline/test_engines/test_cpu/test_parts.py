"""Passes of the pruned engine that come in parts, as those of a cluster's workers."""

import weakref
from copy import deepcopy
from itertools import pairwise
from threading import Event

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.engines.cpu.threads import ThreadPool
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


@pytest.mark.parametrize("kept", [False, True])
def test_blocks_are_let_go_as_a_pass_goes_on(kept: bool) -> None:
    rows = some_rows(np.random.default_rng(0), "clumps", 4000, 9, "uint8")
    source, engine = small_blocks(rows, 256), PrunedEngine(9, rows.dtype)
    centroids, read = rows[:40].astype(np.float32), []

    def watched(index: int) -> np.ndarray:
        # Of those before, one waits, one is in work, and a thread may be about to let go of one.
        assert all(block() is None for block in read[: max(0, index - 3)]), index
        block = rows[256 * index : 256 * (index + 1)].copy()
        read.append(weakref.ref(block))
        return block

    source.read_block = watched  # type: ignore[method-assign]
    cache = engine.cache_for(source) if kept else None
    for _ in range(3):
        read.clear()
        sums = engine.run_pass(source, range(16), centroids, cache, SilentProgress())
        assert equal(sums, fresh(rows, centroids))
        assert len(read) == 16
    if cache is not None:
        cache.close()


def test_the_first_block_is_read_while_centroids_are_prepared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = some_rows(np.random.default_rng(0), "clumps", 500, 9, "uint8")
    source, engine, begun = small_blocks(rows, 256), PrunedEngine(9, rows.dtype), Event()
    original = source.read_block
    source.read_block = lambda index: begun.set() or original(index)  # type: ignore[method-assign,func-returns-value]
    prepare = engine.labeller.begin
    monkeypatch.setattr(
        engine.labeller, "begin", lambda *args: prepare(*args) if begun.wait(5) else None
    )
    centroids = rows[:40].astype(np.float32)
    sums = engine.run_pass(source, range(2), centroids, None, SilentProgress())
    assert equal(sums, fresh(rows, centroids))


@given(items=st.integers(0, 10**6), threads=st.integers(1, 70), each=st.integers(1, 9))
def test_stretches_are_all_items_and_the_last_are_the_shortest(
    items: int, threads: int, each: int
) -> None:
    pool = ThreadPool()
    pool.threads = threads
    stretches = pool.stretches(items, each)
    assert [first for first, _ in stretches] == [0, *(stop for _, stop in stretches)][:-1]
    assert (stretches[-1][1] if stretches else 0) == items
    assert len(stretches) <= threads * each
    sizes = [stop - first for first, stop in stretches]
    assert all(0 < after <= before + 1 for before, after in pairwise(sizes))
    if each > 1 and items >= 100 * threads * each:
        assert sizes[-1] < 1.1 * 2 * items / (threads * each * (each + 1))
