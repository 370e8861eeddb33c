"""Scratch files go to a disk; where they take memory, they are in the projection."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline import StreamingKMeans
from pipeline.config import FitOptions
from pipeline.engines import EngineSpec
from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.execution.scheduler import Scheduler
from pipeline.kmeans.plan import FitPlan
from pipeline.rows.source import ArraySource
from storage import PatchStore
from storage.mapped_files import lies_in_memory, scratch_folder
from tests.linked_stores import linked_store, striped_images
from tests.notes import Notes


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a store, of temporary files, and to work in; "memory" in a name is what it lies in."""
    for name in ("runs", "temporary", "memory", "working"):
        (tmp_path / name).mkdir()
    disks = [SimpleNamespace(mountpoint="/", fstype="ext4")]
    disks += [SimpleNamespace(mountpoint=str(tmp_path / "memory"), fstype="tmpfs")]
    monkeypatch.setattr("psutil.disk_partitions", lambda **_: disks)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "working")
    return tmp_path


def test_scratch_files_lie_beside_the_store_or_on_a_disk(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scratch_folder(folders / "runs" / "x.zarr") == folders / "runs"
    assert scratch_folder(folders / "absent" / "x.zarr") == folders / "temporary"
    assert scratch_folder(folders / "memory" / "x.zarr") == folders / "temporary"
    assert scratch_folder() == folders / "temporary"
    monkeypatch.setattr("tempfile.tempdir", str(folders / "memory"))
    assert scratch_folder() == folders / "working"
    monkeypatch.chdir(folders / "memory")
    assert scratch_folder() == folders / "memory"
    assert lies_in_memory(folders / "memory" / "not" / "yet")
    assert not lies_in_memory(folders / "runs")


def test_an_estimator_keeps_its_scratch_out_of_memory(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []
    cache_for = PrunedEngine.cache_for

    def noting(engine: PrunedEngine, source: Any, folder: Any = None, *rest: Any) -> Any:
        used.append(folder)
        return cache_for(engine, source, folder, *rest)

    monkeypatch.setattr(PrunedEngine, "cache_for", noting)
    rows = np.random.default_rng(0).integers(0, 256, (2000, 4)).astype(np.uint8)
    images = striped_images(folders / "runs" / "stripes.npy", 4)
    store: PatchStore = linked_store(folders / "runs", rows, len(rows), images)
    monkeypatch.setattr("tempfile.tempdir", str(folders / "memory"))
    for data in (rows, store):
        StreamingKMeans(3, max_iter=1, random_state=0).fit(data)
    assert used == [folders / "working", store.path.parent]


@pytest.mark.skipif(os.name != "posix", reason="names of mounts")
def test_scratch_in_memory_is_projected(folders: Path) -> None:
    source = ArraySource(np.broadcast_to(np.zeros((1, 25), np.uint8), (10**8, 25)))
    engine = EngineSpec.for_samples(25, source.dtype)
    disk, memory = (
        FitPlan.make(source, [100], FitOptions(), engine, Scheduler(), scratch=folders / name)
        for name in ("runs", "memory")
    )
    assert memory.allocated() - disk.allocated() == 10**8 * 6  # a label and two bounds of each row


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_fit_goes_on_where_the_disk_of_its_scratch_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (3000, 4)).astype(np.uint8)
    whole = StreamingKMeans(5, random_state=0).fit(rows)
    full = lambda **_: open("/dev/full", "rb+", buffering=0)  # noqa: E731, SIM115
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    notes = Notes()
    without = StreamingKMeans(5, random_state=0, progress=notes).fit(rows)
    np.testing.assert_array_equal(without.cluster_centers_, whole.cluster_centers_)
    assert without.history_["mse"] == whole.history_["mse"]
    assert len([line for line in notes.lines if "scratch file is full" in line]) == 1
