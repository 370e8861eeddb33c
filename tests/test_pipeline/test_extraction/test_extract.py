import threading
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from filelock import FileLock

from pipeline import extract
from pipeline.execution.scheduler import Scheduler
from pipeline.extraction import tasks
from pipeline.runtime.progress import SilentProgress
from storage import ImageSource, InputError, MemoryBudgetError, PatchSpec, PatchStore, open_patches
from storage.images.source import open_images
from tests.damage import files_of
from tests.interrupted import AtThirdChunk
from tests.oracles import cut_by_loops
from tests.test_pipeline.test_extraction.conftest import Cut

SPEC = PatchSpec(3, 3)


@pytest.fixture(autouse=True)
def small_slices(small_chunks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "SLICE_BYTES", 7 * 4000)


def all_rows(store: PatchStore) -> np.ndarray:
    return np.concatenate([store.read_chunk(i) for i in range(store.n_chunks)])


@pytest.mark.parametrize("spec", [SPEC, PatchSpec(2, 5, 2), PatchSpec(3, 3, threshold=0.3)])
def test_store_holds_the_patches_in_its_order(
    strokes: np.ndarray, strokes_file: Path, tmp_path: Path, spec: PatchSpec
) -> None:
    store, reused, _ = extract(str(strokes_file), patch=spec, out=tmp_path)
    grid = spec.rows, spec.cols, spec.stride, 255 * spec.dim() * spec.threshold
    assert not reused
    assert store.n_chunks > 1 or spec.threshold
    np.testing.assert_array_equal(all_rows(store), cut_by_loops(strokes[store.order], *grid))
    assert sorted(store.order) == list(range(len(strokes))) != list(store.order)
    counts = [len(cut_by_loops(strokes[image][None], *grid)) for image in store.order]
    assert np.diff(store.offsets, prepend=0).tolist() == [0, *counts]


def test_order_belongs_to_the_spec(strokes_file: Path, tmp_path: Path) -> None:
    orders = [
        extract(str(strokes_file), patch=spec, out=tmp_path)[0].order.tolist()
        for spec in (SPEC, PatchSpec(3, 3, seed=1), PatchSpec(2, 2))
    ]
    assert orders[0] == orders[2] != orders[1]


def test_second_extraction_reads_nothing_anew(
    cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = cut(out=tmp_path)
    monkeypatch.setattr(tasks, "count_patches", None)  # would fail if called
    second, reused, _ = cut(out=tmp_path)
    assert reused
    assert second.path == first.path


@pytest.mark.filterwarnings("default::ResourceWarning", "default::DeprecationWarning")
def test_processes_write_the_same_bytes(cut: Cut, tmp_path: Path) -> None:
    here, *_ = cut(out=tmp_path / "threads")
    with Scheduler("processes:2", 2 << 30) as scheduler:
        there, reused, _ = cut(out=tmp_path / "processes", scheduler=scheduler, memory=2 << 30)
    assert not reused
    np.testing.assert_array_equal(all_rows(there), all_rows(here))


def test_a_broken_run_goes_on_with_the_missing_chunks(
    cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken, *_ = cut(out=tmp_path / "unbroken")
    run = AtThirdChunk(monkeypatch, tasks, "write_chunk")
    with pytest.raises(KeyboardInterrupt):
        cut(out=tmp_path / "broken")
    assert list((tmp_path / "broken").rglob("*.zarr")) == []
    run.goes_on = True
    store, reused, _ = cut(out=tmp_path / "broken")
    assert not reused
    assert sorted(run.written) == list(range(store.n_chunks))  # none was written twice
    assert files_of(store.path) == files_of(unbroken.path)


def test_a_kill_just_before_the_last_step_costs_nothing(
    cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, *_ = cut(out=tmp_path)
    store.path.rename(store.path.with_name(store.path.name + ".partial"))  # marked complete
    monkeypatch.setattr(tasks, "write_chunk", None)  # would fail if called
    assert cut(out=tmp_path)[0].path == store.path


def test_a_changed_file_is_another_source(strokes: np.ndarray, tmp_path: Path) -> None:
    cut = partial(extract, str(tmp_path / "images.npy"), patch=SPEC)
    np.save(tmp_path / "images.npy", strokes)
    first, *_ = cut(out=tmp_path)
    np.save(tmp_path / "images.npy", strokes[::-1])
    second, reused, _ = cut(out=tmp_path)
    assert not reused
    assert second.path != first.path
    level_rows = cut_by_loops(strokes[::-1][second.order], 3, 3, 1, 0)
    np.testing.assert_array_equal(all_rows(second), level_rows)


def test_a_chunk_of_many_sparse_images_stays_within_its_projection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # real sizes
    images = np.zeros((3000, 64, 64), np.uint8)
    images[:, 0, 0] = 9
    np.save(tmp_path / "sparse.npy", images)  # one patch of an image, all in one chunk
    cut = partial(extract, str(tmp_path / "sparse.npy"), patch=PatchSpec(5, 5, 64))
    source = open_images(str(tmp_path / "sparse.npy"))
    allowed = tasks.TiledImages.of(source, PatchSpec(5, 5, 64)).task_bytes
    assert allowed < images.nbytes * 3
    tracemalloc.start()
    store, *_ = cut(out=tmp_path, scheduler=OneThread())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert store.n_rows == 3000
    assert peak < allowed


class OneThread(Scheduler):
    def plan(self, task_bytes: int, shared_bytes: int = 0, sent_bytes: int = 0) -> None:
        super().plan(task_bytes, shared_bytes, sent_bytes)
        self._threads = 1


def test_many_cores_share_the_cap(
    cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dask.system.CPU_COUNT", 500)
    assert cut(out=tmp_path / "large", memory=1 << 30)[0].n_rows > 0
    # less than the default: the threads are planned for the cap that was given
    small = psutil.Process().memory_info().rss + (300 << 20)
    assert cut(out=tmp_path / "small", memory=small)[0].n_rows > 0


def test_workers_count_against_the_cap(cut: Cut, tmp_path: Path) -> None:
    with (
        Scheduler("processes:9", 1 << 30) as scheduler,
        pytest.raises(MemoryBudgetError, match=r"more than the cap of 1\.0 GiB"),
    ):
        cut(out=tmp_path / "out", scheduler=scheduler, memory=1 << 30)
    assert not (tmp_path / "out").exists()


def test_a_builder_waits_for_another(cut: Cut, tmp_path: Path) -> None:
    built, *_ = cut(out=tmp_path / "built")
    lock = tmp_path / "out" / "patches" / f".{built.path.name}.lock"
    lock.parent.mkdir(parents=True)
    waits, results = threading.Event(), []

    class Notes(SilentProgress):
        def note(self, text: str) -> None:
            assert "another process is building" in text
            waits.set()

    with FileLock(lock):
        waiting = threading.Thread(
            target=lambda: results.append(cut(out=tmp_path / "out", progress=Notes()))
        )
        waiting.start()
        assert waits.wait(timeout=30)
        built.path.rename(tmp_path / "out" / "patches" / built.path.name)
    waiting.join(timeout=30)
    assert results[0][1]  # it took what the other had built


def test_nothing_is_written_when_nothing_is_kept(strokes_file: Path, tmp_path: Path) -> None:
    cut = partial(extract, str(strokes_file), patch=PatchSpec(8, 8, threshold=0.99))
    with pytest.raises(InputError, match=r"threshold 0.99 keeps none of the 900 patches"):
        cut(out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_blank_images_are_called_so(tmp_path: Path) -> None:
    np.save(tmp_path / "blank.npy", np.zeros((3, 12, 10), np.uint8))
    cut = partial(extract, str(tmp_path / "blank.npy"), patch=PatchSpec(5, 5))
    with pytest.raises(InputError, match="use other images, for all patches are blank"):
        cut(out=tmp_path / "out")
    with pytest.raises(InputError, match=r"keep=all keeps none of the 144 patches.*another nodata"):
        cut(out=tmp_path / "out", patch=5, keep="all", nodata=0)
    assert not (tmp_path / "out").exists()
    store = cut(out=tmp_path / "out", patch=5, keep="all").store
    np.testing.assert_array_equal(store.array[:], np.zeros((144, 25), np.uint8))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_patch_that_fits_into_no_image_is_refused(dtype: str, tmp_path: Path) -> None:
    images = [np.ones((3, 20), dtype), np.ones((20, 3), dtype)]
    with pytest.raises(InputError, match="5x5 is larger than each of the 2 images, down or across"):
        extract(images, patch=5, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("split", "rows"),
    [pytest.param("train", 20_074_704, marks=pytest.mark.slow), ("test", 3_351_306)],
)
def test_mnist_has_the_known_number_of_patches(
    mnist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, rows: int
) -> None:
    monkeypatch.undo()  # real chunk sizes
    store, *_ = extract("mnist", split=split, data=mnist_dir, patch=5, out=tmp_path)
    assert (store.n_rows, store.dim, store.dtype) == (rows, 25, np.uint8)
    assert store.stored_bytes < 30e6
    assert open_patches(store.path).n_chunks == -(-rows // 262_144)
    # the first and the last chunk against the study's loops
    images = open_images("mnist", split, mnist_dir).images[store.order]
    first = cut_by_loops(images[:20], 5, 5, 1, 0)
    np.testing.assert_array_equal(store.read_chunk(0)[: len(first)], first)
    last = cut_by_loops(images[-20:], 5, 5, 1, 0)
    np.testing.assert_array_equal(store.read_chunk(store.n_chunks - 1)[-len(last) :], last)


def test_images_in_memory_are_taken_as_those_of_a_file(
    strokes: np.ndarray, strokes_file: Path, tmp_path: Path
) -> None:
    from_file = extract(strokes_file, patch=(3, 4), stride=2, out=tmp_path).store
    from_array = extract(strokes, patch="3x4", stride=2, out=tmp_path).store
    named = extract(ImageSource("mine", "test", strokes), patch=3, out=tmp_path).store
    assert from_array.name == from_file.name.replace("strokes-idx3-ubyte", "images")
    np.testing.assert_array_equal(from_array.array[:], from_file.array[:])
    assert named.name.startswith("mine-test-3x3-s1-t0-")
    assert extract(strokes, patch="3x4", stride=2, out=tmp_path).reused


@pytest.mark.filterwarnings("default::ResourceWarning", "default::DeprecationWarning")
def test_images_in_memory_are_sent_to_workers(strokes: np.ndarray, tmp_path: Path) -> None:
    here = extract(strokes, patch=3, out=tmp_path / "here").store
    there = extract(
        strokes, patch=3, out=tmp_path / "there", scheduler="processes:1", memory="2GiB"
    ).store
    assert files_of(there.path) == files_of(here.path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 0}, "patch"),
        ({"patch": "5x"}, "rows x columns"),
        ({"stride": 0}, "stride"),
        ({"split": "tests"}, "split"),
        ({"memory": "80%"}, "memory"),
        ({"scheduler": "nowhere"}, "no scheduler"),
    ],
)
def test_options_that_cannot_be_are_refused(
    strokes: np.ndarray, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        extract(strokes, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((2, 4, 4), np.int64), [1]])
def test_what_is_no_array_of_images_is_refused(array: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the array images"):
        extract(array, out=tmp_path)
