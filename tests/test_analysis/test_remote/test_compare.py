"""Experiments in a bucket side by side, and beside those of folders."""

from pathlib import Path

import pytest

from analysis import compare
from storage import InputError
from storage.places.place import files_below
from storage.places.remote import RemotePlace
from tests.damage import files_of
from tests.test_analysis.commands import run


def test_an_experiment_in_a_bucket_has_the_curve_of_the_folder(
    here: Path, there: RemotePlace, undrawn: None
) -> None:
    expected, found = run("compare", here.parent), run("compare", there)
    files = dict(files_below(there.parent / "compare"))
    assert sorted(found["files"]) == [*map(str, files.values())]
    made = {key: place.read_bytes() for key, place in files.items()}
    assert made == files_of(here.parent / "compare")
    assert len(made["mse.csv"].splitlines()) == 3
    for result, folder in ((expected, here), (found, there)):
        (one,) = result["experiments"]
        assert one.pop("experiment") == str(folder)
    assert found["experiments"] == expected["experiments"]


def test_experiments_of_both_kinds_are_told_apart(
    here: Path, there: RemotePlace, tmp_path: Path, undrawn: None
) -> None:
    found = compare([here, str(there)], f"{there.parent}/both")
    assert [one["label"] for one in found["experiments"]] == [str(here.parent), str(there.parent)]
    assert all(RemotePlace.of(path).is_file() for path in found["files"])
    twice = compare([there, str(there.parent)], tmp_path / "twice")  # each once
    assert len(twice["experiments"]) == 1
    with pytest.raises(InputError, match="can only be read"):
        compare(there, "https://host/figures")
