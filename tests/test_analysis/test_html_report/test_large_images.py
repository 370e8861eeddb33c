"""Reports on images that are cut into tiles, and on unequal ones: what they say is so."""

from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import storage.tiles
from analysis import coverage, report
from analysis.experiment import open_experiment
from analysis.html_report import exploration
from analysis.html_report import measured as measures
from analysis.html_report import samples as report_samples
from analysis.html_report.exploration import choose_images
from analysis.html_report.measured import Measured
from pipeline import cut_patches
from storage import open_patches
from tests.oracles import cut_by_loops, reflected
from tests.test_analysis.test_html_report.small_runs import learn

PATCH = {"patch": (4, 6), "stride": 3}


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if images of some thousand pixels were large ones."""
    monkeypatch.setattr(storage.tiles, "WHOLE_BYTES", 60_000)
    monkeypatch.setattr(storage.tiles, "TILE_BYTES", 30_000)
    monkeypatch.setattr(measures, "MIDDLE_VALUES", 1200)
    monkeypatch.setattr(exploration, "CROPPED_VALUES", 600)


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, shape, np.uint8)


@pytest.fixture
def tiled(tmp_path: Path) -> Path:
    """The experiment of 20 images, each of several tiles."""
    np.save(tmp_path / "tiled.npy", np.stack([noise(seed, 60, 80) for seed in range(20)]))
    return learn(tmp_path / "out", (2, 5), dataset=str(tmp_path / "tiled.npy"), **PATCH)


@pytest.fixture
def unequal(tmp_path: Path) -> Path:
    """The experiment of a folder of colour images, one of them held out."""
    (tmp_path / "mixed").mkdir()
    for index, size in enumerate([(20, 64), (64, 40), (31, 31), (50, 50)]):
        Image.fromarray(noise(index, *size, 3)).save(tmp_path / f"mixed/{index}.png")
    return learn(tmp_path / "out", (3,), dataset=str(tmp_path / "mixed"), heldout=0.3, **PATCH)


def read(folder: Path) -> str:
    """The words of the report's page."""
    page = Path(report(folder)[0]["report"])
    return unescape(page.read_text(encoding="utf-8")).replace("\u00a0", " ")


def test_of_each_image_only_the_worst_patch_whatever_its_tiles(tiled: Path) -> None:
    experiment = open_experiment(tiled)
    store = open_patches(experiment.patches("train").path)
    assert len(store.order) > 40
    rows, images = store.array[:], np.repeat(store.order, np.diff(store.offsets))
    centroids = experiment.centroids(5)
    flat = centroids.reshape(5, -1).astype(float)
    errors = np.sqrt(((rows[:, np.newaxis] - flat) ** 2).mean(axis=2).min(axis=1))
    found = coverage(centroids, store, worst=16)
    worst = sorted(((errors[images == i].max(), i) for i in range(20)), reverse=True)[:16]
    np.testing.assert_allclose(found["worst_rmse"], [error for error, _ in worst])
    np.testing.assert_array_equal(found["worst_image"], [image for _, image in worst])
    # of fewer images than are asked for, one of each tile
    tiles = coverage(centroids, store, worst=30)
    assert tiles.sizes["worst"] == 30
    places = np.searchsorted(store.offsets, tiles["worst_row"], side="right") - 1
    assert len(set(places.tolist())) == 30
    np.testing.assert_array_equal(store.order[places], tiles["worst_image"])


@pytest.mark.usefixtures("undrawn")
def test_of_large_images_the_middle_is_shown_and_that_is_said(tiled: Path) -> None:
    words = read(tiled)
    order = open_experiment(tiled).patches("train").image_order
    samples = pd.read_csv(tiled / "figures/samples.csv")
    assert samples["image"].tolist() == order[:10].tolist()
    assert "60×80 pixels each. Of each the middle is shown, 28×39 pixels." in words
    assert "Of each the middle is shown, and told of alone: 19×27 of 60×80 pixels." in words
    assert "The middle of training image" in words
    assert "(28×39 of 60×80 pixels) has 108 windows" in words
    assert "The middles (28×39 pixels each) of 20 training images together" in words
    assert "kept patches, of which the middle: 28×39 of 60×80 pixels." in words
    assert "the worst first and at most one of an image" in words
    assert "20 training images of 60×80 pixels, uint8" in words


def test_a_middle_holds_patches_of_the_store_and_no_margin(tiled: Path) -> None:
    measured = Measured(open_experiment(tiled))
    made, image = measured.composition, measured.typical[-1]
    assert made.covered_mse == made.image_mse
    whole = measured.sources["train"].images[image.index]
    height, width = image.original.shape
    top, left = (60 - height) // 2 // 3 * 3, (80 - width) // 2 // 3 * 3
    np.testing.assert_array_equal(image.original, whole[top : top + height, left : left + width])


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "stride", [pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), 5]
)
def test_the_middle_of_images_with_a_reflected_border_has_patches_of_the_store(
    tmp_path: Path, stride: int
) -> None:
    np.save(tmp_path / "images.npy", np.stack([noise(seed, 40, 50) for seed in range(3)]))
    given = {"dataset": str(tmp_path / "images.npy"), "patch": (4, 6), "border": "reflect"}
    folder = learn(tmp_path / "out", (2, 5), stride=stride, **given)
    measured = Measured(open_experiment(folder))
    image, spec = measured.typical[-1].original, measured.experiment.spec
    rows = {row.tobytes() for row in measured.stores["train"].array[:]}
    cut = cut_patches(image[np.newaxis], spec.within)
    assert measured.composition.windows == measured.composition.patches == len(cut) > 9
    assert {row.tobytes() for row in cut} <= rows
    assert measured.scored_middle == image.shape
    assert measured.image_scores[5]["patches"].values.tolist() == [len(cut)] * 3
    words = read(folder)
    assert f"4×6 pixels, stride {stride}, border reflected, threshold 0" in words
    assert "--border reflect" in words


@pytest.mark.usefixtures("undrawn")
def test_parts_of_one_image_have_borders_of_their_own(tmp_path: Path) -> None:
    image = noise(0, 1, 40, 30)
    np.save(tmp_path / "one.npy", image)
    given = {"dataset": str(tmp_path / "one.npy"), "heldout": 0.3, "border": "reflect"}
    folder = learn(tmp_path / "out", (2,), patch=(5, 4), stride=4, **given)
    experiment = open_experiment(folder)
    for split, part in (("train", image[:, :28]), ("test", image[:, 28:])):
        expected = cut_by_loops(reflected(part, 5, 4), 5, 4, 4, 0)
        found = experiment.patches(split).array[:]
        np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])
        seen = choose_images(Measured(experiment))
        assert not seen.whole  # they are of two sizes
        cut = cut_patches(seen.images[split], seen.cut(experiment.spec))
        assert {row.tobytes() for row in cut} <= {row.tobytes() for row in expected}
    read(folder)


def test_the_middle_shrinks_with_the_memory_of_its_patches(
    tiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_samples, "PART_BYTES", 24 * 300 // 9)  # 300 pixels, at a stride of 3
    measured = Measured(open_experiment(tiled))
    images, whole = measured.middles("train", np.arange(2), measures.MIDDLE_VALUES)
    assert not whole
    assert images.shape == (2, 13, 18)
    assert measured.composition.windows == 4 * 5


def test_small_unequal_images_are_scored_whole(unequal: Path) -> None:
    measured = Measured(open_experiment(unequal))
    assert measured.scored_middle is not None
    measured = Measured(open_experiment(unequal))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measures, "MIDDLE_VALUES", 1 << 20)
        assert measured.scored_middle is None
        scores = measured.image_scores[3]
    np.testing.assert_array_equal(scores["pixels"], measured.sources["test"].sizes.prod(axis=1))


@pytest.mark.usefixtures("undrawn")
def test_rows_that_are_held_out_of_one_image_are_called_so(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", noise(0, 1, 60, 80))
    given = {"dataset": str(tmp_path / "one.npy"), "heldout": 0.3, **PATCH}
    folder = learn(tmp_path / "out", (2, 5), **given)
    words = read(folder)
    assert "patches of held-out rows of images" in words
    assert "of rows of images that were not learned from" in words
    assert "held-out images" not in words
    assert "These are all images; they are not chosen by class, because one.npy holds" in words
    assert "All training images and test images of one," in words


@pytest.mark.usefixtures("undrawn")
def test_the_command_has_what_was_stated_and_tells_of_no_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", noise(0, 1, 60, 80))
    np.save(tmp_path / "set.npy", np.ones((1, 60, 80), np.uint8))
    paths = {"dataset": str(tmp_path / "one.npy"), "mask": str(tmp_path / "set.npy")}
    folder = learn(tmp_path / "out", (2,), mask_by="centre", keep="std>0.01", **paths, **PATCH)
    words = read(folder)
    assert str(tmp_path) not in words
    for option in ("--mask ./set.npy", "--mask-by centre", "--keep 'std>0.01'"):
        assert option in words, option
    assert "uint8, mask ./set.npy, mask-by centre; SHA-256" in words
    assert "keep std>0.01; " in words
    assert "The mask, by which patches were chosen to learn from, is left aside here." in words


def test_unequal_images_are_told_of_by_their_range(unequal: Path) -> None:
    words = read(unequal)
    experiment = open_experiment(unequal)
    sizes = {split: experiment.images(split).sizes for split in ("train", "test")}
    (test,) = sizes["test"].tolist()
    reach = [sorted({*column}) for column in zip(*sizes["train"].tolist(), strict=True)]
    told = "×".join(f"{lengths[0]}–{lengths[-1]}" for lengths in reach)
    assert f"{told} pixels each (training images)" in words
    assert f"{test[0]}×{test[1]} pixels each (test images)" in words
    assert f"3 training images of {told} pixels, uint8, share held out 0.3" in words
    assert "--heldout 0.3" in words
    assert "1 test image, rebuilt with K = 3, has an MSE of" in words or "of 1 test image," in words
