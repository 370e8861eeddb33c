"""How much of the class the digits' dictionaries carry."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from analysis import classify, features, report
from analysis.classification import study
from analysis.classification.classify import kept
from analysis.classification.known_images import KnownImages
from analysis.experiment import open_experiment
from analysis.html_report import classes
from pipeline import Scheduler
from pipeline.upkeep.drop import drop
from storage import InputError, open_images
from storage.layout import ExperimentLayout
from tests.test_analysis.commands import invoke, refused, run
from tests.test_analysis.test_html_report.small_runs import learn, small_images


@pytest.fixture(scope="module")
def found(digits_copy: Path) -> dict[str, Any]:
    """What the command finds of the digits, once."""
    return run("classify", digits_copy)


def test_digits_are_told_by_triangle_features_of_quadrants(found: dict[str, Any]) -> None:
    best = next(row for row in found["by_k"] if row["k"] == found["best"])
    assert [row["k"] for row in found["by_k"]] == [4, 12, 60]
    assert [row["width"] for row in found["by_k"]] == [16, 48, 240]
    assert found["best"] == 60
    assert best["accuracy"] > 0.93
    assert best["low"] < best["accuracy"] < best["high"]
    assert found["by_k"][0]["accuracy"] < found["by_k"][2]["accuracy"]
    confusion = np.array(found["confusion"])
    assert confusion.shape == (10, 10)
    assert confusion.sum() == 297
    assert 297 - np.trace(confusion) == best["test_errors"]
    labels = open_experiment(Path(found["path"]).parent).labels("test")
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(np.asarray(labels)))


def test_more_labels_tell_more(found: dict[str, Any]) -> None:
    ten, hundred = found["learning"]
    assert (ten["labels_per_class"], hundred["labels_per_class"]) == (10, 100)
    assert len(ten["accuracies"]) == study.DRAWS
    assert 0.6 < ten["mean"] < hundred["mean"] < 0.97
    assert ten["mean"] == pytest.approx(np.mean(ten["accuracies"]))
    assert ten["deviation"] == pytest.approx(np.std(ten["accuracies"], ddof=1))


def test_the_classifier_errs_as_often_as_that_of_scikit_learn(
    found: dict[str, Any], digits_copy: Path
) -> None:
    node = open_experiment(digits_copy).dictionary(60)
    rows = {
        split: features(open_images("digits", split), node, "triangle", "quadrants").values
        for split in ("train", "test")
    }
    labels = {split: open_experiment(digits_copy).labels(split) for split in rows}
    scaler = StandardScaler().fit(rows["train"])
    best = next(row for row in found["by_k"] if row["k"] == 60)
    assert best["classifier"] == "squared hinge"
    assert [one["classifier"] for one in found["learning"]] == ["ridge", "squared hinge"]
    model = LinearSVC(
        C=1 / (2 * best["penalty"] * len(rows["train"])), dual=False, intercept_scaling=100
    )
    model.fit(scaler.transform(rows["train"]), labels["train"])
    told = model.predict(scaler.transform(rows["test"]))
    assert abs(int(np.count_nonzero(told != labels["test"])) - best["test_errors"]) <= 6


def test_test_images_decide_nothing(
    digits_copy: Path, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other classes of test images the same classifiers are chosen."""
    true = KnownImages.labels.func  # type: ignore[attr-defined]

    def wrong(self: KnownImages) -> dict[str, np.ndarray]:
        labels = true(self)
        return labels | {"test": (labels["test"] + 1) % 10}

    with monkeypatch.context() as patch:
        patch.setattr(KnownImages, "labels", property(wrong))
        patch.setattr("analysis.classification.classify.write_whole", lambda *_: None)
        other = classify(digits_copy)
    chosen = ("k", "penalty", "validation_accuracy", "validation_images")
    for one, same in zip(other["by_k"], found["by_k"], strict=True):
        assert [one[name] for name in chosen] == [same[name] for name in chosen]
        assert one["accuracy"] < 0.2
    assert other["best"] == found["best"]


def test_many_and_few_images_choose_alike(
    digits_copy: Path, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By leaving each image out, as where there are more features than images."""
    monkeypatch.setattr(study.Study, "_few", lambda *_: True)
    monkeypatch.setattr("analysis.classification.classify.write_whole", lambda *_: None)
    other = classify(digits_copy, 60, memory=8 << 30)
    assert other["by_k"][0]["validation_images"] == 1500
    assert abs(other["by_k"][0]["accuracy"] - found["by_k"][2]["accuracy"]) < 0.02


def test_results_are_kept_and_people_are_told_in_words(digits_copy: Path, tmp_path: Path) -> None:
    told = invoke("classify", digits_copy, "--k", "4,12", "--features", "hard", "--pool", "image")
    assert "297 test images told by 1,500 training images, hard features, image:" in told
    assert "K = 12: " in told
    assert "wrong, squared hinge, penalty " in told
    assert "10 labels of each class, K = 12: " in told
    found = json.loads(ExperimentLayout(digits_copy).classification.read_bytes())
    assert [row["k"] for row in found["by_k"]] == [4, 12]
    assert (found["features"], found["pool"], found["asked"]) == ("hard", "image", [4, 12])
    folder = Path(shutil.copytree(digits_copy, tmp_path / "copy"))
    assert (kept(open_experiment(folder)), found["best"]) == (found, 12)
    drop(folder, [4])
    assert kept(open_experiment(folder)) == found | {"by_k": found["by_k"][1:]}
    drop(folder, [12])
    assert kept(open_experiment(folder)) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k", "5"], "has no dictionary of K = 5: use 4, 12, 60"),
        (["--k", "some"], "use numbers"),
        (["--pool", "9"], "grid:9 has more parts"),
        (["--features", "soft", "--tf-idf"], "tf-idf weighs words that are counted"),
        (["--memory", "10MiB"], "more than the cap of 10.0 MiB"),
        (["--shift", "1", "--pool", "image"], "a shift changes nothing where the whole image is"),
        (["--shift", "2"], "no shift of 2 pixels, as patches are 1 apart, and pools 2 wide: use"),
        (["--shift", "-1"], "no shift of -1 pixels"),
        (["--shift", "1", "--stride", "2", "--pool", "2"], "use multiples of 2 up to 0"),
        (["--shift", "much"], "'much' is not a valid integer"),
    ],
)
def test_bad_options_are_one_line(
    digits_copy: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert message in refused(capsys, "classify", digits_copy, *options)


def test_without_test_images_or_classes_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = small_images(tmp_path / "images.npy")
    folder = learn(tmp_path / "one", (3,), dataset=images)
    assert "has no test images" in refused(capsys, "classify", folder)
    folder = learn(tmp_path / "two", (3,), dataset=images, heldout="0.25")
    assert "no classes are known: say which" in refused(capsys, "classify", folder)
    (tmp_path / "classes.csv").write_text("index,class\n" + "".join(f"{i},a\n" for i in range(12)))
    line = refused(capsys, "classify", folder, "--labels", tmp_path / "classes.csv")
    assert "at least two of both are needed" in line


def test_images_of_several_sizes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for place in range(12):
        folder = tmp_path / "images" / "ab"[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(1, 256, (9 + place // 6, 9), np.uint8)
        Image.fromarray(pixels).save(folder / f"{place}.png")
    given = {"dataset": str(tmp_path / "images"), "heldout": "0.5"}
    experiment = learn(tmp_path / "runs", (3,), **given)
    assert "have several sizes" in refused(capsys, "classify", experiment)


@pytest.mark.slow
def test_a_small_experiment_s_report_classifies_by_itself(digits_copy: Path) -> None:
    ExperimentLayout(digits_copy).classification.unlink(missing_ok=True)
    (made,) = report(digits_copy)
    text = Path(made["report"]).read_text()
    assert "What do the codes carry?" in text
    assert "of the 297 test images" in text
    names = {Path(name).stem for name in made["figures"]}
    assert {"accuracy", "learning", "confusion"} <= names
    assert ExperimentLayout(digits_copy).classification.is_file()
    (again,) = report(digits_copy, only_stale=True)
    assert not again["made"]
    run("classify", digits_copy, "--k", 4)
    (anew,) = report(digits_copy, only_stale=True)
    assert anew["made"]
    assert "K = 4 centroids" in Path(made["report"]).read_text().replace("\u00a0", " ")


def test_a_large_experiment_s_report_tells_the_command(
    digits_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ExperimentLayout(digits_copy).classification.unlink(missing_ok=True)
    monkeypatch.setattr(classes, "PRODUCTS", 1000)
    (made,) = report(digits_copy)
    text = Path(made["report"]).read_text()
    assert f"patchdict classify {digits_copy.parent.name}/{digits_copy.name}" in text
    assert not ExperimentLayout(digits_copy).classification.exists()
    assert "accuracy" not in {Path(name).stem for name in made["figures"]}


def test_without_classes_there_is_no_section(tmp_path: Path) -> None:
    folder = learn(tmp_path / "runs", (3,), dataset=small_images(tmp_path / "images.npy"))
    (made,) = report(folder)
    assert "What do the codes carry?" not in Path(made["report"]).read_text()


def test_a_k_that_does_not_fit_is_left_out(
    digits_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.classification.classify.write_whole", lambda *_: None)
    needed = study.Study._needed
    monkeypatch.setattr(
        study.Study,
        "_needed",
        lambda self, k, others: (1 << 40, 0, 0) if k == 60 else needed(self, k, others),
    )
    found = classify(digits_copy)
    assert [row["k"] for row in found["by_k"]] == [4, 12]
    assert found["left_out"] == [60]
    with pytest.raises(InputError, match="no dictionary of K = 7"):
        classify(digits_copy, 7)


def test_features_of_two_k_that_lie_in_memory_are_both_counted(
    digits_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = list[int]()
    monkeypatch.setattr(study, "Scheduler", lambda _, room: planned.append(room) or Scheduler())
    monkeypatch.setattr("analysis.classification.classify.write_whole", lambda *_: None)
    rooms = []
    for in_memory in (False, True):
        monkeypatch.setattr(study, "lies_in_memory", lambda _, said=in_memory: said)
        classify(digits_copy, [4, 12, 60])
        rooms.append([planned.pop(0) for _ in range(3)])
    features = [0, 4 * 1500 * 4 * 4, 4 * 1500 * 4 * 12]  # of the K before: quadrants
    assert np.subtract(*rooms).tolist() == features
