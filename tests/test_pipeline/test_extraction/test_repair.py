"""Damaged patch stores: every reader refuses them by name, and the same extraction mends them."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.extraction import tasks
from pipeline.extraction.extract import extract
from pipeline.runtime.progress import SilentProgress
from pipeline.upkeep.verify import verify
from storage import IntegrityError, PatchSpec, PatchStore
from storage.integrity import read_checksums, write_seal
from storage.layout import PIXELS, SUMS
from storage.patch_spec import ChunkPlan
from storage.verification import verify_patches
from tests.damage import DAMAGES, bits_of, chunk_file, files_of, flip_bit
from tests.notes import Notes
from tests.test_pipeline.test_extraction.conftest import Cut

pytestmark = pytest.mark.usefixtures("small_chunks")
METADATA = ("zarr.json", "patches/zarr.json", "offsets/zarr.json", "order/c/0", "offsets/c/0")


def states_of(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written: its inode and time."""
    return {
        name: ((folder / name).stat().st_ino, (folder / name).stat().st_mtime_ns)
        for name in files_of(folder)
    }


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_exactly_the_damaged_chunks_are_written_again(
    cut: Cut, tmp_path: Path, data: st.DataObject
) -> None:
    store = cut(out=tmp_path).store
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
    mended, reused, repaired = cut(out=tmp_path, progress=notes)
    assert (found, reused, repaired) == (damages.keys(), True, len(damages))
    assert notes.lines == [f"{store.path}: writing {len(damages)} damaged chunks again"]
    assert files_of(mended.path) == whole
    after = states_of(mended.path)
    written = {name for name in whole if after[name] != before.get(name)}
    assert written == {store.chunk_key(index) for index in damages}
    assert cut(out=tmp_path)[1:] == (True, 0)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", METADATA)
def test_a_store_with_damaged_metadata_is_built_anew(
    store: PatchStore, cut: Cut, tmp_path: Path, file: str, damage: str
) -> None:
    whole, notes = files_of(store.path), Notes()
    DAMAGES[damage](store.path / file, np.random.default_rng(7))
    mended, reused, repaired = cut(out=tmp_path, progress=notes)
    assert (reused, repaired) == (False, store.n_chunks)
    assert notes.lines[0].startswith("building anew: ")
    assert files_of(mended.path) == whole
    assert [path.name for path in store.path.parent.glob("*") if path.is_dir()] == [store.path.name]


def test_another_compressor_is_sealed_again(
    store: PatchStore, cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    monkeypatch.setattr("pipeline.extraction.tasks.write_chunk", writes_otherwise)
    mended, _, repaired = cut(out=tmp_path)
    assert repaired == 1
    assert mended.seal != store.seal
    np.testing.assert_array_equal(mended.array[:], rows)
    assert cut(out=tmp_path)[1:] == (True, 0)
    assert list(verify_patches(mended.path)) == [None] * mended.n_chunks


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", [*METADATA, "order/zarr.json", "patches/c/3/0"])
def test_what_a_killed_run_left_is_checked_before_it_is_taken(
    store: PatchStore, cut: Cut, tmp_path: Path, file: str, damage: str
) -> None:
    # a power cut may leave files that were renamed but never written
    whole = files_of(store.path)
    staging = tmp_path / "out" / "patches" / f"{store.path.name}.partial"
    shutil.copytree(store.path, staging)
    DAMAGES[damage](staging / file, np.random.default_rng(0))
    (staging / "patches" / "c" / "1" / "0.0123abc.partial").write_bytes(b"half")
    kept = states_of(staging)[store.chunk_key(0)]
    found, reused, _ = cut(out=tmp_path / "out")
    assert not reused
    assert files_of(found.path) == whole
    if file == store.chunk_key(3):
        assert states_of(found.path)[store.chunk_key(0)] == kept


@pytest.mark.slow
@pytest.mark.parametrize("mending", [False, True])
def test_kill_9_at_any_time_costs_no_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mending: bool
) -> None:
    monkeypatch.undo()  # real chunks
    images = np.random.default_rng(0).integers(0, 256, (12_000, 28, 28), np.uint8)
    np.save(tmp_path / "images.npy", images)
    cut = partial(extract, tmp_path / "images.npy")
    whole = cut(out=tmp_path / "whole").store
    out = tmp_path / "out"
    if mending:
        shutil.copytree(tmp_path / "whole", out)
        for index in range(0, whole.n_chunks, 2):
            (out / "patches" / whole.path.name / whole.chunk_key(index)).write_bytes(b"")
    command = [sys.executable, "-m", "pipeline", "extract", "--out", str(out), "--memory", "2GiB"]
    command += ["--dataset", str(tmp_path / "images.npy")]
    kills, started = 0, time.monotonic()
    subprocess.run([*command[:5], str(tmp_path / "timed"), *command[6:]], check=True)
    seconds = time.monotonic() - started
    earliest = 0.15 if mending else 0.4  # half of the chunks are mended alone
    for wait in np.random.default_rng(1).uniform(earliest, 1.0, 8) * seconds:
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


def test_chunks_of_another_size_are_not_gone_on_with(
    store: PatchStore, cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a version that cuts other chunks left them
    staging = tmp_path / "out" / "patches" / f"{store.path.name}.partial"
    shutil.copytree(store.path, staging)
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 9 * 512)
    found = cut(out=tmp_path / "out").store
    assert found.chunk_rows == 2 * store.chunk_rows
    np.testing.assert_array_equal(found.array[:], store.array[:])


@pytest.mark.parametrize("mending", [False, True])
def test_images_that_change_meanwhile_are_noticed(
    strokes: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mending: bool
) -> None:
    file = tmp_path / "images.npy"
    np.save(file, strokes)  # mapped, not read
    cut = partial(extract, str(file), patch=3)
    if mending:
        damaged = chunk_file(cut(out=tmp_path).store, 4)
        DAMAGES["missing"](damaged, np.random.default_rng(0))
    real, flipped = tasks.write_block, threading.Lock()

    def flips() -> None:
        for image in range(len(strokes)):
            flip_bit(file, bits_of(file) - 1 - 8 * image * strokes[0].size)

    def changes_a_pixel_of_each(images: tasks.TiledImages, path: Path, plan: ChunkPlan) -> None:
        with flipped:  # chunks are written by several threads
            if not changed:
                flips()
                changed.append(plan.index)
        real(images, path, plan)

    changed = list[int]()
    monkeypatch.setattr(tasks, "write_block", changes_a_pixel_of_each)
    with pytest.raises(IntegrityError, match=r"images.npy changed while patches were cut"):
        cut(out=tmp_path)
    assert list(tmp_path.rglob("*.partial")) == []
    flips()
    found = cut(out=tmp_path)
    assert found.reused == mending
    assert list(verify_patches(found.store.path)) == [None] * found.store.n_chunks


def change(path: Path, **attributes: object) -> None:
    """Make a store say something else of itself, and seal it."""
    zarr.open_group(path, mode="r+").attrs.update(attributes)
    write_seal(path, read_checksums(path))


def test_another_store_under_the_name_is_refused_and_left_alone(
    store: PatchStore, cut: Cut, tmp_path: Path
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
            cut(out=tmp_path)
        assert files_of(store.path) == before
        for name, content in first.items():
            (store.path / name).write_bytes(content)
    document = json.loads(first["zarr.json"])
    for name in ("seal", "checksums"):
        del document["attributes"][name]
    document["attributes"]["complete"] = False
    (store.path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match=f"{store.path} is unfinished"):
        cut(out=tmp_path)


def test_what_killed_runs_left_beside_a_store_is_swept_away(
    cut: Cut, store: PatchStore, tmp_path: Path
) -> None:
    retired = store.path.with_name(f".{store.path.name}.damaged")
    half = store.path.with_name(f"{store.path.name}.partial")
    for left in (retired, half):
        shutil.copytree(store.path, left)
    mending = store.path / PIXELS, store.path / SUMS
    for left in mending:
        left.write_bytes(b"pixels")
    assert cut(out=tmp_path).reused
    assert not [left for left in (retired, half, *mending) if left.exists()]
    inside = store.path / "zarr.json.0123.partial", store.path / "patches/c/1/0.0123.partial"
    for left in inside:
        left.write_bytes(b"half")
    flip_bit(store.path / "patches" / "c" / "1" / "0", 5)
    assert cut(out=tmp_path).repaired == 1
    assert verify(store.path, SilentProgress())["ok"]


@pytest.mark.parametrize("what", ["an empty folder", "a file"])
def test_something_else_of_the_name_is_refused(
    what: str, cut: Cut, store: PatchStore, tmp_path: Path
) -> None:
    shutil.rmtree(store.path)
    if what == "a file":
        store.path.touch()
    else:
        store.path.mkdir()
    with pytest.raises(IntegrityError, match="has the name of one: move it away"):
        cut(out=tmp_path)
