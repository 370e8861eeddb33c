"""What cannot be reported is named, damages nothing, and hides no other experiment."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import reconstruct, report
from analysis.experiment import open_experiment
from analysis.reconstruction.image_set import rebuild_set
from pipeline import SweepOptions, sweep
from storage import InputError, IntegrityError, PatchSpec, open_dictionaries
from tests.damage import flip_bit
from tests.test_analysis.test_html_report.small_runs import learn, small_images


def test_an_empty_folder_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "analysis", "report", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "no finished dictionaries" in line
    assert "run sweep" in line
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        report(tmp_path / "absent")


def test_images_that_are_gone_or_others_are_named_and_damage_nothing(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    folder = learn(tmp_path, (3,), dataset=small_images(path))
    small_images(path, seed=1)
    with pytest.raises(IntegrityError, match="are not those"):
        report(folder)
    path.unlink()
    with pytest.raises(InputError, match=r"images\.npy"):
        report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.usefixtures("undrawn")
def test_images_that_moved_with_their_project_are_found(tmp_path: Path) -> None:
    old = tmp_path / "old" / "project"
    (old / "photos").mkdir(parents=True)
    folder = learn(old / "runs", (3,), dataset=small_images(old / "photos" / "images.npy"))
    before = rebuild_set(folder, 3)
    new = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(old, new)
    (new / "runs" / "photos").mkdir()  # nearer, and another file
    small_images(new / "runs" / "photos" / "images.npy", seed=1)
    small_images(old / "photos" / "images.npy", seed=2)
    moved = new / "runs" / folder.name
    assert rebuild_set(moved, 3) == before
    shutil.rmtree(old)
    assert report(new / "runs")[0]["made"]
    again = sweep_again(new)
    assert again["reused"]
    assert Path(again["experiment"]) == moved


def sweep_again(project: Path) -> dict[str, Any]:
    """The sweep of `learn` in a project that has moved."""
    images = str(project / "photos" / "images.npy")
    fields = {"max_iter": 2, "breathing": 0, "device": "cpu"}
    return sweep(SweepOptions(dataset=images, out=project / "runs", k=(3, 4), **fields))


@pytest.mark.usefixtures("undrawn")
def test_images_are_where_the_user_says_if_they_are_the_same(tmp_path: Path) -> None:
    first, second = tmp_path / "first.npy", tmp_path / "second.npy"
    folder = learn(tmp_path / "runs", (3,), dataset=small_images(first))
    other = learn(tmp_path / "runs", (3,), dataset=small_images(second, seed=1))
    (tmp_path / "away").mkdir()
    place = str(first.rename(tmp_path / "away" / "renamed.npy"))
    with pytest.raises(InputError, match=r"first\.npy"):
        report(folder)
    with pytest.raises(IntegrityError, match=r"second\.npy are not those.*name it by --dataset"):
        rebuild_set(folder, 3, dataset=str(second))
    assert rebuild_set(folder, 3, dataset=place)["images"] == 12
    reports = report(tmp_path / "runs", dataset=place)  # it is that of one of them
    assert {Path(one["report"]).parent for one in reports} == {folder, other}


def test_downloads_that_moved_with_their_project_are_found(tmp_path: Path) -> None:
    data = tmp_path / "old" / "data"
    data.mkdir(parents=True)
    folder = learn(tmp_path / "old" / "runs", (3,), data=data)
    assert open_experiment(folder).data == data
    (tmp_path / "old").rename(tmp_path / "new")
    moved = tmp_path / "new" / "runs" / folder.name
    assert open_experiment(moved).data == tmp_path / "new" / "data"
    assert open_experiment(moved, tmp_path).data == tmp_path


@pytest.mark.usefixtures("undrawn")
def test_one_experiment_that_fails_does_not_keep_the_others_from_a_report(tmp_path: Path) -> None:
    path = tmp_path / "gone.npy"
    learn(tmp_path, (3,), dataset=small_images(path))
    other = learn(tmp_path, (3,), dataset=small_images(tmp_path / "there.npy", seed=1))
    path.unlink()
    with pytest.raises(InputError, match=r"gone\.npy"):
        report(tmp_path)
    assert (other / "report.html").exists()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OUT with two experiments; tests copy it."""
    out = tmp_path_factory.mktemp("pair")
    for seed, name in enumerate(("one", "two")):
        learn(out, (3,), dataset=small_images(out / f"{name}.npy", seed=seed))
    return out


@pytest.fixture
def two(pair: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The folders of two experiments of one OUT."""
    shutil.copytree(pair, tmp_path / "two")
    one, other = sorted(path.parent for path in (tmp_path / "two").glob("*/dictionaries.zarr"))
    return one, other


@pytest.mark.usefixtures("undrawn")
def test_damaged_dictionaries_are_named_and_hide_no_others(two: tuple[Path, Path]) -> None:
    whole, other = two
    files, trees = {}, []
    for file in ("zarr.json", "k00003/zarr.json", "k00003/centroids/c/0/0/0"):
        folder = Path(shutil.copytree(whole, f"{whole}-{len(files)}")) if files else whole
        files[folder] = file
        trees.append(open_dictionaries(folder / "dictionaries.zarr"))
    for folder, file in files.items():
        flip_bit(folder / "dictionaries.zarr" / file, 200)
        with pytest.raises(IntegrityError, match=f"{folder}/dictionaries.zarr"):
            report(folder)
    with pytest.raises(IntegrityError, match=f"{whole}/dictionaries.zarr"):
        report(whole.parent)
    assert not any((folder / "report.html").exists() for folder in files)
    assert (other / "report.html").exists()
    with pytest.raises(IntegrityError, match=r"chunk 0 of .*/k00003/centroids fails"):
        reconstruct(np.zeros((9, 9), np.uint8), trees[2]["k00003"], spec=PatchSpec(5, 5))


def test_damaged_patches_are_named(two: tuple[Path, Path]) -> None:
    store = two[0].parent / "patches" / f"{open_experiment(two[0]).facts['train_store']}.zarr"
    flip_bit(store / "patches" / "c" / "0" / "0", 200)
    with pytest.raises(IntegrityError, match=f"chunk 0 of {store}/patches fails its checksum"):
        report(two[0])


def test_paths_that_are_no_text_stand_in_the_page(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    np.save(tmp_path / "six.npy", images)
    (tmp_path / "six.npy").rename(tmp_path / "\udcff<b>.npy")
    learn(tmp_path / "o\udcff", (2,), dataset=str(tmp_path / "\udcff<b>.npy"), breathing=0)
    (result,) = report(tmp_path / "o\udcff")
    page = Path(result["report"]).read_text()
    assert r"o\udcff" in page
    assert "<b>.npy" not in page


@pytest.mark.usefixtures("undrawn")
def test_patches_as_large_as_the_images_need_little_memory(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(1, 256, (6, 60, 60)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    fields = {"dataset": str(tmp_path / "images.npy"), "patch": "60"}
    folder = learn(tmp_path / "runs", (1,), **fields)
    assert report(folder, memory="800MiB")[0]["made"]
