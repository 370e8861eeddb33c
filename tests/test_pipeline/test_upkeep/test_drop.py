"""Dictionaries that are dropped: what goes with them, what stays, and what the next sweep does."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import SweepOptions, sweep
from pipeline.runtime.progress import SilentProgress
from pipeline.upkeep.drop import drop, in_words
from pipeline.upkeep.status import take_inventory
from pipeline.upkeep.verify import verify
from storage import InputError
from storage.atomic import exclusive
from storage.errors import BusyError
from storage.layout import ExperimentLayout, lock_place
from storage.places.remote import in_memory
from tests.damage import files_of
from tests.stored_numbers import numbers_of
from tests.test_pipeline.test_hostile_command_lines import run_here

SIZES = (2, 3, 20)


def options(out: Path) -> SweepOptions:
    return SweepOptions(out=out, k=SIZES, max_iter=2, mode="full", device="cpu")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(sweep(options(tmp_path_factory.mktemp("runs")))["experiment"])


@pytest.fixture
def folder(swept: Path, tmp_path: Path) -> Path:
    """The experiment, copied, with what looks as if it was made of its dictionaries."""
    out = Path(shutil.copytree(swept.parent, tmp_path / "runs"))
    folder = out / swept.name
    for name in MADE_OF_3 + OF_OTHERS:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bytes(1000))
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    """All of a folder's files but locks."""
    return {name: content for name, content in files_of(folder).items() if "lock" not in name}


MADE_OF_3 = (
    "codes-k00003-digits-test-s1.zarr/zarr.json",
    "codes-k00003x2-digits-test-s1.zarr/zarr.json",
    "codes-k00003-other-train-s2.zarr.partial/zarr.json",
    "features-k00003-digits-test-s1-hard-image.zarr/zarr.json",
    "k00003-full.unfinished.npz",
    "k00003-stage2/dictionaries.zarr/zarr.json",
    "k00003-stage3/k00003-full.unfinished.npz",
)
OF_OTHERS = (
    "codes-k00020-digits-test-s1.zarr/zarr.json",
    "codes-k00020-k00003-test-s1.zarr/zarr.json",
    "k00020-stage2/dictionaries.zarr/zarr.json",
    "k00030-full.unfinished.npz",
    "exports/k00003.npz",
    "labels.csv",
    "report.html",
)


def test_a_dictionary_goes_with_what_was_made_of_it_and_is_learned_anew(folder: Path) -> None:
    whole, numbers = content_of(folder), numbers_of(folder)
    told = drop(folder, [3], dry_run=True)
    assert content_of(folder) == whole
    assert drop(folder.parent, [3]) == told  # OUT holds this one alone
    gone = set(whole) - set(content_of(folder))
    names = {name.split("/")[0] for name in MADE_OF_3} | {"dictionaries.zarr/k00003"}
    assert {str(folder / name) for name in names} == set(told["removed"])
    assert all(name.startswith(tuple(names)) for name in gone)
    assert not any(name.startswith(tuple(names)) for name in content_of(folder))
    left = {name: content for name, content in whole.items() if name not in gone}
    assert content_of(folder) == left
    assert told["bytes"] == sum(len(whole[name]) for name in gone)
    assert (told["dropped"], told["left"]) == ([3], [2, 20])
    for name in OF_OTHERS[:3]:  # what only looks like stores
        shutil.rmtree(folder / name.split("/")[0])
    assert verify(folder.parent, SilentProgress())["ok"]
    again = sweep(options(folder.parent))["dictionaries"]
    assert [entry["reused"] for entry in again] == [True, False, True]
    assert numbers_of(folder) == numbers


def test_people_are_told_what_goes(folder: Path) -> None:
    done = drop(folder, [2, 3])
    told = in_words(done)
    assert told.startswith("dropped K = 2, 3 (")
    assert "K = 20 stays" in told.splitlines()[0]
    assert told.endswith(f"report.html tells of them still: patchdict report {folder}")
    assert "would drop K = 20" in in_words(drop(folder, [20], dry_run=True), dry_run=True)
    (folder / "report.html").unlink()
    assert "none is left" in in_words(drop(folder, [20]))
    (listed,) = take_inventory(folder.parent)["experiments"]
    assert listed["dictionaries"] == []


def test_what_cannot_be_dropped_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    whole = content_of(folder)
    code, output, errors = run_here(["drop", str(folder), "--k", "3,4,5"])
    assert (code, output) == (2, "")
    assert errors == (f"error: no dictionary of K = 4, 5 in {folder}: there are 2, 3, 20, 30\n")
    assert content_of(folder) == whole
    with pytest.raises(InputError, match="no dictionaries in"):
        drop(tmp_path / "absent", [3])
    shutil.copytree(folder, folder.parent / "other")
    with pytest.raises(InputError, match="holds several experiments: give the folder of one of"):
        drop(folder.parent, [3])
    code, output, _ = run_here(["drop", str(folder), "--k", "30", "--json"])  # a fit's state alone
    assert code == 0
    assert json.loads(output)["removed"] == [str(folder / "k00030-full.unfinished.npz")]


def test_a_sweep_at_work_is_not_disturbed(folder: Path) -> None:
    whole = content_of(folder)
    codes = folder / "codes-k00003-digits-test-s1.zarr"
    layout = ExperimentLayout(folder)
    for lock in (layout.lock, lock_place(codes), layout.stage(3, 2).lock):
        with exclusive(lock, "working"), pytest.raises(BusyError, match="dropping"):
            drop(folder, [3])
        assert content_of(folder) == whole
    assert drop(folder, [3])["dropped"] == [3]


@pytest.mark.parametrize("after", range(0, 8, 2))
def test_what_is_broken_off_leaves_whole_stores_and_is_gone_on_with(
    folder: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, real = list[Any](), os.replace

    def some(path: Any, place: Any) -> None:
        if len(moved) == after:
            raise KeyboardInterrupt
        moved.append(path)
        real(path, place)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.upkeep.drop.os.replace", some)
        patch.setattr("storage.atomic.remove", lambda _: None)  # as of a process that is gone
        with pytest.raises(KeyboardInterrupt):
            drop(folder, [3])
    assert len(list(folder.glob(".dictionaries.zarr.*.partial"))) == 1
    assert verify(folder / "dictionaries.zarr", SilentProgress())["ok"]
    assert drop(folder, [3])["left"] == [2, 20]
    assert not [name for name in content_of(folder) if name.startswith(MADE_OF_3)]
    assert not [name for name in content_of(folder) if ".partial" in name or "/k00003/" in name]


def test_behind_a_url_a_group_loses_its_metadata_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_memory() as memory:
        for name, content in files_of(folder).items():
            if "stage" not in name:  # there are none behind URLs
                (memory / "runs" / name).write_bytes(content)
        gone = drop(memory / "runs", [3])
        assert gone["left"] == [2, 20]
        names = [place.relative_key(memory / "runs") for place, _ in (memory / "runs").files()]
        assert not [name for name in names if "k00003" in name and not name.startswith(OF_OTHERS)]
        assert verify(memory / "runs" / "dictionaries.zarr", SilentProgress())["ok"]
