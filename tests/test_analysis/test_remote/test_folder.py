"""What is kept in the folder of an experiment, and what is dropped from it."""

from pathlib import Path

import pytest

from analysis import classify, open_stages
from analysis.encoding.code_set import encode_set
from pipeline.runtime.progress import SilentProgress
from pipeline.upkeep.drop import drop
from pipeline.upkeep.status import take_inventory
from pipeline.upkeep.verify import verify
from storage.errors import RemoteError
from storage.places.place import files_below
from storage.places.remote import RemotePlace
from tests.buckets import Proxied, SlowProxy, refuse
from tests.stored_numbers import numbers_of
from tests.test_analysis.commands import run


def test_classes_are_told_as_in_a_folder(here: Path, there: RemotePlace) -> None:
    expected, found = classify(here, 12), classify(str(there), 12)
    assert found["path"] == str(there / "classification.json")
    assert b'"confusion"' in (there / "classification.json").read_bytes()
    for result in (expected, found):
        del result["path"], result["by_k"][0]["seconds"]
    assert found == expected


@pytest.mark.slow
def test_later_stages_are_learned_in_a_bucket(here: Path, there: RemotePlace) -> None:
    asked = ["--k", 4, "--stages", 2]
    expected, found = run("encode", here, *asked), run("encode", there, *asked)
    assert found["scores"] == expected["scores"]
    stage = "k00004-stage2"
    assert numbers_of(there / stage) == numbers_of(here / stage)
    told = [run("decode", codes["codes"]) for codes in (found, expected)]
    assert told[0] == told[1]
    assert len(open_stages(there, 4, 2)) == 2
    (listed,) = take_inventory(there.parent)["experiments"]
    assert [one["stage"] for one in listed["stages"]] == [2]
    assert verify(there, SilentProgress())["ok"]


@pytest.mark.slow
def test_what_is_dropped_goes_with_what_was_made_of_it(here: Path, there: RemotePlace) -> None:
    left = {key for key, _ in files_below(there)}
    for folder in (here, there):
        encode_set(folder, 4, stages=2)
    planned, found = drop(there, [4], dry_run=True), drop(there, [4])
    expected = drop(here, [4])
    assert planned == found
    names = [[Path(path).name for path in result["removed"]] for result in (found, expected)]
    assert names[0] == names[1] == ["codes-k00004x2-digits-test-s1.zarr", "k00004-stage2", "k00004"]
    gone = {key for key in left if "k00004/" in key} | {".lock"}
    assert {key for key, _ in files_below(there)} == left - gone
    assert verify(there, SilentProgress())["ok"]


def test_a_drop_that_was_broken_off_goes_on(there: RemotePlace, served: SlowProxy) -> None:
    asked = list[str]()

    def second(request: Proxied) -> bool:
        """Refuses what is deleted after the metadata."""
        asked.extend(["delete"] * ("?delete" in request.path))
        return len(asked) == 2 and refuse(403, "?delete")(request)

    served.faults = [second]
    with pytest.raises(RemoteError):
        drop(there, [12])
    served.faults = []
    (listed,) = take_inventory(there.parent)["experiments"]
    assert [one["k"] for one in listed["dictionaries"]] == [4]
    assert drop(there, [12])["removed"] == [str(there / "dictionaries.zarr" / "k00012")]
    assert verify(there, SilentProgress())["ok"]
