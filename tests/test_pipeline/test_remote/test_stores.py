"""OUT behind a URL: the same bytes, whatever the server does."""

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import report
from pipeline import SweepOptions, extract, sweep
from pipeline.extraction import tasks
from pipeline.runtime.progress import SilentProgress
from pipeline.upkeep.status import take_inventory
from pipeline.upkeep.verify import verify
from storage import IntegrityError, open_patches
from storage.errors import RemoteError
from storage.places.place import bytes_below, files_below
from storage.places.remote import RemotePlace
from tests.buckets import SlowProxy, cut, refuse
from tests.damage import files_of
from tests.interrupted import AtThirdChunk
from tests.stored_numbers import numbers_of


def small_chunks(monkeypatch: pytest.MonkeyPatch, size: int = 4 << 10) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", size)


def objects_of(place: RemotePlace) -> dict[str, bytes]:
    return {key: found.read_bytes() for key, found in files_below(place)}


def test_a_store_in_a_bucket_has_the_bytes_of_one_in_a_folder(
    bucket: RemotePlace, strokes: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks(monkeypatch)
    here = extract(strokes, patch=3, out=tmp_path).store
    there = extract(strokes, patch=3, out=str(bucket)).store
    assert here.n_chunks > 3
    assert objects_of(there.path) == files_of(here.path)
    again = extract(strokes, patch=3, out=str(bucket))
    assert (again.reused, again.repaired) == (True, 0)
    assert np.array_equal(open_patches(str(there.path)).array[:], here.array[:])
    found = verify(bucket, SilentProgress())
    assert found == {"ok": True, "chunks": here.n_chunks, "bad": []}


def test_a_killed_extraction_goes_on_with_the_missing_chunks(
    bucket: RemotePlace, strokes: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks(monkeypatch)
    expected = files_of(extract(strokes, patch=3, out=tmp_path).store.path)
    run = AtThirdChunk(monkeypatch, tasks, "write_chunk")
    with pytest.raises(KeyboardInterrupt):
        extract(strokes, patch=3, out=str(bucket))
    inventory = take_inventory(bucket)
    assert len(inventory["unfinished"]) == 1
    assert inventory["stores"] == inventory["damaged"] == []
    with pytest.raises(IntegrityError, match="unfinished"):
        open_patches(inventory["unfinished"][0])
    run.goes_on = True
    store = extract(strokes, patch=3, out=str(bucket)).store
    assert sorted(run.written) == list(range(store.n_chunks))
    assert objects_of(store.path) == expected
    assert take_inventory(bucket)["unfinished"] == []


def flipped(place: RemotePlace) -> None:
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(bytes(content))


def truncated(place: RemotePlace) -> None:
    place.write_bytes(place.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("harm", "key"),
    [
        (flipped, "patches/c/1/0"),
        pytest.param(truncated, "patches/c/1/0", marks=pytest.mark.slow),
        (RemotePlace.unlink, "patches/c/1/0"),
        pytest.param(flipped, "offsets/c/0", marks=pytest.mark.slow),
        (RemotePlace.unlink, "zarr.json"),
        pytest.param(flipped, "patches/zarr.json", marks=pytest.mark.slow),
    ],
)
def test_damage_is_noticed_and_mended(
    bucket: RemotePlace,
    strokes: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[RemotePlace], None],
    key: str,
) -> None:
    small_chunks(monkeypatch)
    store = extract(strokes, patch=3, out=str(bucket)).store
    whole = objects_of(store.path)
    harm(store.path / key)
    assert not verify(store.path, SilentProgress())["ok"]
    if key.startswith("patches/c"):
        with pytest.raises(IntegrityError):
            open_patches(store.path).read_chunk(1)
    extract(strokes, patch=3, out=str(bucket))
    assert objects_of(store.path) == whole


def test_what_a_server_refuses_is_no_damage_and_no_zeros(
    bucket: RemotePlace, served: SlowProxy, strokes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks(monkeypatch)
    store = extract(strokes, patch=3, out=str(bucket)).store
    whole = objects_of(store.path)
    for fault in (refuse(403, "patches/c/1/0"), cut("patches/c/1/0", 10)):
        served.faults = [fault]
        with pytest.raises(RemoteError):
            store.read_chunk(1)
        with pytest.raises(RemoteError):  # not mended: nobody knows what is there
            extract(strokes, patch=3, out=str(bucket))
    served.faults = [refuse(404, "patches/c/1/0")]
    with pytest.raises(IntegrityError, match="is missing"):
        store.read_chunk(1)
    served.faults = [refuse(503, "patches/c/1/0", times=2)]
    assert store.read_chunk(1).any()
    served.faults = []
    assert objects_of(store.path) == whole


def test_chunks_are_asked_for_once_and_kept_on_disk(
    bucket: RemotePlace, served: SlowProxy, strokes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks(monkeypatch)
    monkeypatch.setattr("storage.places.kept.lies_in_memory", lambda folder: False)
    store = extract(strokes, patch=3, out=str(bucket)).store
    first = [store.read_chunk(index) for index in range(store.n_chunks)]
    served.requests.clear()
    for index, rows in enumerate(first):
        assert np.array_equal(store.read_chunk(index), rows)
    assert served.requests == []
    kept = store.array.store.kept
    other = pickle.loads(pickle.dumps(store.array))  # of a worker, which keeps its own
    assert np.array_equal(other[:], np.concatenate(first))
    os.pwrite(kept._file.fileno(), b"damaged", kept._places[store.chunk_key(1)][0] + 5)
    assert np.array_equal(store.read_chunk(1), first[1])  # is asked for again
    assert served.requests[-1].startswith("GET")


def test_where_the_disk_has_no_room_chunks_are_asked_for_again(
    bucket: RemotePlace, strokes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks(monkeypatch)
    store = extract(strokes, patch=3, out=str(bucket)).store
    whole = [store.read_chunk(index) for index in range(store.n_chunks)]

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    again = open_patches(store.path)
    for _ in range(2):
        found = [again.read_chunk(index) for index in range(again.n_chunks)]
        assert all(map(np.array_equal, found, whole))


@pytest.mark.slow
def test_a_sweep_into_a_bucket_makes_the_dictionaries_of_one_into_a_folder(
    bucket: RemotePlace, strokes_file: Path, tmp_path: Path, undrawn: None
) -> None:
    options = SweepOptions.checked(
        dataset=str(strokes_file), k="3,5", max_iter=3, breathing=0, out=bucket, device="cpu"
    )
    found = sweep(options)
    here = sweep(options.model_copy(update={"out": tmp_path / "runs"}))
    assert numbers_of(found["experiment"]) == numbers_of(here["experiment"])
    assert verify(bucket, SilentProgress())["ok"]
    again = sweep(options)
    assert all(entry["reused"] for entry in again["dictionaries"])
    (experiment,) = take_inventory(bucket)["experiments"]
    assert [entry["k"] for entry in experiment["dictionaries"]] == [3, 5]
    places = [RemotePlace.of(entry["path"]) for entry in found["dictionaries"]]
    assert [entry["bytes"] for entry in experiment["dictionaries"]] == [*map(bytes_below, places)]
    assert experiment["bytes"] == bytes_below(RemotePlace.of(found["experiment"]))
    (written,) = report(str(bucket))
    assert written["made"]
    assert b"patchdict-digest" in RemotePlace.of(written["report"]).read_start(4096)
    assert all(RemotePlace.of(path).is_file() for path in written["files"])
    (fresh,) = report(bucket, only_stale=True)
    assert not fresh["made"]
    (places[1] / "zarr.json").unlink()  # it comes last: a kill leaves a dictionary without it
    (places[1].with_name("k00007") / "count" / "c" / "0").write_bytes(b"begun")
    assert [entry["reused"] for entry in sweep(options)["dictionaries"]] == [True, False]
    assert numbers_of(found["experiment"]) == numbers_of(here["experiment"])
    (places[1].with_name("k00007") / "count" / "c" / "0").write_bytes(b"begun")
    assert all(entry["reused"] for entry in sweep(options)["dictionaries"])
    assert verify(bucket, SilentProgress())["ok"]
    centroids = (
        RemotePlace.of(found["dictionaries"][0]["path"]) / "centroids" / "c" / "0" / "0" / "0"
    )
    flipped(centroids)
    assert not verify(bucket, SilentProgress())["ok"]
    with pytest.raises(IntegrityError, match="fails its checksum"):
        sweep(options)
