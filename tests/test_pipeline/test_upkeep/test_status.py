"""Damage in what a sweep made: found by verify, mended or refused by the next sweep."""

import json
import os
import shutil
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from analysis.experiment import open_experiment
from pipeline import SweepOptions, sweep
from pipeline.command_line import group
from pipeline.runtime.progress import SilentProgress, rounded
from pipeline.upkeep.status import _tell_apart, in_words, take_inventory
from pipeline.upkeep.verify import verify
from storage import InputError, IntegrityError, open_dictionaries
from storage.atomic import exclusive
from storage.integrity import write_seal
from storage.layout import find_experiments, lock_place, patch_store_path
from storage.patch_store import store_name
from tests.damage import DAMAGES, files_of, flip_bit


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.patch_spec.CHUNK_BYTES", 9 * 256)
        yield


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
    of_patches = sum(1 for _ in runs.glob("patches/*/patches/c/*/*"))
    for folder, chunks in ((runs, of_patches + 18), (path, 18), (path.parent, 18)):
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
    train = experiment.patches("train")
    test = experiment.patches("test")
    assert store_name(test.source, test.spec) == test.name
    shutil.rmtree(train.path)
    shutil.copytree(test.path, train.path)
    with pytest.raises(IntegrityError, match=f"holds the patches of {test.name}, not those"):
        experiment.patches("train")


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


def test_status_tells_experiments_apart(runs: Path) -> None:
    (alone,) = take_inventory(runs)["experiments"]
    assert alone["differs"] == {}
    other = options(runs).model_copy(update={"seed": 7, "k": (2,), "empty": "split"})
    folder = Path(sweep(other)["experiment"])
    (folder / "report.html").write_bytes(bytes(5000))
    inventory = take_inventory(runs)
    first, second = sorted(inventory["experiments"], key=lambda one: one["differs"]["seed"])
    assert first["differs"] == {"empty": "random", "seed": 0}
    assert second["differs"] == {"empty": "split", "seed": 7}
    assert second["options"]["patch"] == "5x5"
    assert (first["report"], second["report"]) == (None, str(folder / "report.html"))
    (entry,) = second["dictionaries"]
    assert {"k", "mse", "heldout_mse", "bytes", "made"} <= set(entry)
    stored = folder / "dictionaries.zarr" / "k00002"
    assert entry["bytes"] == sum(map(len, files_of(stored).values()))
    assert second["bytes"] == sum(map(len, files_of(folder).values()))
    assert datetime.fromisoformat(entry["made"]) < datetime.now().astimezone()
    lines = in_words(inventory).splitlines()
    start = lines.index(f"{first['experiment']}: K = 2, 3")
    differs, mse, made, size = (line.split() for line in lines[start + 1 : start + 5])
    assert differs == ["differs", "empty=random,", "seed=0"]
    two, three = (rounded(one["mse"]) for one in first["dictionaries"])
    assert mse[:4] == ["MSE", two, "to", f"{three},"]
    assert made[:2] == ["made", first["dictionaries"][0]["made"][:10]]
    assert "no report yet" in " ".join(size)
    assert sum("no report yet" in line for line in lines) == 1


def test_status_tells_who_is_at_work(runs: Path) -> None:
    (layout,) = find_experiments(runs)
    codes = layout.codes(3, "digits", "test", 1)
    for lock in (layout.lock, layout.stage(3, 2).lock, lock_place(codes)):
        with exclusive(lock, "at work"):
            inventory = take_inventory(runs)
        (told,) = inventory["experiments"][0]["at_work"]
        assert told.startswith(f"process {os.getpid()} on {socket.gethostname()}, since 2")
        assert f"      at work  {told}" in in_words(inventory).splitlines()
    layout.lock.with_name(".lock.json").write_text("{}")  # as a killed process leaves it
    inventory = take_inventory(runs)
    assert inventory["experiments"][0]["at_work"] == []
    assert "at work" not in in_words(inventory)


def test_status_tells_who_extracts_patches(tmp_path: Path) -> None:
    store = patch_store_path(tmp_path, "digits-5x5")
    with exclusive(lock_place(store), "at work"):
        inventory = take_inventory(tmp_path)
    (one,) = inventory["extracting"]
    assert one["store"] == str(store)
    assert one["at_work"].startswith(f"process {os.getpid()} on {socket.gethostname()}, since 2")
    assert in_words(inventory) == f"   extracting  {store}: {one['at_work']}"
    assert take_inventory(tmp_path)["extracting"] == []


def test_status_passes_over_a_folder_that_goes_meanwhile(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (layout,) = find_experiments(runs)
    before, gone, scandir = take_inventory(runs), layout.figures / "drawn", os.scandir
    gone.mkdir(parents=True)

    def too_late(folder: Any = ".") -> Any:
        if Path(folder) == gone and gone.exists():
            gone.rmdir()
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", too_late)
    assert take_inventory(runs) == before
    assert not gone.exists()


def test_experiments_whose_options_are_alike_are_told_by_their_patches() -> None:
    given = [{"options": {"seed": 0, "patches": name}} for name in ("one", "two")]
    given += [{"options": {"seed": 1, "patches": "two"}}]
    _tell_apart(given)
    assert [one["differs"] for one in given] == [
        {"seed": 0, "patches": "one"},
        {"seed": 0, "patches": "two"},
        {"seed": 1},
    ]
