"""Passes on the workers of a local cluster against passes in this process."""

import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask.delayed import delayed

from pipeline import StreamingKMeans, SweepOptions, sweep
from pipeline.engines import EngineSpec
from pipeline.execution.cluster import ClusterExecutor
from pipeline.execution.connection import _ScriptLeftOut
from pipeline.execution.executor import LocalExecutor
from pipeline.execution.scheduler import Scheduler
from pipeline.execution.shards import Parts, add_up, shard_count
from pipeline.extraction.extract import extract
from pipeline.rows.source import ArraySource, StoreSource, block_count
from pipeline.runtime.devices import CPU, thread_count
from pipeline.runtime.progress import SilentProgress
from storage import InputError, MemoryBudgetError, PatchSpec, PatchStore, open_dictionaries
from storage.errors import WorkerError
from tests.programs import ROOT, run_python
from tests.stored_numbers import numbers_of
from tests.test_pipeline.test_execution.clusters import Cluster

MEMORY = 3 << 30


def store_of(images: np.ndarray, folder: Path) -> PatchStore:
    np.save(folder / "images.npy", images)
    return extract(str(folder / "images.npy"), patch=PatchSpec(3, 3), out=folder)[0]


@pytest.fixture(scope="module")
def workers() -> Iterator[Scheduler]:
    """Two workers, started once."""
    with Scheduler("processes:2", MEMORY) as scheduler:
        yield scheduler


@pytest.mark.parametrize("engine_name", ["torch", "pruned"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_workers_add_up_what_this_process_does(
    strokes: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    engine_name: str,
    workers: Scheduler,
) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 9 * 64)
    store = store_of((strokes / 255).astype(dtype) if dtype == "float32" else strokes, tmp_path)
    assert store.n_chunks > 3
    source = StoreSource(store)
    centroids = store.read_chunk(1)[:20].astype(np.float32)
    engine = EngineSpec.resolve(engine_name, CPU, source.dim, source.dtype)
    here, _ = LocalExecutor(source, engine.make()).run_pass(centroids, SilentProgress())
    seen: list[int] = []

    class Counts(SilentProgress):
        def advance(self, units: int, **facts: Any) -> None:
            seen.append(units)

    cluster = ClusterExecutor(source, workers, engine)
    there, again = (cluster.run_pass(centroids, Counts())[0] for _ in range(2))
    cluster.close()
    assert sum(seen) == 2 * store.n_rows
    for name, mine in vars(here).items():
        theirs = vars(there)[name]
        assert theirs.dtype == mine.dtype
        np.testing.assert_array_equal(theirs, vars(again)[name])
        if dtype == "uint8":
            np.testing.assert_array_equal(theirs, mine)
        else:
            np.testing.assert_allclose(theirs, mine, rtol=1e-12)
    if dtype == "float32":  # those of shards, added by a tree that knows nothing of workers
        levels = [tree_of_sums(source, engine.make(), centroids)]
        for theirs, mine in zip((there.sums, there.counts, there.squares), *levels, strict=True):
            assert theirs.tobytes() == mine.tobytes()


def tree_of_sums(source: StoreSource, engine: Any, centroids: np.ndarray) -> Parts:
    """Sums, counts, squares of a store by shards, as they are to be added up."""
    here, blocks = LocalExecutor(source, engine), block_count(source)
    level = []
    for shard in range(shard_count(blocks)):
        mine = range(shard, blocks, shard_count(blocks))
        sums = here.sum_blocks(mine, centroids, SilentProgress())
        level.append((sums.sums, sums.counts, sums.squares))
    while len(level) > 1:
        level = [add_up(level[at : at + 8]) for at in range(0, len(level), 8)]
    return level[0]


def test_arrays_stay_in_this_process() -> None:
    rows = np.arange(30, dtype=np.uint8).reshape(10, 3)
    with pytest.raises(InputError, match="is for patch stores"):
        StreamingKMeans(2, scheduler="processes:2").fit(rows)
    with pytest.raises(InputError, match="no scheduler 'here'"):
        StreamingKMeans(2, scheduler="here").fit(rows)


def test_the_cap_holds_for_all_processes_together(tmp_path: Path) -> None:
    options = SweepOptions.checked(out=tmp_path, k="8", scheduler="processes:64", memory=MEMORY)
    with pytest.raises(MemoryBudgetError, match=r"more than the cap of 3\.0 GiB"):
        sweep(options)


SCRIPT = """
from pipeline import StreamingKMeans, SweepOptions, sweep
from storage import open_patches
print('begun')
km = StreamingKMeans(4, scheduler='processes:2', memory='4GiB', max_iter=2, breathing=0)
print(km.fit(open_patches(STORE)).counts_.sum())
options = SweepOptions(k='4', scheduler='processes:1', memory='4GiB', max_iter=2, out=OUT)
print(sweep(options)['dictionaries'][0]['rows_seen'] and sweep(options)['rows'])
"""


@pytest.mark.slow
def test_a_script_without_a_guard_runs_once(digits_swept: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    code = SCRIPT.replace("STORE", repr(digits_swept["store"]))
    script.write_text(code.replace("OUT", repr(str(tmp_path / "runs"))))
    ran = run_python(str(script), env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["begun", "24000", "24000"]
    assert ran.stderr == ""


def test_a_worker_that_takes_anothers_place_leaves_the_script_out_and_others_do_not(
    tmp_path: Path,
) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "import multiprocessing, os, signal, time\n"
        "from pipeline.execution.scheduler import Scheduler\nprint('begun', flush=True)\n"
        "def nothing(): pass\n"
        "if __name__ == '__main__':\n"
        "    with Scheduler('processes:1') as scheduler:\n"
        "        pid = lambda: scheduler.client.submit(os.getpid, pure=False).result()\n"
        "        first = pid()\n"
        "        os.kill(first, signal.SIGKILL)\n"
        "        assert pid() != first\n"
        "    own = multiprocessing.get_context('spawn').Process(target=nothing)\n"
        "    own.start(), own.join()\n"
        "    print(own.exitcode)\n"
    )
    ran = run_python(str(script), env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300)
    assert ran.stdout.split() == ["begun", "begun", "0"], ran.stderr


def test_the_hook_of_clusters_goes_with_the_last_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"name": "mine", "init_main_from_path": "mine.py"}
    monkeypatch.setattr(spawn, "get_preparation_data", lambda _: found)
    before, left_out = spawn.get_preparation_data, _ScriptLeftOut()
    for _ in range(2):
        one, other = ExitStack(), ExitStack()
        one.enter_context(left_out)
        other.enter_context(left_out)
        one.close()
        assert spawn.get_preparation_data("Dask Worker process (from Nanny)") == {"name": "mine"}
        assert spawn.get_preparation_data("another") == found
        other.close()
        assert spawn.get_preparation_data is before


@pytest.mark.usefixtures("spawned")
def test_workers_compete_neither_for_cores_nor_with_another_cluster_on_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_NUM_THREADS", "MALLOC_ARENA_MAX"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # someone has the usual port of the dashboard already
            taken.bind(("127.0.0.1", 8787))
            taken.listen()
        with Scheduler("processes:1", MEMORY) as scheduler:
            assert set(scheduler.client.run(thread_count).values()) == {1}
            assert "OMP_NUM_THREADS" not in os.environ  # this process has all cores, now and later
    assert dict(os.environ) == before


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A scheduler with a worker of two threads; the engine would get one, as under a nanny."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with Cluster() as started:
        started.add_worker("--nthreads", "2")
        monkeypatch.delenv("OMP_NUM_THREADS")
        yield started


@pytest.mark.usefixtures("spawned")
def test_sweeps_on_workers_store_the_same_numbers(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 25 * 5000)
    monkeypatch.setattr("pipeline.kmeans.nested.FIRST_ROWS", 4000)  # so that there are prefixes
    fields = {"k": "5", "max_iter": 4, "breathing": 1, "memory": MEMORY}
    here, *there = (
        numbers_of(
            sweep(SweepOptions.checked(out=tmp_path / name, scheduler=scheduler, **fields))[
                "experiment"
            ]
        )
        for name, scheduler in (
            ("here", ""),
            ("local", "processes:2"),
            ("running", cluster.address),
        )
    )
    assert there == [here, here]
    with Scheduler(cluster.address, MEMORY) as scheduler:
        assert set(scheduler.client.run(thread_count).values()) == {2}


def test_a_lost_scheduler_is_told(cluster: Cluster) -> None:
    with Scheduler(cluster.address, MEMORY) as scheduler:
        assert scheduler.client.scheduler_info()["type"] == "Scheduler"
        threading.Timer(0.5, cluster.scheduler.kill).start()
        with pytest.raises(WorkerError, match="no longer answers: start it"):
            scheduler.compute([delayed(time.sleep)(20)], lambda: None)


def test_mini_batches_run_here_and_say_so(strokes: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", strokes)
    store = extract(str(tmp_path / "images.npy"), out=tmp_path)[0]
    notes: list[str] = []

    class Notes(SilentProgress):
        def note(self, text: str) -> None:
            notes.append(text)

    nobody = "tcp://127.0.0.1:1"
    images = {"dataset": str(tmp_path / "images.npy"), "out": tmp_path, "k": "4"}
    options = SweepOptions.checked(**images, mode="minibatch", scheduler=nobody, memory=MEMORY)
    made = sweep(options, Notes())
    assert made["reused"]
    tree = open_dictionaries(Path(made["experiment"]) / "dictionaries.zarr")
    assert tree["k00004"].attrs["scheduler"] == ""
    assert f"mini-batches follow one another: they run in this process, not at {nobody}" in notes
    with pytest.raises(InputError, match="is not for mode='minibatch', whose"):
        StreamingKMeans(2, mode="minibatch", scheduler=nobody).fit(store)


def test_a_prefix_of_a_single_block_is_read_once_and_let_go_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (1_000, 5)).astype(np.uint8)
    source = ArraySource(rows)
    source.block_rows, read = 400, []
    whole = ArraySource.read_block
    monkeypatch.setattr(ArraySource, "read_block", lambda self, i: read.append(i) or whole(self, i))
    engine = EngineSpec.resolve("pruned", CPU, 5, source.dtype).make()
    centroids = np.arange(15, dtype=np.float32).reshape(3, 5)
    executor = LocalExecutor(source, engine)
    few = [executor.run_pass(centroids, SilentProgress(), 300)[0].sums.tolist() for _ in range(3)]
    assert read == [0]
    assert few[0] == few[1] == few[2]
    held = weakref.ref(executor._first)
    executor.run_pass(centroids, SilentProgress(), 900)
    executor.run_pass(centroids, SilentProgress(), 900)
    assert read == [0] + 2 * [0, 1, 2]
    assert held() is None
    executor.run_pass(centroids, SilentProgress(), 300)
    executor.run_pass(centroids, SilentProgress())
    assert read[7:] == [0, 0, 1, 2]
