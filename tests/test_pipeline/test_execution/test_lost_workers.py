"""Workers that are killed, that come late, and clients that go away, in the midst of passes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tornado.iostream import IOStream

from pipeline import SweepOptions, sweep
from pipeline.engines import EngineSpec
from pipeline.execution import shards
from pipeline.execution.cluster import ClusterExecutor
from pipeline.execution.executor import LocalExecutor
from pipeline.execution.scheduler import Scheduler
from pipeline.extraction.extract import extract
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import StoreSource
from pipeline.runtime.devices import CPU
from pipeline.runtime.progress import SilentProgress
from storage import PatchSpec
from tests.oracles import equal
from tests.programs import ROOT
from tests.stored_numbers import numbers_of
from tests.test_pipeline.test_execution.clusters import wait_until

MEMORY = 3 << 30
SHARDS = 24
CHUNKS = SHARDS * shards.SHARD_CHUNKS
K = 30


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreSource:
    """A store of 24 shards."""
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 9 * 64)
    rng = np.random.default_rng(1)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (18, 18, 18), np.uint8))
    store = extract(str(tmp_path / "images.npy"), patch=PatchSpec(3, 3), out=tmp_path)[0]
    assert store.n_chunks == CHUNKS
    return StoreSource(store)


@pytest.fixture
def two() -> Iterator[Scheduler]:
    with Scheduler("processes:2", MEMORY) as scheduler:
        yield scheduler


class Counts(SilentProgress):
    """Counts rows, and does something at the n-th report."""

    def __init__(self, at: int = 0, what: Callable[[], None] = lambda: None) -> None:
        self.rows, self.reports, self._at, self._what = 0, 0, at, what

    def advance(self, units: int, **facts: Any) -> None:
        self.rows += units
        self.reports += 1
        if self.reports == self._at:
            self._what()


def lloyd(executor: Any, start: np.ndarray, progress: list[Counts]) -> list[ClusterSums]:
    """Sums of a pass for each report of progress."""
    centroids, found = start, []
    for one in progress:
        sums, _ = executor.run_pass(centroids, one)
        found.append(sums)
        centroids = sums.means(centroids).astype(np.float32)
    return found


def engine_of(source: StoreSource) -> EngineSpec:
    return EngineSpec.resolve("pruned", CPU, source.dim, source.dtype)


def expected(source: StoreSource, passes: int) -> list[ClusterSums]:
    here = LocalExecutor(source, engine_of(source).make())
    return lloyd(here, start_of(source), [Counts() for _ in range(passes)])


def start_of(source: StoreSource) -> np.ndarray:
    return source.read_block(0)[:K].astype(np.float32)


def kill_one(scheduler: Scheduler, which: int = 0) -> None:
    """Of the workers that are there now."""
    pids = scheduler.client.run(os.getpid, on_error="ignore")
    os.kill(pids[sorted(pids)[which % len(pids)]], signal.SIGKILL)


def states(scheduler: Scheduler) -> list[int]:
    """How many fits each worker keeps something of."""
    return sorted(scheduler.client.run(lambda: len(shards._states)).values())


@pytest.mark.slow
def test_a_pass_goes_on_without_a_worker_that_was_killed(
    source: StoreSource, two: Scheduler
) -> None:
    cluster = ClusterExecutor(source, two, engine_of(source), at_once=2)
    kills = [0, 1, SHARDS, SHARDS // 2]  # in which report of each pass: none, first, last, amid
    seen = [Counts(at, lambda: kill_one(two)) for at in kills]
    found = lloyd(cluster, start_of(source), seen)
    assert [one.rows for one in seen] == [source.n_rows] * len(kills)
    for mine, theirs in zip(expected(source, len(kills)), found, strict=True):
        assert equal(mine, theirs)


@pytest.mark.slow
def test_a_pass_goes_on_when_all_that_held_its_centroids_are_gone(
    source: StoreSource, two: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the last busy worker of a pass is killed: Dask drops the copies of idle ones."""
    cluster = ClusterExecutor(source, two, engine_of(source), at_once=2)

    def kill() -> None:
        two.client.amm.run_once()
        kill_one(two)
        kill_one(two, 1)

    seen = Counts(SHARDS // 3, kill)
    (found,) = lloyd(cluster, start_of(source), [seen])
    assert equal(found, expected(source, 1)[0])
    assert seen.rows == source.n_rows


def test_a_worker_that_comes_late_gets_shards_and_keeps_what_helps(source: StoreSource) -> None:
    with Scheduler("processes:1", MEMORY) as scheduler:
        cluster = ClusterExecutor(source, scheduler, engine_of(source))
        client = scheduler.client

        def one_more() -> None:
            client.cluster.scale(2)
            client.wait_for_workers(2)
            wait_until(lambda: len(scheduler.workers) == 2)

        seen = [Counts(SHARDS, one_more), Counts(), Counts()]
        found = lloyd(cluster, start_of(source), seen)
        for mine, theirs in zip(expected(source, 3), found, strict=True):
            assert equal(mine, theirs)
        assert set(cluster._held.values()) == set(client.nthreads())
        assert states(scheduler) == [1, 1]


def test_states_of_workers_last_as_long_as_they_are_wanted(
    source: StoreSource, two: Scheduler
) -> None:
    cluster, other = (ClusterExecutor(source, two, engine_of(source), at_once=2) for _ in range(2))
    for executor in (cluster, other):
        lloyd(executor, start_of(source), [Counts()])
    two.client.amm.run_once()  # Dask drops what it holds twice
    time.sleep(0.5)
    assert states(two) == [2, 2]
    cluster.close()
    wait_until(lambda: states(two) == [1, 1])
    found = lloyd(other, start_of(source), [Counts()])
    assert equal(found[0], expected(source, 1)[0])
    other.close()
    wait_until(lambda: states(two) == [0, 0])


def test_this_process_receives_the_sums_of_all_rows_alone(
    source: StoreSource, two: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    centroids = np.random.default_rng(2).integers(0, 256, (2000, 9)).astype(np.float32)
    one = 8 * len(centroids) * (9 + 2)
    cluster = ClusterExecutor(source, two, engine_of(source), at_once=2)
    cluster.run_pass(centroids[:5], SilentProgress())  # code, addresses
    received, read = [0], IOStream.read_from_fd

    def counting(stream: IOStream, buffer: Any) -> int | None:
        n = read(stream, buffer)
        received[0] += n or 0
        return n

    monkeypatch.setattr(IOStream, "read_from_fd", counting)
    cluster.run_pass(centroids, SilentProgress())
    # The scheduler is in this process, too, and hands results on: they are counted twice, and with
    # them the centroids, and what it hears of its workers.
    assert 2 * one < received[0] < SHARDS // 4 * one


CLIENT = """
import sys
import numpy as np
from pipeline.engines import EngineSpec
from pipeline.execution.cluster import ClusterExecutor
from pipeline.execution.scheduler import Scheduler
from pipeline.rows.source import StoreSource
from pipeline.runtime.devices import CPU
from pipeline.runtime.progress import SilentProgress
from storage import open_patches
address, path = sys.argv[1:]
source = StoreSource(open_patches(path))
engine = EngineSpec.resolve("pruned", CPU, source.dim, source.dtype)
with Scheduler(address) as scheduler:
    cluster = ClusterExecutor(source, scheduler, engine)
    while True:
        cluster.run_pass(source.read_block(0)[:30].astype(np.float32), SilentProgress())
        print("pass", flush=True)
"""


def test_a_client_that_is_killed_leaves_nothing_on_workers(
    source: StoreSource, two: Scheduler
) -> None:
    def scratch_files() -> list[int]:
        """Of each worker: those that have no name any more."""
        return list(two.client.run(nameless_files).values())

    address = two.client.scheduler.address
    program = [sys.executable, "-c", CLIENT, address, str(source.path)]
    before = scratch_files()
    for _ in range(2):
        with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == b"pass\n"
            assert states(two) == [1, 1]
            assert scratch_files() == [one + 1 for one in before]
            client.kill()
        wait_until(lambda: states(two) == [0, 0])
        wait_until(lambda: scratch_files() == before)


def nameless_files() -> int:
    """Files that this process has open and that have no name."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the folder itself
            found += os.readlink(f"/proc/self/fd/{number}").endswith("(deleted)")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "nested"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_sweeps_are_the_local_ones_whatever_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, workers: int
) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 25 * 1000)
    monkeypatch.setattr("pipeline.kmeans.nested.FIRST_ROWS", 4000)
    fields = {"k": "20", "mode": mode, "max_iter": 6, "breathing": 1, "memory": 2 * MEMORY}
    here, there = (
        numbers_of(
            sweep(SweepOptions.checked(out=tmp_path / name, scheduler=scheduler, **fields))[
                "experiment"
            ]
        )
        for name, scheduler in (("here", ""), ("there", f"processes:{workers}"))
    )
    assert here == there


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(20))
def test_workers_may_be_killed_at_any_moment(source: StoreSource, moment: int) -> None:
    """Five passes, in which a worker dies at a moment of its own, also the last task's."""
    rng = np.random.default_rng(moment)
    last = SHARDS if moment % 5 == 0 else int(rng.integers(1, SHARDS + 1))
    with Scheduler("processes:3", MEMORY) as scheduler:
        cluster = ClusterExecutor(source, scheduler, engine_of(source))

        def kill() -> None:
            time.sleep(rng.random() / 50)
            kill_one(scheduler, int(rng.integers(3)))

        seen = [Counts() for _ in range(5)]
        seen[rng.integers(5)] = Counts(last, kill)
        found = lloyd(cluster, start_of(source), seen)
        if moment % 4 == 0:  # between two passes
            kill()
            found[-1] = lloyd(cluster, start_of(source), [Counts()])[0]
            assert equal(found.pop(), expected(source, 1)[0])
        for mine, theirs in zip(expected(source, len(found)), found, strict=True):
            assert equal(mine, theirs)
        assert all(one.rows == source.n_rows for one in seen)
