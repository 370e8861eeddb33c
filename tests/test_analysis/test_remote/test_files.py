"""Files of this machine, made of an experiment in a bucket: those that the folder gives."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

from analysis import export_dictionary, open_experiment, reconstruct
from storage import InputError, open_dictionaries
from storage.places.place import Place
from storage.places.remote import RemotePlace
from tests.buckets import SlowProxy
from tests.damage import files_of
from tests.test_analysis.commands import refused, run
from tests.test_analysis.test_html_report.small_runs import learn


def test_what_python_opens_is_the_same(here: Path, there: RemotePlace) -> None:
    expected, found = open_experiment(here), open_experiment(str(there))
    assert (found.name, found.sizes, found.spec) == (expected.name, expected.sizes, expected.spec)
    xarray.testing.assert_identical(found.history, expected.history)
    assert np.array_equal(found.patches("test").array[:], expected.patches("test").array[:])
    own = open_dictionaries(here / "dictionaries.zarr")
    tree = open_dictionaries(str(there / "dictionaries.zarr"))
    xarray.testing.assert_identical(tree["k00012"].to_dataset(), own["k00012"].to_dataset())
    images = found.images("test").read(slice(0, 5))
    rebuilt = reconstruct(images, own["k00012"])
    assert np.array_equal(reconstruct(images, tree["k00012"]), rebuilt)


def test_metadata_are_read_for_their_seal_and_once_for_what_they_say(
    there: RemotePlace, served: SlowProxy
) -> None:
    served.requests.clear()
    open_dictionaries(str(there))
    read = Counter(one for one in served.requests if one.endswith("zarr.json"))
    assert max(read.values()) == 2  # xarray alone would ask for each three times


@pytest.mark.parametrize("name", ["npz", "parquet"])
def test_exports_are_the_same_files(
    here: Path, there: RemotePlace, tmp_path: Path, name: str
) -> None:
    expected = run("export", here, "--k", 12, "--format", name)
    found = run("export", there, "--k", 12, "--format", name, "--out", tmp_path / f"k12.{name}")
    assert found["card"] == expected["card"]
    assert (tmp_path / f"k12.{name}").read_bytes() == Path(expected["path"]).read_bytes()


def test_reconstructions_are_the_same(here: Path, there: RemotePlace, tmp_path: Path) -> None:

    def rebuilt(folder: Place, out: Path) -> dict[str, Any]:
        return run("reconstruct", folder, "--k", 12, "--stride", 2, "--out", out) | {"path": ""}

    assert rebuilt(there, tmp_path / "there.zarr") == rebuilt(here, tmp_path / "here.zarr")
    assert files_of(tmp_path / "there.zarr") == files_of(tmp_path / "here.zarr")


def test_what_is_only_written_into_folders_says_so(
    there: RemotePlace, capsys: pytest.CaptureFixture[str]
) -> None:
    out = there.parent / "new.zarr"
    for command in (
        ["export", there, "--k", 12, "--format", "npz"],
        ["export", there, "--k", 12, "--format", "npz", "--out", out],
        ["reconstruct", there, "--k", 12, "--out", out],
    ):
        assert "does not write: name a file or folder of this machine" in refused(capsys, *command)
    with pytest.raises(InputError, match="where export does not write"):
        export_dictionary(open_experiment(there).dictionary(12), "npz", str(out))


def test_downloads_and_classes_may_lie_in_a_bucket(bucket: RemotePlace, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(1, 255, (4, 7, 7), np.uint8))
    folder = learn(tmp_path / "runs", (3,), dataset=str(tmp_path / "images.npy"), patch=3)
    (bucket / "classes.csv").write_bytes(b"a\nb\nb\na\n")
    given = ["--data", bucket / "data", "--labels", bucket / "classes.csv"]
    found = run("reconstruct", folder, "--k", 3, *given)
    assert [(one["name"], one["images"]) for one in found["classes"]] == [("a", 2), ("b", 2)]
