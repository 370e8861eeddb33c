"""Who cannot do the work is refused before the first task, by name and with the reason."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dask.delayed import delayed

from pipeline import StreamingKMeans
from pipeline.execution import probes
from pipeline.execution.preflight import Requirements, _other_version
from pipeline.execution.scheduler import Scheduler
from pipeline.extraction.extract import extract
from pipeline.runtime.progress import SilentProgress
from storage import PatchSpec, PatchStore
from storage.errors import WorkerError
from tests.test_pipeline.test_execution.clusters import Cluster, slow_square, wait_until

HERE = {"python": "3.12.1.final.0", "numpy": "2.1.0", "torch": "2.9.0+cu128", "numba": None}


@pytest.fixture
def store(strokes: np.ndarray, tmp_path: Path) -> PatchStore:
    np.save(tmp_path / "images.npy", strokes)
    return extract(str(tmp_path / "images.npy"), patch=PatchSpec(3, 3), out=tmp_path / "out")[0]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({}, ""),
        ({"python": "3.12.7.final.0", "torch": "2.9.0+cpu"}, ""),
        ({"python": "3.11.1.final.0"}, "has Python 3.11, where this process has 3.12"),
        ({"numpy": "2.1.1"}, "has numpy 2.1.1, where this process has 2.1.0"),
        ({"torch": None}, "does not have torch: install torch==2.9.0"),
    ],
)
def test_versions_are_those_of_this_process(other: dict[str, Any], told: str) -> None:
    found = _other_version(HERE | other, HERE, ("numpy", "torch", "numba"))
    assert found.startswith(told)
    assert bool(found) == bool(told)


def faults(worker: Any, **asked: Any) -> list[str]:
    module = probes.__name__
    sources = probes.sources_sum(str(sys.modules[module].__file__))
    facts = {"module": module, "sources": sources, **asdict(Requirements())}
    return probes._faults(facts | asked, worker)


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    """What the probe looks at of a worker."""
    memory = SimpleNamespace(memory_limit=1 << 30, memory_pause_fraction=0.8)
    state = SimpleNamespace(nthreads=4)
    return SimpleNamespace(memory_manager=memory, state=state, local_directory=str(tmp_path))


def test_a_worker_that_has_all_is_fit(worker: Any, store: PatchStore, tmp_path: Path) -> None:
    paths = (str(tmp_path),)
    most = (1 << 30) * 8 // 10
    asked = {"memory": most - 400, "memory_of_thread": 100, "scratch": 1 << 20}
    assert not faults(worker, store=str(store.path), seal=store.seal, paths=paths, **asked)
    worker.memory_manager.memory_limit = None
    assert not faults(worker, memory=1 << 50)


def test_what_a_worker_lacks_is_told_with_what_to_do(
    worker: Any, store: PatchStore, tmp_path: Path
) -> None:
    def told(**asked: Any) -> str:
        (found,) = faults(worker, **asked)
        return found

    assert "its tasks need 820 MiB of the 80% at" in told(
        memory=420 << 20, memory_of_thread=100 << 20
    )
    assert "--memory-limit 1026MiB or more" in told(memory=820 << 20)
    assert told(paths=(str(tmp_path / "none"),)).startswith(f"does not see {tmp_path}/none: give")
    assert told(store=str(store.path), seal="another").startswith("has another store at ")
    assert told(store=str(tmp_path / "none"), seal="").startswith(f"cannot open {tmp_path}/none (")
    assert "start it with another --local-directory" in told(scratch=1 << 60)
    assert told(device="nvidia").startswith("cannot compute: no device 'nvidia'")
    assert told(sources=0).startswith("has another version of patchdict")
    assert told(module="pipelines.none").startswith("does not have patchdict")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as started:
        yield started


def test_unfit_workers_are_refused_by_name_before_their_first_task(
    cluster: Cluster, store: PatchStore, tmp_path: Path
) -> None:
    cluster.add_worker("--name", "good")
    cluster.add_worker("--name", "little", "--memory-limit", "230MiB")
    cluster.add_worker("--name", "bare", ours=False, cwd=tmp_path)
    with Scheduler(cluster.address) as scheduler:
        wait_until(lambda: len(scheduler._client.scheduler_info()["workers"]) == 3)
        names = {
            found["name"]: address
            for address, found in scheduler._client.scheduler_info()["workers"].items()
        }
        with pytest.raises(WorkerError) as refused:
            scheduler.preflight()
        assert str(refused.value) == (
            f"worker {names['bare']} does not have patchdict: install the same version there"
        )
        scheduler._client.retire_workers([names["bare"]])
        wait_until(lambda: len(scheduler._client.scheduler_info()["workers"]) == 2)
    km = StreamingKMeans(4, scheduler=cluster.address, breathing=0, max_iter=2)
    with pytest.raises(
        WorkerError, match=r"may take 230 MiB of memory, and .* --memory-limit "
    ) as told:
        km.fit(store)
    assert str(told.value).startswith(f"worker {names['little']} ")


@pytest.mark.slow
def test_a_late_worker_that_exits_with_its_first_task_is_named(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.add_worker()
    told, progress = list[str](), SilentProgress()
    progress.note = told.append  # type: ignore[method-assign]
    with Scheduler(cluster.address, progress=progress) as scheduler:
        _ = scheduler.client
        scheduler._watch._unfit = lambda _: []  # it cannot be asked any more
        cluster.add_worker(ours=False, cwd=tmp_path)
        until = time.monotonic() + 60
        while not any("; it had just come: " in note for note in told):
            assert time.monotonic() < until
            scheduler.compute([delayed(slow_square, pure=False)(n) for n in range(9)], lambda: None)
