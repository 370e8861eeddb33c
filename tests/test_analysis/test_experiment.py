"""An open experiment: what is in it; the classes of its images, known or not to be had."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import experiment_data, mse_curve, report
from analysis.experiment import Experiment, open_experiment
from analysis.reconstruction.image_set import rebuild_set
from pipeline import SweepOptions, sweep
from storage import InputError, open_labels
from storage.layout import ExperimentLayout
from tests.test_analysis.test_html_report.small_runs import learn, small_images


@pytest.fixture
def digits(digits_folder: Path) -> Experiment:
    return open_experiment(digits_folder)


def test_all_of_an_experiment_is_at_hand(digits: Experiment) -> None:
    assert repr(digits) == (
        f"<Experiment {digits.folder.name}: 24,000 patches of 25 values, K = 4, 12, 60>"
    )
    assert list(digits.dictionaries.by_k) == digits.sizes == [4, 12, 60]
    curve = mse_curve(digits.dictionaries)
    for split in ("train", "test"):
        patches, images = digits.patches(split), digits.images(split)
        assert patches.source["fingerprint"] == images.fingerprint
        assert patches.source["split"] == split
    assert digits.patches().n_rows == 24000
    for k, node in digits.dictionaries.by_k.items():
        passes = digits.history.sel(k=k)
        np.testing.assert_array_equal(passes["mse"].dropna("iteration"), node["mse"])
        assert passes["mse"].dropna("iteration").sizes["iteration"] == curve["passes"].sel(k=k)
    assert digits.history["shift"].attrs == digits.dictionaries[4]["shift"].attrs


def test_its_folder_or_the_one_that_holds_it_opens_an_experiment(digits_folder: Path) -> None:
    for place in (digits_folder, str(digits_folder), str(digits_folder.parent)):
        assert open_experiment(place).folder == digits_folder
    with pytest.raises(InputError, match="no folder"):
        open_experiment(digits_folder / "absent")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"heldout": 0.25, "white": 200.0, "keep": "std>0.1", "sample": "300", "border": "reflect"},
        {"mode": "minibatch", "batch_size": 50, "stride": 2, "patch": (2, 3)},
        {"mode": "full", "preprocess": "zca", "distance": "cosine", "seed": 3},
    ],
)
def test_a_sweep_with_its_options_finds_all_of_it_done(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    folder = learn(tmp_path / "runs", (2, 3), dataset=small_images(tmp_path / "a.npy"), **options)
    again = sweep(open_experiment(folder).options)
    assert Path(again["experiment"]) == folder
    assert [one["reused"] for one in again["dictionaries"]] == [True, True]
    assert again["reused"]


def test_labels_are_those_of_the_images(digits: Experiment) -> None:
    for split in ("train", "test"):
        labels = digits.labels(split)
        assert labels is not None
        assert len(labels) == len(digits.images(split).images)
        np.testing.assert_array_equal(labels, open_labels("digits", split))
        assert digits.why_unlabelled(split) is None
    assert digits.class_names == tuple("0123456789")


def test_a_file_of_images_has_no_classes_and_says_so(strokes_file: Path, tmp_path: Path) -> None:
    strokes = open_experiment(learn(tmp_path, (2,), dataset=str(strokes_file)))
    assert strokes.labels("train") is None
    reason = str(strokes.why_unlabelled("train"))
    assert "no classes are known" in reason
    assert strokes_file.name in reason
    assert str(strokes_file) not in reason  # it stands in the report
    assert strokes.class_names is None


def test_classes_that_are_not_to_be_had_are_asked_for_once_and_the_reason_is_kept(
    digits: Experiment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def gone(dataset: str, split: str, data: Path, *, rounds: int) -> None:
        asked.append((split, rounds))
        raise InputError(f"cannot download labels of {dataset}")

    monkeypatch.setattr(experiment_data, "open_labels", gone)
    for _ in range(2):
        assert digits.labels("test") is None
        assert "cannot download labels of digits" in str(digits.why_unlabelled("test"))
    assert sorted(asked) == [("test", 1), ("train", 1)]
    assert "the classes of the test images are missing" in caplog.text


def test_another_number_of_classes_than_images_is_refused(
    digits: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment_data, "open_labels", lambda *_, **__: np.zeros(7, np.int64))
    with pytest.raises(InputError, match="7 classes for the 1500 train images"):
        digits.labels("train")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Classes of the twelve images of `small_images`."""
    path = tmp_path / "classes.csv"
    path.write_text("kind\n" + "wide\nhigh\nwide\n" * 4)
    return path


def assert_stated(folder: Path) -> None:
    """The experiment knows the classes of both its parts."""
    experiment = open_experiment(folder)
    assert experiment.class_names == ("high", "wide")
    held = np.sort(np.random.default_rng(0).permutation(12)[:3])
    every = np.arange(12) % 3 != 1
    for split, expected in (("test", every[held]), ("train", np.delete(every, held))):
        labels = experiment.labels(split)
        assert labels is not None
        assert labels.tolist() == expected.tolist()
        assert experiment.why_unlabelled(split) is None


def test_stated_classes_are_kept_with_the_experiment(tmp_path: Path, classes: Path) -> None:
    options = {"dataset": small_images(tmp_path / "a.npy"), "heldout": 0.25}
    folder = learn(tmp_path / "runs", (2,), **options)
    assert open_experiment(folder).class_names is None
    found = rebuild_set(folder, 2, labels=classes)["classes"]
    assert [(one["label"], one["name"]) for one in found] == [(0, "high"), (1, "wide")]
    assert_stated(folder)
    told = learn(tmp_path / "told", (2,), labels=str(classes), **options)
    assert told.name == folder.name  # dictionaries do not depend on it
    classes.unlink()
    assert_stated(told)
    copy = ExperimentLayout(told).labels
    copy.write_text("wide\n")
    with pytest.raises(InputError, match=r"labels\.csv has 1 lines for the 12 images"):
        rebuild_set(told, 2)
    moved = told.parent.parent.rename(tmp_path.with_name("moved")) / told.relative_to(tmp_path)
    with pytest.raises(InputError, match=r"labels\.csv has 1 lines for the 12 images"):
        rebuild_set(moved, 2)
    other = moved.with_name("classes.csv")
    other.write_text("wide\n" * 6 + "high\n" * 6)
    assert len(rebuild_set(moved, 2, labels=other)["classes"]) == 2


@pytest.mark.usefixtures("undrawn")
def test_a_report_is_made_anew_for_other_classes(tmp_path: Path, classes: Path) -> None:
    folder = learn(tmp_path / "runs", (2,), dataset=small_images(tmp_path / "a.npy"), heldout=0.25)
    made = [
        report(folder, only_stale=True, labels=labels)[0]
        for labels in (None, classes, None, classes)
    ]
    assert [one["made"] for one in made] == [True, True, False, False]
    drawn = [{Path(name).stem for name in one["figures"]} for one in made]
    assert drawn[1] - drawn[0] == {"classes", "confusion"}
    assert drawn[3] == drawn[2] == drawn[1]


def test_classes_that_say_nothing_are_refused(
    digits_folder: Path, tmp_path: Path, classes: Path
) -> None:
    with pytest.raises(InputError, match="digits has classes of its own: leave labels out"):
        rebuild_set(digits_folder, 4, labels=classes)
    images = [small_images(tmp_path / name) for name in ("a.npy", "b.npy")]
    with pytest.raises(InputError, match="labels are of the training images"):
        SweepOptions.checked(dataset=images[0], test=images[1], labels=str(classes))
    folder = learn(tmp_path / "runs", (2,), dataset=images[0], test=images[1])
    with pytest.raises(InputError, match="labels are of the training images"):
        report(folder, labels=classes)
    learn(tmp_path / "runs", (2,), dataset=images[0])
    with pytest.raises(InputError, match="holds several experiments: give the folder of one"):
        report(tmp_path / "runs", labels=classes)
    classes.write_text("wide\n")
    with pytest.raises(InputError, match="has 1 lines for the 12 images"):
        learn(tmp_path / "never", (2,), dataset=images[0], labels=str(classes))
    assert not (tmp_path / "never").exists()
