"""The classes of an experiment's images: known, unknown, or not to be had."""

from pathlib import Path

import numpy as np
import pytest

from analysis import experiment as experiments
from analysis.experiment import Experiment, open_experiment
from storage import InputError, open_labels
from tests.test_analysis.test_html_report.small_runs import learn


@pytest.fixture
def digits(digits_folder: Path) -> Experiment:
    return open_experiment(digits_folder)


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

    monkeypatch.setattr(experiments, "open_labels", gone)
    for _ in range(2):
        assert digits.labels("test") is None
        assert "cannot download labels of digits" in str(digits.why_unlabelled("test"))
    assert sorted(asked) == [("test", 1), ("train", 1)]
    assert "the classes of the test images are missing" in caplog.text


def test_another_number_of_classes_than_images_is_refused(
    digits: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "open_labels", lambda *_, **__: np.zeros(7, np.int64))
    with pytest.raises(InputError, match="7 classes for the 1500 train images"):
        digits.labels("train")
