"""Every measure of a run, each made once: on a sweep of the digits, and on images without more."""

from pathlib import Path

import numpy as np
import pytest

from analysis import (
    centroid_kinds,
    coverage,
    experiment_data,
    gallery,
    reconstruction_scores,
    usage,
)
from analysis.experiment import open_experiment
from analysis.html_report import measured as measures
from analysis.html_report.exploration import atlases, choose_images
from analysis.html_report.figures.style import styled
from analysis.html_report.measured import Measured
from analysis.html_report.sections import SECTIONS
from analysis.measures.kinds import kinds_of
from analysis.measures.patch_sample import sample_patches
from storage import ImageOptions, ImageSource, MemoryBudgetError, open_images, open_labels
from tests.test_analysis.test_html_report.small_runs import learn


@pytest.fixture
def digits(digits_folder: Path) -> Measured:
    return Measured(open_experiment(digits_folder))


@pytest.fixture
def alone(strokes_file: Path, tmp_path: Path) -> Measured:
    """Nothing is held out, one dictionary of one centroid, and an image without patches."""
    return Measured(open_experiment(learn(tmp_path, (1,), dataset=str(strokes_file))))


def test_images_are_opened_and_centroids_sorted_into_kinds_once(
    digits: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def counted_kinds(centroids: np.ndarray, largest: float) -> np.ndarray:
        asked.append(str(len(centroids)))
        return kinds_of(centroids, largest)

    def counted_images(dataset: str, split: str, data: Path, options: ImageOptions) -> ImageSource:
        asked.append(split)
        return open_images(dataset, split, data, options)

    monkeypatch.setattr(measures, "kinds_of", counted_kinds)
    monkeypatch.setattr(experiment_data, "open_images", counted_images)
    with styled():
        for section in SECTIONS:
            section.paragraphs(digits)
            section.caveats(digits)
            section.figures(digits)
    choose_images(digits)
    atlases(digits, digits.sizes)
    assert sorted(asked) == ["12", "4", "60", "test", "train"]


def test_kinds_and_usage_are_those_of_the_public_functions(digits: Measured) -> None:
    assert digits.kind_shares.equals(centroid_kinds(digits.experiment.dictionaries))
    assert digits.usage[12].equals(usage(digits.experiment.nodes[12]))
    assert digits.score("mse", 12) == digits.experiment.nodes[12].attrs["mse"]


def test_where_few_levels_are_used_page_and_python_go_by_the_same_range(tmp_path: Path) -> None:
    """16 bits of which few are used, beside one pixel that is far brighter."""
    images = np.random.default_rng(0).integers(300, 600, (60, 9, 10), np.uint16)
    images += np.arange(0, 2500, 250, dtype=np.uint16)  # darker on the left
    images[0, 4, 5] = 60_000
    np.save(tmp_path / "dark.npy", images)
    found = Measured(open_experiment(learn(tmp_path, (4,), dataset=str(tmp_path / "dark.npy"))))
    node, shown = found.experiment.dictionary(4), found.pictures
    assert shown.narrowed
    assert 300 <= shown.black < shown.white < 3000
    assert found.pixels.span == 65535
    assert found.score("psnr", 4) == pytest.approx(
        10 * np.log10(65535**2 / node.attrs["mse"]), abs=1e-9
    )
    assert (found.kinds[4] != 0).all()  # not flat
    assert found.kind_shares.equals(centroid_kinds(found.experiment.dictionaries))
    assert found.coverage[4]["epsilon"].values[-1] == shown.span
    lines = gallery(node, scale=1)
    row, col = np.argwhere(lines.order.values == 2)[0]
    tile = lines.image.values[row * 6 + 1 : row * 6 + 6, col * 6 + 1 : col * 6 + 6, 0]
    levels = (found.experiment.centroids(4)[2].astype(float) - shown.black) / shown.span
    np.testing.assert_array_equal(tile, np.rint(255 * np.clip(levels, 0, 1)))


@pytest.mark.parametrize(("rows", "values"), [(1000, 10**9), (10**9, 25_024)])
def test_every_dictionary_covers_the_same_held_out_patches(
    digits: Measured, rows: int, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "COVERED_ROWS", rows)
    monkeypatch.setattr(measures, "COVERED_VALUES", values)
    assert list(digits.coverage) == [4, 12, 60]
    sample = sample_patches(digits.experiment.patches("test"), 1000)
    for k, one in digits.coverage.items():
        assert int(one["rows"]) == 1000
        expected = coverage(digits.experiment.nodes[k], sample)
        np.testing.assert_array_equal(one["within"], expected["within"])


def test_patches_of_several_large_images_are_covered(tmp_path: Path) -> None:
    """The first rows of such a store are all of one image."""
    images = np.random.default_rng(0).integers(1, 256, (4, 260, 260), np.uint8)
    np.save(tmp_path / "large.npy", images)
    folder = learn(tmp_path, (2,), dataset=str(tmp_path / "large.npy"))
    found = Measured(open_experiment(folder))
    assert found.stores["train"].offsets[1] >= measures.COVERED_ROWS
    assert int(found.coverage[2]["rows"]) == measures.COVERED_ROWS
    assert sorted(found.coverage[2]["worst_image"].values.tolist()) == [0, 1, 2, 3]


def test_all_test_images_are_scored_with_their_classes(digits: Measured) -> None:
    assert list(digits.image_scores) == sorted({4, digits.told, 60})
    source = digits.experiment.images("test")
    for k, one in digits.image_scores.items():
        expected = reconstruction_scores(source, digits.experiment.dictionaries[f"k{k:05d}"])
        np.testing.assert_array_equal(one["mse"], expected["mse"])
        np.testing.assert_array_equal(one["label"], open_labels("digits", "test"))
        np.testing.assert_array_equal(one["image"], np.arange(297))


@pytest.mark.parametrize("images", [1, 23, 60])
def test_without_test_images_training_images_are_drawn(
    alone: Measured, strokes: np.ndarray, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "SCORED_VALUES", images * strokes[0].size)
    scores = alone.image_scores[1]
    drawn = scores["image"].values
    assert (alone.split, alone.unseen) == ("train", "training")
    assert sorted(alone.experiment.patches("train").order[:images]) == drawn.tolist()
    expected = reconstruction_scores(strokes, alone.experiment.dictionaries["k00001"])
    np.testing.assert_array_equal(scores["mse"], expected["mse"].values[drawn])
    assert "label" not in scores.coords


def test_of_many_dictionaries_some_are_shown_and_the_elbow_is_told_of(
    digits: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "SHOWN_SIZES", 2)
    assert digits.told == digits.elbow == 12  # though not shown
    assert list(digits.quantised) == [4, 60]
    assert [list(image.versions) for image in digits.typical] == [[4, 60]] * 2
    shown = [mse for _, mse in digits.typical[1].versions.values()]
    assert shown[1] < digits.composition.image_mse < shown[0]


@pytest.mark.parametrize("name", ["coverage", "image_scores"])
def test_the_cap_holds_for_what_is_streamed(digits: Measured, name: str) -> None:
    capped = Measured(digits.experiment, 50 << 20)
    with pytest.raises(MemoryBudgetError, match=r"more than the cap of 50\.0 MiB"):
        getattr(capped, name)
