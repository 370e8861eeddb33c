"""Damaged patch stores: every reader refuses them by name, and the same extraction mends them."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pipeline.extraction.extract as extraction_module
from analysis.experiment import open_experiment
from pipeline import StreamingKMeans, SweepOptions, sweep
from pipeline.command_line import group
from pipeline.execution import cluster
from pipeline.execution.scheduler import Scheduler
from pipeline.extraction.extract import Extraction, extract
from pipeline.runtime.progress import SilentProgress
from pipeline.status import verify
from storage import (
    InputError,
    IntegrityError,
    PatchSpec,
    PatchStore,
    open_dictionaries,
    open_patches,
)
from storage.integrity import read_checksums, write_seal
from storage.patch_store import store_name
from storage.verification import verify_patches
from tests.damage import DAMAGES, bits_of, files_of, flip_bit, restore
from tests.notes import Notes

REMEDY = r"run the same extract or sweep again"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 9 * 256)


@pytest.fixture
def extraction(strokes_file: Path, tmp_path: Path) -> Extraction:
    return Extraction(str(strokes_file), "train", tmp_path, PatchSpec(3, 3))


@pytest.fixture
def store(extraction: Extraction, tmp_path: Path) -> PatchStore:
    found = extract(extraction, tmp_path).store
    assert found.n_chunks > 4
    return found


def chunk_file(store: PatchStore, index: int) -> Path:
    return store.path / store.chunk_key(index)


def states_of(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written: its inode and time."""
    return {
        name: ((folder / name).stat().st_ino, (folder / name).stat().st_mtime_ns)
        for name in files_of(folder)
    }


READERS: dict[str, Callable[[PatchStore], object]] = {
    "read_chunk": lambda store: store.read_chunk(2),
    "array": lambda store: store.array[store.chunk_rows * 2 + 1],
    "array by zarr's selections": lambda store: store.array.oindex[[0, store.chunk_rows * 2]],
    "dask": lambda store: store.to_dask().compute(scheduler="threads"),
    "dask slice": lambda store: store.to_dask()[store.chunk_rows * 2].compute(),
    "xarray": lambda store: store.to_xarray().load(),
    "fit": lambda store: StreamingKMeans(2, max_iter=1).fit(store),
    "predict": lambda store: StreamingKMeans(2, max_iter=1).fit(np.eye(9)).predict(store),
    "predict zarr": lambda s: StreamingKMeans(2, max_iter=1).fit(np.eye(9)).predict(s.array),
    "score": lambda store: StreamingKMeans(2, max_iter=1).fit(np.eye(9)).score(store.to_dask()),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_names_store_chunk_and_remedy(store: PatchStore, reader: str) -> None:
    read, file = READERS[reader], chunk_file(store, 2)
    read(store)
    whole = file.read_bytes()
    for damage in DAMAGES.values():
        damage(file, np.random.default_rng(0))
        for opened in (store, open_patches(store.path)):  # before the damage, and after
            with pytest.raises(IntegrityError, match=f"^chunk 2 of {store.path}.*: {REMEDY}"):
                read(opened)
        restore(file, whole)
    read(store)


def test_what_is_sent_to_a_worker_checks_there_too(store: PatchStore) -> None:
    sent = pickle.dumps(store.array)  # as dask does
    chunk_file(store, 2).write_bytes(chunk_file(store, 1).read_bytes())  # whole, but another's
    with pytest.raises(IntegrityError, match=f"chunk 2 of {store.path}/patches is not the one"):
        pickle.loads(sent)[:]


@pytest.mark.slow
@pytest.mark.filterwarnings("default::ResourceWarning", "default::DeprecationWarning")
def test_workers_of_a_cluster_refuse_damage(store: PatchStore) -> None:
    lazy = store.to_dask()
    DAMAGES["missing"](chunk_file(store, 2), np.random.default_rng(0))
    with (
        Scheduler("processes:1") as scheduler,
        pytest.raises(IntegrityError, match=f"chunk 2 of {store.path}/patches is missing"),
    ):
        scheduler.client.compute(lazy.sum()).result()


def test_a_worker_with_another_store_of_that_name_refuses(store: PatchStore) -> None:
    assert cluster._open(str(store.path), store.seal).n_rows == store.n_rows
    with pytest.raises(IntegrityError, match="is another store for a worker"):
        cluster._open(str(store.path), "0" * 64)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_exactly_the_damaged_chunks_are_written_again(
    extraction: Extraction, tmp_path: Path, data: st.DataObject
) -> None:
    store = extract(extraction, tmp_path).store
    whole = files_of(store.path)
    index = st.integers(0, store.n_chunks - 1)
    damages = data.draw(st.dictionaries(index, st.sampled_from(sorted(DAMAGES)), min_size=1))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    # older than the clock's step
    for name in whole:
        os.utime(store.path / name, (1, 1))
    for index, damage in damages.items():
        DAMAGES[damage](chunk_file(store, index), rng)
    before, notes = states_of(store.path), Notes()
    found = {finding.chunk for finding in verify_patches(store.path) if finding}
    mended, reused, repaired = extract(extraction, tmp_path, progress=notes)
    assert (found, reused, repaired) == (damages.keys(), True, len(damages))
    assert notes.lines == [f"{store.path}: writing {len(damages)} damaged chunks again"]
    assert files_of(mended.path) == whole
    after = states_of(mended.path)
    written = {name for name in whole if after[name] != before.get(name)}
    assert written == {store.chunk_key(index) for index in damages}
    assert extract(extraction, tmp_path)[1:] == (True, 0)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "file",
    ["zarr.json", "patches/zarr.json", "offsets/zarr.json", "order/c/0", "offsets/c/0"],
)
def test_a_store_with_damaged_metadata_is_built_anew(
    store: PatchStore, extraction: Extraction, tmp_path: Path, file: str, damage: str
) -> None:
    whole, notes = files_of(store.path), Notes()
    DAMAGES[damage](store.path / file, np.random.default_rng(7))
    mended, reused, repaired = extract(extraction, tmp_path, progress=notes)
    assert (reused, repaired) == (False, store.n_chunks)
    assert notes.lines[0].startswith("building anew: ")
    assert files_of(mended.path) == whole
    assert [path.name for path in store.path.parent.glob("*") if path.is_dir()] == [store.path.name]


def test_the_command_mends_the_last_chunk_too(
    store: PatchStore, extraction: Extraction, tmp_path: Path
) -> None:
    # it is not full, which is where zarr might read before it writes
    whole = files_of(store.path)
    for index in (0, store.n_chunks - 1):
        DAMAGES["flipped"](chunk_file(store, index), np.random.default_rng(1))
    done = CliRunner().invoke(
        group,
        f"extract --json --dataset {extraction.dataset} --patch 3 --out {tmp_path}",
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["repaired"], result["reused"]) == (2, True)
    assert files_of(store.path) == whole


def test_another_compressor_is_sealed_again(
    store: PatchStore, extraction: Extraction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as another version of the codec would: other bytes, the same rows
    rows = store.array[:]
    chunk_file(store, 1).unlink()
    metadata = store.path / "patches" / "zarr.json"
    text = metadata.read_text()

    def writes_otherwise(path: Path, index: int, rows: np.ndarray) -> None:
        metadata.write_text(text.replace('"clevel": 1', '"clevel": 9'))
        array = zarr.open_array(path / "patches", mode="r+")
        array[index * array.chunks[0] :][: len(rows)]
        array[index * array.chunks[0] : index * array.chunks[0] + len(rows)] = rows
        metadata.write_text(text)

    monkeypatch.setattr("pipeline.extraction.extract.write_chunk", writes_otherwise)
    mended, _, repaired = extract(extraction, tmp_path)
    assert repaired == 1
    assert mended.seal != store.seal
    np.testing.assert_array_equal(mended.array[:], rows)
    assert extract(extraction, tmp_path)[1:] == (True, 0)
    assert list(verify_patches(mended.path)) == [None] * mended.n_chunks


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_a_killed_run_left_is_checked_before_it_is_taken(
    store: PatchStore, extraction: Extraction, tmp_path: Path, damage: str
) -> None:
    # a power cut may leave files that were renamed but never written
    whole = files_of(store.path)
    staging = tmp_path / "out" / "patches" / f"{store.path.name}.partial"
    shutil.copytree(store.path, staging)
    DAMAGES[damage](staging / store.chunk_key(3), np.random.default_rng(0))
    (staging / "patches" / "c" / "1" / "0.0123abc.partial").write_bytes(b"half")
    kept = states_of(staging)[store.chunk_key(0)]
    found, reused, _ = extract(extraction, tmp_path / "out")
    assert not reused
    assert files_of(found.path) == whole
    assert states_of(found.path)[store.chunk_key(0)] == kept


@pytest.mark.slow
@pytest.mark.parametrize("mending", [False, True])
def test_kill_9_at_any_time_costs_no_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mending: bool
) -> None:
    monkeypatch.undo()  # real chunks
    images = np.random.default_rng(0).integers(0, 256, (12_000, 28, 28), np.uint8)
    np.save(tmp_path / "images.npy", images)
    extraction = Extraction(str(tmp_path / "images.npy"), "train", tmp_path, PatchSpec(5, 5))
    whole = extract(extraction, tmp_path / "whole").store
    out = tmp_path / "out"
    if mending:
        shutil.copytree(tmp_path / "whole", out)
        for index in range(0, whole.n_chunks, 2):
            (out / "patches" / whole.path.name / whole.chunk_key(index)).write_bytes(b"")
    command = [sys.executable, "-m", "pipeline", "extract", "--dataset", extraction.dataset]
    command += ["--out", str(out), "--memory", "2GiB"]
    kills = 0
    for wait in np.random.default_rng(1).uniform(1, 5, 8):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            process.wait(timeout=float(wait))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        for path in out.glob("patches/*.zarr"):
            if not mending:
                assert list(verify_patches(path)) == [None] * whole.n_chunks
    assert kills > 0
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert files_of(out / "patches" / whole.path.name) == files_of(whole.path)


@pytest.mark.parametrize("file", ["zarr.json", "patches/zarr.json", "offsets/c/0"])
def test_a_changed_beginning_is_not_gone_on_with(
    store: PatchStore, extraction: Extraction, tmp_path: Path, file: str
) -> None:
    whole = files_of(store.path)
    staging = tmp_path / "out" / "patches" / f"{store.path.name}.partial"
    shutil.copytree(store.path, staging)
    DAMAGES["flipped"](staging / file, np.random.default_rng(0))
    assert files_of(extract(extraction, tmp_path / "out").store.path) == whole


def test_chunks_of_another_size_are_not_gone_on_with(
    store: PatchStore, extraction: Extraction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a version that cuts other chunks left them
    staging = tmp_path / "out" / "patches" / f"{store.path.name}.partial"
    shutil.copytree(store.path, staging)
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 9 * 512)
    found = extract(extraction, tmp_path / "out").store
    assert found.chunk_rows == 2 * store.chunk_rows
    np.testing.assert_array_equal(found.array[:], store.array[:])


@pytest.mark.parametrize("mending", [False, True])
def test_images_that_change_meanwhile_are_noticed(
    strokes: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mending: bool
) -> None:
    file = tmp_path / "images.npy"
    np.save(file, strokes)  # mapped, not read
    extraction = Extraction(str(file), "train", tmp_path, PatchSpec(3, 3))
    if mending:
        damaged = chunk_file(extract(extraction, tmp_path).store, 4)
        DAMAGES["missing"](damaged, np.random.default_rng(0))
    real = extraction_module.write_chunk

    def changes_the_last_pixel(path: Path, index: int, rows: np.ndarray) -> None:
        flip_bit(file, bits_of(file) - 1)
        monkeypatch.setattr(extraction_module, "write_chunk", real)
        real(path, index, rows)

    monkeypatch.setattr(extraction_module, "write_chunk", changes_the_last_pixel)
    with pytest.raises(IntegrityError, match=r"images.npy changed while patches were cut"):
        extract(extraction, tmp_path)
    assert list(tmp_path.rglob("*.partial")) == []
    flip_bit(file, bits_of(file) - 1)
    found = extract(extraction, tmp_path)
    assert found.reused == mending
    assert list(verify_patches(found.store.path)) == [None] * found.store.n_chunks


def change(path: Path, **attributes: object) -> None:
    """Make a store say something else of itself, and seal it."""
    zarr.open_group(path, mode="r+").attrs.update(attributes)
    write_seal(path, read_checksums(path))


def test_another_store_under_the_name_is_refused_and_left_alone(
    store: PatchStore, extraction: Extraction, tmp_path: Path
) -> None:
    first = files_of(store.path)
    for message, changed in (
        ("of another source or spec", {"source": store.source | {"fingerprint": "0" * 64}}),
        ("of another source or spec", {"spec": PatchSpec(3, 3, seed=4).to_dict()}),
        ("schema version 1 where 2 is expected", {"schema": 1}),
        ("has the name of one: move it away", {"kind": "photographs"}),
    ):
        change(store.path, **changed)
        before = files_of(store.path)
        with pytest.raises((IntegrityError, ValueError), match=message):
            extract(extraction, tmp_path)
        assert files_of(store.path) == before
        for name, content in first.items():
            (store.path / name).write_bytes(content)
    document = json.loads(first["zarr.json"])
    for name in ("seal", "checksums"):
        del document["attributes"][name]
    document["attributes"]["complete"] = False
    (store.path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match=f"{store.path} is unfinished"):
        extract(extraction, tmp_path)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return sweep(options(tmp_path_factory.mktemp("runs")))


def options(out: Path) -> SweepOptions:
    return SweepOptions(out=out, k=(2, 3), max_iter=2, mode="full", device="cpu")


@pytest.fixture
def runs(swept: dict[str, Any], tmp_path: Path) -> Path:
    """A sweep of the digits, copied."""
    return Path(shutil.copytree(Path(swept["experiment"]).parent, tmp_path / "runs"))


def test_a_sweep_mends_its_patches(runs: Path) -> None:
    whole = files_of(runs / "patches")
    for path in (runs / "patches").glob("*.zarr"):
        DAMAGES["flipped"](path / "patches" / "c" / "0" / "0", np.random.default_rng(0))
    assert len(verify(runs, SilentProgress())["bad"]) == 2
    result = sweep(options(runs))
    assert (result["repaired"], result["reused"]) == (2, True)
    assert all(entry["reused"] for entry in result["dictionaries"])
    assert files_of(runs / "patches") == whole
    assert sweep(options(runs))["repaired"] == 0


def test_a_sweep_refuses_damaged_dictionaries_and_its_remedy_works(runs: Path) -> None:
    (path,) = runs.glob("*/dictionaries.zarr")
    whole = open_dictionaries(path)["k00003"].load()
    DAMAGES["flipped"](
        path / "k00003" / "centroids" / "c" / "0" / "0" / "0", np.random.default_rng(0)
    )
    message = f"chunk 0 of {path}/k00003/centroids fails its checksum: delete its folder k00003"
    with pytest.raises(IntegrityError, match=message):
        sweep(options(runs))
    with pytest.raises(IntegrityError, match=message):
        open_dictionaries(path)["k00003"].load()
    shutil.rmtree(path / "k00003")
    assert [e["reused"] for e in sweep(options(runs))["dictionaries"]] == [True, False]
    np.testing.assert_array_equal(
        open_dictionaries(path)["k00003"]["centroids"], whole["centroids"]
    )


def test_a_sweep_refuses_dictionaries_of_another_store(runs: Path) -> None:
    (path,) = runs.glob("*/dictionaries.zarr")
    zarr.open_group(path, mode="r+").attrs["train_store"] = "digits-train-of-old"
    write_seal(path, {})
    with pytest.raises(IntegrityError, match=r"fitted on another store .*digits-train-of-old"):
        sweep(options(runs))


def test_verify_takes_folders_and_dictionaries(runs: Path) -> None:
    (path,) = runs.glob("*/dictionaries.zarr")
    for folder, chunks in ((runs, 20), (path, 18), (path.parent, 18)):
        result = verify(folder, SilentProgress())
        assert result == {"ok": True, "chunks": chunks, "bad": []}
    (path / "k00002" / "count" / "c" / "0").unlink()
    train = next((runs / "patches").glob("*train*"))
    (train / "zarr.json").write_text("{")
    (runs / "patches" / "stray.zarr").mkdir()
    done = CliRunner().invoke(group, ["verify", str(runs), "--json"])
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert (result["ok"], [bad["chunk"] for bad in result["bad"]]) == (False, [-1, -1, -1])
    assert f"{path}/k00002/count is missing" in result["bad"][0]["reason"]
    assert f"{train} has damaged metadata" in result["bad"][1]["reason"]
    assert f"{runs}/patches/stray.zarr is not a patch store" in result["bad"][2]["reason"]
    for nothing in (runs / "absent", runs / "patches" / "stray.zarr", runs.parent / "empty"):
        (runs.parent / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError):
            verify(nothing, SilentProgress())


def test_a_report_refuses_patches_that_are_not_its_own(runs: Path) -> None:
    (path,) = runs.glob("*/dictionaries.zarr")
    experiment = open_experiment(path.parent)
    train = experiment.store("train")
    test = experiment.store("test")
    assert store_name(test.source, test.spec) == test.name
    shutil.rmtree(train.path)
    shutil.copytree(test.path, train.path)
    with pytest.raises(IntegrityError, match=f"holds the patches of {test.name}, not those"):
        experiment.store("train")


def test_verify_lists_all_that_is_damaged(runs: Path) -> None:
    (tree,) = runs.glob("*/dictionaries.zarr")
    folders = sorted(tree.glob("k*"))
    assert len(folders) > 1
    for folder in folders[1:]:
        flip_bit(folder / "zarr.json", 99)
    (train,) = runs.glob("patches/*-train-*.zarr")
    flip_bit(train / "zarr.json", 99)
    flip_bit(train / "patches" / "c" / "0" / "0", 99)
    found = verify(runs, SilentProgress())
    assert not found["ok"]
    assert len(found["bad"]) == len(folders) - 1 + 2
    assert [bad["chunk"] for bad in found["bad"]].count(0) == 1


def test_what_killed_runs_left_beside_a_store_is_swept_away(
    extraction: Extraction, store: PatchStore, tmp_path: Path
) -> None:
    retired = store.path.with_name(f".{store.path.name}.damaged")
    half = store.path.with_name(f"{store.path.name}.partial")
    for left in (retired, half):
        shutil.copytree(store.path, left)
    assert extract(extraction, tmp_path).reused
    assert not retired.exists()
    assert not half.exists()
    inside = store.path / "zarr.json.0123.partial", store.path / "patches/c/1/0.0123.partial"
    for left in inside:
        left.write_bytes(b"half")
    flip_bit(store.path / "patches" / "c" / "1" / "0", 5)
    assert extract(extraction, tmp_path).repaired == 1
    assert verify(store.path, SilentProgress())["ok"]


@pytest.mark.parametrize("what", ["an empty folder", "a file"])
def test_something_else_of_the_name_is_refused(
    what: str, extraction: Extraction, store: PatchStore, tmp_path: Path
) -> None:
    shutil.rmtree(store.path)
    if what == "a file":
        store.path.touch()
    else:
        store.path.mkdir()
    with pytest.raises(IntegrityError, match="has the name of one: move it away"):
        extract(extraction, tmp_path)
