"""Workers that are killed or stopped, and schedulers that are: real processes, and what is told."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask.delayed import delayed

from pipeline import SweepOptions, sweep
from pipeline.execution import watch
from pipeline.execution.scheduler import Scheduler
from pipeline.runtime.progress import SilentProgress
from storage.errors import WorkerError
from tests.programs import ROOT
from tests.stored_numbers import numbers_of
from tests.test_pipeline.test_execution.clusters import Cluster, slow_square, wait_until

MEMORY = 3 << 30
SQUARES = [number**2 for number in range(24)]


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A scheduler with two workers."""
    with Cluster() as started:
        for _ in range(2):
            started.add_worker()
        yield started


@pytest.fixture
def scheduler(cluster: Cluster, notes: Notes) -> Iterator[Scheduler]:
    with Scheduler(cluster.address, MEMORY, notes) as connected:
        wait_until(lambda: len(connected.client.scheduler_info()["workers"]) == 2)
        yield connected


def squares(
    scheduler: Scheduler, beside: Any = None, *, after: Any = None, done: int = 6
) -> list[int]:
    """Results of slow tasks; `after` is called when so many of them are done."""
    seen: list[None] = []

    def count() -> None:
        seen.append(None)
        if len(seen) == done and after is not None:
            after()

    tasks = [delayed(slow_square, pure=False)(number, beside) for number in range(len(SQUARES))]
    return scheduler.compute(tasks, count)


def test_tasks_of_a_killed_worker_and_what_it_held_are_made_again(
    cluster: Cluster, scheduler: Scheduler, notes: Notes
) -> None:
    beside = scheduler.copied(np.zeros(1000, int))
    assert squares(scheduler, beside) == SQUARES
    wait_until(lambda: len(scheduler.client.who_has([beside])[beside.key]) == 1)  # idle: dropped
    (holder,) = scheduler.client.who_has([beside])[beside.key]
    pid = scheduler.client.run(os.getpid, workers=[holder])[holder]
    last = scheduler.client.submit(
        slow_square, 3, beside, seconds=2, workers=[holder], allow_other_workers=True
    )
    wait_until(lambda: last.key in scheduler.client.processing()[holder])
    os.kill(pid, signal.SIGKILL)  # of the only one that has what the task needs
    assert [result for _, result in scheduler.completed([last])] == [9]
    gone = f"worker {holder} is gone: its tasks run elsewhere"
    wait_until(lambda: notes.notes[-1] in (gone, gone + watch._NEW))  # it may have just come
    assert any(note.startswith(f"cluster {cluster.address}: ") for note in notes.notes)


def test_a_scheduler_that_is_lost_between_two_steps_is_told(
    cluster: Cluster, scheduler: Scheduler
) -> None:
    future = scheduler.copied(1)
    assert [result for _, result in scheduler.completed([future])] == [1]
    cluster.scheduler.kill()
    for _ in range(2):  # at once, and when it is known
        with pytest.raises(WorkerError, match="no longer answers: start it, and run the same"):
            squares(scheduler)
        cluster.scheduler.wait()


@pytest.mark.slow
def test_a_run_waits_for_workers_and_says_so(
    cluster: Cluster, scheduler: Scheduler, notes: Notes
) -> None:
    def kill_all() -> None:
        for process in cluster.workers:
            process.kill()
        threading.Timer(3, cluster.add_worker).start()

    assert squares(scheduler, after=kill_all) == SQUARES
    assert f"no worker is at {cluster.address}: waiting up to 60 s for one" in notes.notes


@pytest.mark.slow
def test_a_run_without_workers_ends_in_one_line(
    cluster: Cluster, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "WORKERLESS_SECONDS", 2.0)

    def kill_all() -> None:
        for process in cluster.workers:
            process.kill()

    with pytest.raises(
        WorkerError, match=r"no worker is at .*, and none came within 2 s: start some"
    ):
        squares(scheduler, after=kill_all)


@pytest.mark.slow
def test_a_task_that_takes_its_workers_along_is_given_up(cluster: Cluster, notes: Notes) -> None:
    for _ in range(3):
        cluster.add_worker()
    with Scheduler(cluster.address, MEMORY, notes) as scheduler:
        wait_until(lambda: len(scheduler.client.scheduler_info()["workers"]) == 5)
        killer = delayed(os.kill)(delayed(os.getpid, pure=False)(), signal.SIGKILL)
        with pytest.raises(
            WorkerError, match="was lost under a task, as 3 were before it: see its log"
        ):
            scheduler.compute([killer], lambda: None)


@pytest.mark.slow
@pytest.mark.parametrize("nanny", [False, True])
def test_a_stopped_worker_is_named_and_its_tasks_run_elsewhere(
    nanny: bool, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SILENT_SECONDS", 8.0)
    with Cluster() as cluster, Scheduler(cluster.address, MEMORY, notes) as scheduler:
        for _ in range(2):
            cluster.add_worker(nanny=nanny)
        wait_until(lambda: len(scheduler.client.scheduler_info()["workers"]) == 2)
        pids = scheduler.client.run(os.getpid)
        address, pid = next(iter(pids.items()))
        assert squares(scheduler, after=lambda: os.kill(pid, signal.SIGSTOP)) == SQUARES
        silent = f"worker {address} has not answered for 8 s: its tasks run elsewhere"
        assert notes.notes[-1] == silent
        if nanny:  # another one takes its place
            wait_until(lambda: len(scheduler.client.scheduler_info()["workers"]) == 2)
        else:
            os.kill(pid, signal.SIGCONT)
            cluster.workers[0 if cluster.workers[0].pid == pid else 1].wait(timeout=30)
        assert squares(scheduler) == SQUARES


@pytest.mark.slow
def test_a_stopped_process_of_a_local_cluster_is_replaced(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SILENT_SECONDS", 8.0)
    with Scheduler("processes:1", MEMORY, notes) as scheduler:
        (pid,) = scheduler.client.run(os.getpid).values()
        assert squares(scheduler, after=lambda: os.kill(pid, signal.SIGSTOP)) == SQUARES
    assert notes.notes[0] == "1 worker"
    assert "has not answered for 8 s" in notes.notes[1]


@pytest.mark.slow
def test_a_worker_that_comes_late_and_is_unfit_ends_the_run(
    cluster: Cluster, scheduler: Scheduler, tmp_path: Path
) -> None:
    cluster.add_worker(ours=False, cwd=tmp_path)  # one that gets a task before it is seen exits
    wait_until(lambda: scheduler._watch._refused)
    with pytest.raises(WorkerError, match=r"^worker tcp\S+ does not have patchdict: install"):
        squares(scheduler)


def started_sweep(cluster: Cluster, out: Path, *more: str) -> "subprocess.Popen[str]":
    """`patchdict sweep` of the digits in small chunks on the cluster."""
    code = (
        "import runpy, storage.patch_spec\n"
        "storage.patch_spec.CHUNK_BYTES = 25 * 3000\n"
        "from pipeline.execution import watch\n"
        "watch.WORKERLESS_SECONDS = 3.0\n"
        "runpy.run_module('pipeline', run_name='__main__')\n"
    )
    options = ["--k", "20,40", "--out", str(out), "--scheduler", cluster.address, *more]
    return subprocess.Popen(
        [sys.executable, "-c", code, "sweep", *options, "--memory", "3GiB"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_connected(process: "subprocess.Popen[str]") -> None:
    """Returns when the process says that it has a cluster."""
    assert process.stderr is not None
    assert any("cluster tcp:" in line for line in process.stderr)


def experiments(out: Path) -> list[Path]:
    return [path.parent for path in out.glob("*/dictionaries.zarr")]


@pytest.mark.slow
def test_a_sweep_whose_scheduler_is_killed_goes_on_when_it_is_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    options = SweepOptions.checked(out=tmp_path / "here", k="20,40", memory=MEMORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.patch_spec.CHUNK_BYTES", 25 * 3000)
        here = sweep(options)["experiment"]  # and what is compiled is
    out, rng = tmp_path / "there", np.random.default_rng(3)
    told = []
    for seconds in (*rng.uniform(0, 6, 4), 300):
        process = started_sweep(cluster, out)
        is_connected(process)
        try:
            process.communicate(timeout=seconds)
            break
        except subprocess.TimeoutExpired:
            cluster.scheduler.kill()
            said = process.communicate(timeout=120)[1]
            assert "Traceback" not in said
            told.append(said.splitlines()[-1])
            assert process.returncode == 2
            cluster.scheduler.wait()
            cluster.start_scheduler()
            for _ in range(2):
                cluster.add_worker()
    assert process.returncode == 0
    assert told
    lost = "no longer answers: start it, and run the same command again, it goes on"
    assert [line for line in told if not line.startswith("error: ") or lost not in line] == []
    (there,) = experiments(out)
    assert numbers_of(there) == numbers_of(here)


@pytest.mark.slow
def test_an_extraction_whose_workers_die_ends_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    process = started_sweep(cluster, tmp_path)
    is_connected(process)
    for worker in cluster.workers:
        worker.kill()
    *_, last = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 2
    assert last == (
        f"error: no worker is at {cluster.address}, and none came within 3 s: start some, and run"
        " the same command again, it goes on"
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_sweep_goes_on_without_a_worker(
    number: signal.Signals, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 25 * 3000)
    monkeypatch.setattr(watch, "SILENT_SECONDS", 8.0)

    class LosesOne(Notes):
        """At the first pass with 40 centroids."""

        def start(self, label: str, total: int, unit: str) -> None:
            if label == "K=40":
                cluster.workers[0].send_signal(number)

    options = {"k": "20,40", "max_iter": 5, "breathing": 1, "memory": MEMORY}
    here = sweep(SweepOptions.checked(out=tmp_path / "here", **options))
    notes = LosesOne()
    there = sweep(
        SweepOptions.checked(out=tmp_path / "there", scheduler=cluster.address, **options), notes
    )
    assert numbers_of(there["experiment"]) == numbers_of(here["experiment"])
    assert len([note for note in notes.notes if note.endswith("its tasks run elsewhere")]) == 1
