"""Several experiments side by side, and training images that are learned from shifted, too."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from analysis import classify, features, report
from analysis.classification import squared_hinge, study
from analysis.classification.classify import kept
from analysis.classification.ridge import Fit
from analysis.classification.squared_hinge import StoredFeatures
from analysis.experiment import open_experiment
from storage import open_images
from storage.layout import ExperimentLayout
from tests.process_trees import Ran, run_measured
from tests.test_analysis.commands import invoke, refused, run
from tests.test_analysis.test_html_report.small_runs import learn, small_images

SPLITS = ("train", "test")
MIB = 1 << 20


@pytest.fixture(scope="module")
def small_patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits by patches of 3 × 3, K = 12 and 20."""
    return learn(tmp_path_factory.mktemp("small_patches"), (12, 20), patch=3)


@pytest.fixture(scope="module")
def found(digits_copy: Path, small_patches: Path) -> dict[str, Any]:
    """What the command finds of both, shifted, once."""
    return run("classify", digits_copy, small_patches, "--shift", 1)


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.classification.classify.write_whole", lambda *_: None)


@pytest.fixture
def learned_from(monkeypatch: pytest.MonkeyPatch) -> list[tuple[StoredFeatures, np.ndarray]]:
    """Features, and which images each classifier of many learned from, as `classify` goes on."""
    seen, problem = [], squared_hinge._Problem

    def watched(features: StoredFeatures, chosen: np.ndarray, classes: int) -> object:
        seen.append((features, chosen))
        return problem(features, chosen, classes)

    monkeypatch.setattr(squared_hinge, "_Problem", watched)
    return seen


def side_by_side(folders: list[Path], k: int, split: str) -> np.ndarray:
    """Triangle features of quadrants by each, one after the other."""
    images = open_images("digits", split)
    nodes = [open_experiment(folder).dictionary(k) for folder in folders]
    made = [features(images, node, "triangle", "quadrants").values for node in nodes]
    return np.concatenate(made, axis=1)


def test_features_of_experiments_stand_side_by_side(
    digits_copy: Path,
    small_patches: Path,
    nothing_kept: None,
    learned_from: list[tuple[StoredFeatures, np.ndarray]],
) -> None:
    found = classify(digits_copy, 12, beside=[small_patches])
    folders = [digits_copy, small_patches]
    rows = {split: side_by_side(folders, 12, split) for split in SPLITS}
    (row,) = found["by_k"]
    assert row["width"] == rows["train"].shape[1] == 2 * 4 * 12
    scaler = StandardScaler().fit(rows["train"])
    scaled = scaler.transform(rows["train"])
    stored = learned_from[0][0].rows(np.arange(len(scaled)))
    np.testing.assert_allclose(stored, scaled, atol=2e-4)
    labels = {split: open_experiment(digits_copy).labels(split) for split in SPLITS}
    model = LinearSVC(C=1 / (2 * row["penalty"] * 1500), dual=False, intercept_scaling=100)
    told = model.fit(scaled, labels["train"]).predict(scaler.transform(rows["test"]))
    assert abs(int(np.count_nonzero(told != labels["test"])) - row["test_errors"]) <= 6
    alone = classify(digits_copy, 12)["by_k"][0]
    assert row["validation_accuracy"] > alone["validation_accuracy"]


def test_of_no_k_those_that_all_have_are_taken(found: dict[str, Any], digits_copy: Path) -> None:
    assert [row["k"] for row in found["by_k"]] == [12]
    assert (found["asked"], found["shift"]) == ([12], 1)  # a report leaves it as it is
    (other,) = found["beside"]
    assert other["patch"] == [3, 3]
    assert other["experiment"].startswith("digits-")
    own, beside = found["by_k"][0]["dictionary"], found["by_k"][0]["beside"]
    assert len({own, *beside}) == 2


def test_results_name_the_others_and_so_does_the_report(
    digits_copy: Path, small_patches: Path, found: dict[str, Any], tmp_path: Path
) -> None:
    told = invoke("classify", digits_copy, small_patches, "--k", 12, "--shift", 1)
    words = f"beside those of {small_patches.name}, which are shifted by 1 pixel, too:"
    assert f"triangle features, quadrants, {words}" in told
    folder = Path(shutil.copytree(digits_copy.parent, tmp_path / "copy")) / digits_copy.name
    assert kept(open_experiment(folder)) == json.loads(
        ExperimentLayout(folder).classification.read_bytes()
    )
    (made,) = report(folder)
    text = Path(made["report"]).read_text().replace("\u00a0", " ")
    assert "by K = 12 centroids of each of 2 experiments" in text
    assert f"patches stand beside those of 3 × 3 ({small_patches.name})" in text
    assert "with its pools moved by 1 pixel up, down, left and right" in text


def test_results_of_before_are_read(digits_copy: Path, tmp_path: Path) -> None:
    classify(digits_copy, 4)
    folder = Path(shutil.copytree(digits_copy, tmp_path / "copy"))
    path = ExperimentLayout(folder).classification
    result = json.loads(path.read_bytes())
    old = {name: one for name, one in result.items() if name not in ("beside", "shift")}
    path.write_text(json.dumps(old | {"schema": 2}))
    assert kept(open_experiment(folder)) == result | {"schema": 2}


@pytest.mark.parametrize("k", [4, 60])
def test_a_judged_image_is_not_learned_from_in_any_copy(
    digits_copy: Path, k: int, nothing_kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged, count = list[int](), squared_hinge._Problem.errors

    def errors(self: Any, weights: np.ndarray, which: np.ndarray) -> int:
        assert not (which & self._chosen).any()
        assert self._n == 5 * self._chosen.sum() == 6000
        own = self._features.rows(np.flatnonzero(which)).reshape(300, 5, -1)
        assert (own[:, 0] != own[:, 1]).any()
        told = (own[:, 0] @ weights[:-1] + weights[-1]).argmax(axis=1)
        judged.append(int(np.count_nonzero(told != self._features.labels[which])))
        found = count(self, weights, which)
        assert abs(found - judged[-1]) <= 1  # of five times as many there are more
        return found

    monkeypatch.setattr(squared_hinge._Problem, "errors", errors)
    monkeypatch.setattr(study, "LABELS", ())
    (row,) = classify(digits_copy, k, shift=1)["by_k"]
    assert row["validation_images"] == 300
    assert min(judged) > 0


def test_few_images_are_left_out_with_all_their_copies(
    digits_copy: Path, nothing_kept: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[tuple[np.ndarray, np.ndarray, int, Fit]]()
    fit_from_few = study.fit_from_few

    def watched(rows: np.ndarray, labels: np.ndarray, classes: int, copies: int) -> Fit:
        fit = fit_from_few(rows, labels, classes, copies)
        seen.append((rows, labels, copies, fit))
        return fit

    monkeypatch.setattr(study, "fit_from_few", watched)
    monkeypatch.setattr(study, "LABELS", (3,))
    monkeypatch.setattr(study, "DRAWS", 2)
    classify(digits_copy, 60, shift=1)
    rows, labels, copies, fit = seen[0]
    assert (rows.shape, copies, fit.judged) == ((150, 240), 5, 30)
    np.testing.assert_array_equal(labels, np.repeat(labels[::5], 5))


def test_experiments_that_do_not_go_together_are_refused(
    digits_copy: Path, small_patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(*given: object) -> str:
        return refused(capsys, "classify", *given)

    assert "an experiment is given twice" in line(digits_copy, digits_copy)
    assert "no dictionary of K = 60: use 12, 20" in line(digits_copy, small_patches, "--k", 60)
    few = learn(tmp_path / "few", (3,), patch=3)
    said = line(digits_copy, few)
    assert "share no K (4, 12, 60; 3): sweep one of them with a K of the others" in said
    images, classes = small_images(tmp_path / "images.npy"), tmp_path / "classes.csv"
    classes.write_text("index,class\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(12)))
    fourth, half = (
        learn(tmp_path / share, (3,), dataset=images, heldout=share) for share in ("0.25", "0.5")
    )
    said = line(fourth, half, "--labels", classes)
    assert f"{half} is of other training or test images than {fourth}, so that" in said
    assert "is of other training or test images than" in line(few, fourth)


def test_where_the_disk_has_no_room_it_is_refused_beforehand(
    digits_copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(digits_copy)
    monkeypatch.setattr(study, "lies_in_memory", lambda _: False)
    monkeypatch.setattr(study.shutil, "disk_usage", lambda _: usage._replace(free=8_639_999))
    line = refused(capsys, "classify", digits_copy, "--shift", 1, "--k", "4,12,60")
    assert "features take 8,640,000 bytes of disk, but 8,639,999 are free" in line


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's figures from /proc")
def test_shifted_images_are_learned_from_within_what_is_projected(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(0), 2000
    classes = np.arange(n) % 4
    images = rng.integers(0, 60, (n, 28, 28), np.uint8)
    for label in range(4):
        images[classes == label, 6 * label : 6 * label + 9] += 80
    np.save(tmp_path / "images.npy", images)
    lines = "".join(f"{place},{label}\n" for place, label in enumerate(classes))
    (tmp_path / "classes.csv").write_text("index,class\n" + lines)
    given = {"dataset": str(tmp_path / "images.npy"), "heldout": "0.1", "mode": "minibatch"}
    folders = [learn(tmp_path / str(patch), (400,), patch=patch, **given) for patch in (5, 9)]

    def classified(memory: int) -> Ran:
        labels = ("--labels", tmp_path / "classes.csv", "--shift", 2, "--memory", memory)
        return run_measured([*map(str, ("-m", "analysis", "classify", *folders, *labels))])

    line = classified(200 * MIB).err
    needed = re.search(r"raise it \(MEMORY=(\d+)MiB\)", line)
    assert needed is not None, line
    ran = classified(cap := int(needed.group(1)) * MIB)
    assert ran.code == 0, ran.err
    print(f"{ran.peak / MIB:.0f} of {cap / MIB:.0f} MiB")
    assert ran.peak <= cap
