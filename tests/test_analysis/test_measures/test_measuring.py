"""What a report measures: coverage at every K, and scores of the images it may score."""

from pathlib import Path

import numpy as np
import pytest

from analysis import coverage, reconstruction_scores
from analysis import experiment as experiments
from analysis.experiment import Experiment, open_experiment
from analysis.html_report.investigation import investigate
from analysis.measures import measuring
from analysis.measures.patch_sample import sample_patches
from pipeline import SweepOptions, sweep
from storage import InputError, MemoryBudgetError, open_labels

CAP = 1 << 30


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    out = tmp_path_factory.mktemp("runs")
    options = SweepOptions(out=out, k=(2, 4, 8, 30), max_iter=3, breathing=0, device="cpu")
    return open_experiment(Path(sweep(options)["experiment"]))


@pytest.fixture
def strokes_experiment(strokes_file: Path, tmp_path: Path) -> Experiment:
    """Nothing is held out, one dictionary of one centroid, and an image without patches."""
    options = SweepOptions(dataset=str(strokes_file), out=tmp_path, k=(1,), breathing=0)
    return open_experiment(Path(sweep(options)["experiment"]))


@pytest.mark.parametrize(("rows", "values"), [(1000, 10**9), (10**9, 25_024)])
def test_every_dictionary_covers_the_same_held_out_patches(
    digits: Experiment, rows: int, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "COVERED_ROWS", rows)
    monkeypatch.setattr(measuring, "COVERED_VALUES", values)
    found = measuring.measure_coverage(digits, CAP)
    assert list(found) == [2, 4, 8, 30]
    store = digits.store("test")
    for k, one in found.items():
        assert (one.attrs["split"], one.attrs["k"], int(one["rows"])) == ("test", k, 1000)
        expected = coverage(digits.nodes[k], sample_patches(store, 1000))
        np.testing.assert_array_equal(one["within"], expected["within"])


def test_all_test_images_are_scored_with_their_classes(digits: Experiment) -> None:
    found = measuring.measure_scores(digits, [2, 30], CAP)
    assert list(found) == [2, 30]
    source = digits.images("test")
    for k, one in found.items():
        expected = reconstruction_scores(source, digits.tree[f"k{k:05d}"])
        np.testing.assert_array_equal(one["mse"], expected["mse"])
        np.testing.assert_array_equal(one["label"], open_labels("digits", "test"))
        np.testing.assert_array_equal(one["image"], np.arange(297))
        assert one.attrs["split"] == "test"


@pytest.mark.parametrize("images", [1, 23, 60])
def test_without_test_images_training_images_are_drawn(
    strokes_experiment: Experiment,
    strokes: np.ndarray,
    images: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measuring, "SCORED_VALUES", images * strokes[0].size)
    scores = measuring.measure_scores(strokes_experiment, [1], CAP)[1]
    drawn = scores["image"].values
    assert scores.attrs["split"] == "train"
    assert sorted(strokes_experiment.store("train").order[:images]) == drawn.tolist()
    expected = reconstruction_scores(strokes, strokes_experiment.tree["k00001"])
    np.testing.assert_array_equal(scores["mse"], expected["mse"].values[drawn])
    assert "label" not in scores.coords


def test_images_whose_classes_are_not_to_be_had_are_scored_all_the_same(
    digits: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise InputError("cannot download the classes")

    monkeypatch.setattr(experiments, "open_labels", gone)
    fresh = open_experiment(digits.folder)
    scores = measuring.measure_scores(fresh, [2], CAP)[2]
    assert "label" not in scores.coords
    assert scores.sizes["image"] == 297
    assert "cannot download the classes" in str(fresh.why_unlabelled("test"))


def test_the_material_holds_both(digits: Experiment, strokes_experiment: Experiment) -> None:
    found, material = investigate(digits)
    assert list(material.coverage) == [2, 4, 8, 30]
    assert list(material.scores) == sorted({2, found.elbow or 2, 30})
    _, material = investigate(strokes_experiment)
    assert list(material.coverage) == list(material.scores) == [1]


def test_the_cap_holds_for_both(digits: Experiment) -> None:
    for measure in (
        lambda: measuring.measure_coverage(digits, 50 << 20),
        lambda: measuring.measure_scores(digits, [2], 50 << 20),
    ):
        with pytest.raises(MemoryBudgetError, match=r"more than the cap of 50\.0 MiB"):
            measure()
