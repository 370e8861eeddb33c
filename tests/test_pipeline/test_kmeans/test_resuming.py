"""A fit that is broken off goes on from its last complete pass and ends with the same bits."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import SweepOptions, sweep
from pipeline.engines.device.spec import TorchSpec
from pipeline.execution.executor import LocalExecutor
from pipeline.kmeans import checkpoint, nested
from pipeline.kmeans.checkpoint import FitCheckpoint
from pipeline.kmeans.loop import KMeansLoop
from pipeline.kmeans.nested import Nested
from pipeline.upkeep.status import take_inventory
from storage import open_images
from storage.atomic import exclusive
from storage.fit_state import read_checkpoint, write_checkpoint
from tests.notes import Notes
from tests.spoiled import spoil_larger_than
from tests.stored_numbers import numbers_of


class BrokenOff(BaseException):
    """The process is gone."""


@pytest.fixture(autouse=True)
def every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass is kept, however short."""
    monkeypatch.setattr(checkpoint, "SHARE", 1.0)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefixes and moves for small data."""
    monkeypatch.setattr(nested, "FIRST_ROWS", 4000)
    monkeypatch.setattr(nested, "MOVE_ROWS", 6000)
    monkeypatch.setattr(nested, "MOVE_PER_CENTROID", 100)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Numbers of a fit that was not broken off."""
    out = tmp_path_factory.mktemp("alone")
    options = SweepOptions.checked(out=out, k="8", mode="full", max_iter=4)
    return numbers_of(sweep(options)["experiment"])


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of 500 of the digits: 8,000 rows."""
    path = tmp_path_factory.mktemp("few") / "digits.npy"
    np.save(path, open_images("digits").images[:500])
    return str(path)


MODES: dict[str, dict[str, Any]] = {
    "nested": {"mode": "nested", "k": "9,24", "breathing": 2, "max_iter": 20},
    "cold": {"mode": "nested", "k": "40", "init": "k-means++", "empty": "split", "max_iter": 25},
    "full": {"mode": "full", "k": "9,24", "max_iter": 12},
    "minibatch": {"mode": "minibatch", "k": "24", "max_iter": 25, "tol": 0, "batch_size": 3000},
}


def broken_sweeps(
    options: SweepOptions, monkeypatch: pytest.MonkeyPatch, seed: int
) -> tuple[dict[str, Any], int, int]:
    """Sweep until it is done, broken off after some passes, kept or not.

    Returns: the last result, how often it was broken off, and how many passes were lost.
    """
    rng = np.random.default_rng(seed)
    save, broken, lost, left = FitCheckpoint.save, 0, 0, 0

    def breaking(self: FitCheckpoint, *state: Any) -> None:
        nonlocal lost, left
        left -= 1
        if left < 0 and rng.random() < 0.3:
            lost += 1
            raise BrokenOff
        save(self, *state)
        if left < 0:
            raise BrokenOff

    monkeypatch.setattr(FitCheckpoint, "save", breaking)
    while True:
        left = int(rng.integers(0, 6))
        try:
            result = sweep(options)
        except BrokenOff:
            broken += 1
        else:
            return result, broken, lost


def break_off(options: SweepOptions, monkeypatch: pytest.MonkeyPatch, k: int | None = None) -> None:
    """Sweep until a fit, of k centroids if that is said, would score its last ones."""
    score = KMeansLoop._score

    def breaking(run: Any) -> None:
        if k in (None, len(run.state.centroids)):
            raise BrokenOff
        score(run)

    with monkeypatch.context() as patch:
        patch.setattr(KMeansLoop, "_score", breaking)
        with pytest.raises(BrokenOff):
            sweep(options)


def count_passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Of all fits from here on."""
    passes, keep = 0, Nested._keep

    def counting(self: Any) -> None:
        nonlocal passes
        passes += 1
        keep(self)

    monkeypatch.setattr("pipeline.kmeans.loop.KMeansLoop._keep", counting)
    return lambda: passes


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("mode", MODES)
def test_no_pass_is_made_twice_and_the_bits_are_the_same(
    mode: str, few: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (
        SweepOptions.checked(dataset=few, out=tmp_path / name, **MODES[mode])
        for name in ("whole", "parts")
    )
    made = count_passes(monkeypatch)
    expected = sweep(whole)
    passes = made()
    assert passes == sum(entry["passes"] for entry in expected["dictionaries"])
    found, broken, lost = broken_sweeps(parts, monkeypatch, seed=len(mode))
    assert broken >= 5
    assert made() - passes == passes + lost
    left = sorted(path.name for path in Path(found["experiment"]).iterdir())
    assert not [name for name in left if ".unfinished" in name]
    assert numbers_of(found["experiment"]) == numbers_of(expected["experiment"])


@pytest.mark.usefixtures("short")
def test_a_fit_that_has_to_be_mended_goes_on_too(
    few: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_larger_than(5, monkeypatch)
    whole, parts = (
        SweepOptions.checked(dataset=few, out=tmp_path / name, k="5,9", max_iter=30)
        for name in ("one", "two")
    )
    expected = sweep(whole)
    assert expected["dictionaries"][1]["passes"] > 5  # those of both ways are told
    found, broken, _ = broken_sweeps(parts, monkeypatch, seed=3)
    assert broken > 5
    assert numbers_of(found["experiment"]) == numbers_of(expected["experiment"])


def test_a_dictionary_is_not_learned_again_for_a_broken_held_out_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = SweepOptions.checked(out=tmp_path, k="7", mode="full", max_iter=3)
    run_pass, made = LocalExecutor.run_pass, []

    def breaking(self: LocalExecutor, *rest: Any, **more: Any) -> Any:
        if self.cache is None and len(made) < 5:  # the held-out rows
            raise BrokenOff
        made.append(self.source.n_rows)
        return run_pass(self, *rest, **more)

    monkeypatch.setattr(LocalExecutor, "run_pass", breaking)
    for _ in range(2):
        with pytest.raises(BrokenOff):
            sweep(options)
    assert len(made) == 4
    made.append(0)
    sweep(options)
    assert len(made) == 6  # the held-out pass alone


@pytest.mark.parametrize(
    ("other", "note"),
    [
        ({"seed": 1}, None),  # another experiment, in a folder of its own
        ({"k": "4,8"}, "starts anew: what is there was fitted otherwise"),  # from K = 4 now
        ({"engine": "torch"}, "K=8 goes on after pass 4"),  # its labels are the same
        ({"engine": "torch", "exact": False}, "starts anew: what is there was fitted otherwise"),
        (
            {"steps": 1},
            "starts anew: what is there was fitted otherwise",
        ),  # by code of another time
        ({}, "K=8 goes on after pass 4"),
    ],
)
def test_a_state_is_taken_up_by_the_same_fit_alone(
    other: dict[str, Any], note: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"out": tmp_path, "k": "8", "mode": "full", "max_iter": 4}
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.dictionaries.STEPS", other.get("steps", 2))
        break_off(SweepOptions.checked(**fields), monkeypatch)
    if not other.get("exact", True):
        monkeypatch.setattr(TorchSpec, "exactness", "nearly float64")
    other = {name: value for name, value in other.items() if name not in ("exact", "steps")}
    notes = Notes()
    result = sweep(SweepOptions.checked(**(fields | other)), notes)
    alone = sweep(SweepOptions.checked(**(fields | other | {"out": tmp_path / "alone"})))
    assert numbers_of(result["experiment"]) == numbers_of(alone["experiment"])
    told = [line for line in notes.lines if "goes on" in line or "anew" in line]
    assert len(told) == (note is not None)
    assert all(note in line for line in told if note)


@pytest.mark.parametrize(
    "damage", ["flip", "cut", "empty", "schema", "text", "crc of nothing", "other fields"]
)
def test_a_damaged_state_is_told_and_the_fit_starts_anew(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: dict[str, Any]
) -> None:
    options = SweepOptions.checked(out=tmp_path, k="8", mode="full", max_iter=4)
    break_off(options, monkeypatch)
    (path,) = tmp_path.rglob("*.unfinished.npz")
    whole = path.read_bytes()
    arrays, facts = read_checkpoint(path) or ({}, {})
    if damage == "other fields":
        write_checkpoint(path, arrays, facts | {"temperature": 3})
    elif damage == "schema":
        with monkeypatch.context() as patch:
            patch.setattr("storage.fit_state.SCHEMA", 99)
            write_checkpoint(path, arrays, facts)
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
        contents = {"flip": flipped, "cut": whole[:-9], "empty": b"", "text": b"not a zip file"}
        path.write_bytes(contents.get(damage, bytes(4)))
    (listed,) = take_inventory(tmp_path)["experiments"]
    assert len(listed["unfinished"]) == (damage == "other fields")
    notes = Notes()
    result = sweep(options, notes)
    (told,) = [line for line in notes.lines if "anew" in line]
    assert "K=8" in told
    assert (str(path) in told) == (damage != "other fields")
    assert numbers_of(result["experiment"]) == alone


@pytest.mark.parametrize("more", ["", ",9"], ids=["all is finished", "one is missing"])
def test_what_killed_sweeps_left_is_swept_away(tmp_path: Path, more: str) -> None:
    fields = {"out": tmp_path, "mode": "full", "max_iter": 2}
    folder = Path(sweep(SweepOptions.checked(**fields, k="5"))["experiment"])
    (folder / ".dictionaries.zarr.0123abcd.partial" / "count").mkdir(parents=True)
    (folder / "k00005-full.unfinished.npz").write_bytes(b"of a fit that is stored")
    (folder / ".k00007-full.unfinished.npz.0123abcd.partial").write_bytes(b"half-written")
    kept = folder / "k00007-full.unfinished.npz"
    kept.write_bytes(b"of a fit that may be asked for again")
    sweep(SweepOptions.checked(**fields, k="5" + more))
    left = {path.name for path in folder.iterdir()}
    assert left == {".lock", "dictionaries.zarr", kept.name}


def test_a_sweep_at_work_does_not_keep_another_from_what_is_finished(tmp_path: Path) -> None:
    options = SweepOptions.checked(out=tmp_path, k="5", mode="full", max_iter=2)
    folder = Path(sweep(options)["experiment"])
    half = folder / ".k00007-full.unfinished.npz.0123abcd.partial"
    half.write_bytes(b"being written")
    with exclusive(folder / ".lock", "at work"):
        assert sweep(options)["dictionaries"][0]["reused"]
    assert half.exists()


def test_a_state_is_not_taken_up_when_what_it_started_from_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"mode": "full", "max_iter": 4}
    break_off(SweepOptions.checked(**fields, out=tmp_path, k="5,10,20"), monkeypatch, k=20)
    (store,) = tmp_path.glob("*/dictionaries.zarr")
    for name in ("k00005", "k00010"):
        shutil.rmtree(store / name)
    notes = Notes()
    found = sweep(SweepOptions.checked(**fields, out=tmp_path, k="10,20"), notes)
    assert [line for line in notes.lines if "goes on" in line] == []
    alone = sweep(SweepOptions.checked(**fields, out=tmp_path / "alone", k="10,20"))
    assert numbers_of(found["experiment"]) == numbers_of(alone["experiment"])
