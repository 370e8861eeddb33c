"""Images that dictionaries are scored on: a share of a file's, or another file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.experiment import open_experiment
from analysis.html_report.page.provenance import commands
from analysis.reconstruction.image_set import rebuild_set
from pipeline import SweepOptions, sweep
from pipeline.config import PatchOptions
from storage import ImageOptions, ImageSource, InputError, open_patches
from storage.images.views import held_out
from tests.oracles import cut_by_loops

IMAGES = np.random.default_rng(0).integers(1, 4000, (20, 12, 14)).astype(np.uint16)


def learned(folder: Path, images: np.ndarray, **options: object) -> tuple[dict[str, object], Path]:
    np.save(folder / "mine.npy", images)
    given = {"dataset": str(folder / "mine.npy"), "out": folder / "runs", "k": "4", "patch": 3}
    found = sweep(SweepOptions.checked(**(given | {"max_iter": 3} | options)))
    return found, Path(found["experiment"])


def test_a_share_of_the_images_is_held_out_and_found_again(tmp_path: Path) -> None:
    found, folder = learned(tmp_path, IMAGES, heldout=0.25)
    experiment = open_experiment(folder)
    train, test = (experiment.images(split) for split in ("train", "test"))
    assert (len(train), len(test)) == (15, 5)
    both = np.concatenate([train.read(slice(None)), test.read(slice(None))])
    assert {image.tobytes() for image in both} == {image.tobytes() for image in IMAGES}
    assert found["dictionaries"][0]["heldout_mse"] > 0
    store = experiment.patches("test")
    assert store.n_rows == 5 * 10 * 12
    # one range for both, whatever the brightest pixel of each part is
    assert store.source["range"] == experiment.patches("train").source["range"] == [0, 4095]


def test_of_one_image_the_lower_rows_are_held_out(tmp_path: Path) -> None:
    image = IMAGES[:1, :, :].repeat(3, axis=1)
    _, folder = learned(tmp_path, image, heldout=0.2)
    experiment = open_experiment(folder)
    train, test = (experiment.images(split).read(slice(None)) for split in ("train", "test"))
    np.testing.assert_array_equal(np.concatenate([train, test], axis=1), image)
    assert test.shape == (1, 7, 14)  # 0.2 of 36 rows
    assert experiment.patches("train").n_rows + experiment.patches("test").n_rows < 34 * 12


def test_other_images_are_scored_on(tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", IMAGES[:4])
    found, folder = learned(tmp_path, IMAGES[4:], test=str(tmp_path / "other.npy"))
    experiment = open_experiment(folder)
    np.testing.assert_array_equal(experiment.images("test").read(slice(None)), IMAGES[:4])
    assert found["dictionaries"][0]["heldout_mse"] > 0
    assert open_patches(experiment.patches("test").path).source["name"] == "other"


def test_a_mask_for_all_holds_for_other_images_too(tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", IMAGES[:4])
    mask = np.zeros((1, 12, 14), np.uint8)
    mask[0, 3:, :10] = 1
    np.save(tmp_path / "mask.npy", mask)
    given = {"test": str(tmp_path / "other.npy"), "mask": str(tmp_path / "mask.npy")}
    found, folder = learned(tmp_path, IMAGES[4:], **given)
    experiment = open_experiment(folder)
    for split, images in (("train", IMAGES[4:]), ("test", IMAGES[:4])):
        rows, expected = (
            experiment.patches(split).array[:],
            cut_by_loops(images[:, 3:, :10], 3, 3, 1, 0),
        )
        np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])
        np.testing.assert_array_equal(experiment.images(split).read(slice(None)), images)
    assert found["dictionaries"][0]["heldout_mse"] > 0
    (command,) = commands(experiment)
    assert "--test ./other.npy" in command
    assert "--mask ./mask.npy" in command
    np.save(tmp_path / "mask.npy", mask.repeat(16, axis=0))
    with pytest.raises(InputError, match="has 16 images, those of the training images: give one"):
        learned(tmp_path, IMAGES[4:], **given)
    np.save(tmp_path / "mask.npy", mask)
    np.save(tmp_path / "other.npy", IMAGES[:4, 1:])
    with pytest.raises(InputError, match=r"the sizes of .*other.npy are expected, or one for all"):
        learned(tmp_path, IMAGES[4:], **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "digits", "heldout": 0.1}, "digits has test images of its own"),
        ({"dataset": "mnist", "test": "a.npy"}, "mnist has test images of its own"),
        ({"dataset": "a.npy", "test": "digits"}, r"test digits is a data set .* as \./digits"),
        ({"dataset": "a.npy", "heldout": 0.1, "test": "b.npy"}, "give one of them"),
        ({"dataset": "a.npy", "heldout": 1}, "heldout 1 is not valid"),
        ({"dataset": "a.npy", "threshold": 0.1, "keep": "all"}, "leave one of them out"),
        ({"dataset": "a.npy", "sample": "none"}, "a number of patches as in 1e6"),
        ({"dataset": "a.npy", "channels": "r,g"}, "use numbers from 0 on"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        PatchOptions.checked(**options)


def test_a_part_that_is_too_small_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the test images are parts \(heldout\): patch 3x3"):
        learned(tmp_path, IMAGES[:1], heldout=0.1)
    with pytest.raises(InputError, match="too few rows"):
        held_out(ImageSource("a", "train", IMAGES[:1, :1]).reader, 0.5, True)


def test_folders_are_classes_of_both_parts(tmp_path: Path) -> None:
    for number, image in enumerate((IMAGES[:12] // 16).astype(np.uint8)):
        place = tmp_path / "photos" / ("cat" if number % 3 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    given = {"dataset": str(tmp_path / "photos"), "heldout": 0.25}
    _, folder = learned(tmp_path, IMAGES, **given)
    experiment = open_experiment(folder)
    assert experiment.class_names == ("cat", "dog")
    names = {"train": [], "test": []}
    for split, found in names.items():
        labels, reader = experiment.labels(split), experiment.images(split).reader
        assert labels is not None
        for index, label in enumerate(labels):
            assert reader.name(index).startswith(experiment.class_names[label])
            found.append(reader.name(index))
    assert (len(names["train"]), len(names["test"])) == (9, 3)
    assert rebuild_set(folder, 4)["classes"]


def test_channels_are_chosen(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (3, 8, 9, 4)).astype(np.uint8)
    for channels in ((0, 2), (3,), (2, 0, 1)):
        source = ImageSource("any", "train", colour, ImageOptions(channels=channels))
        expected = colour[..., list(channels)]
        expected = expected[..., 0] if len(channels) == 1 else expected
        np.testing.assert_array_equal(source.read(slice(None)), expected)
        assert source.fingerprint == ImageSource("any", "train", expected).fingerprint
    with pytest.raises(InputError, match="has no channel 4: use numbers from 0 to 3"):
        ImageSource("any", "train", colour, ImageOptions(channels=(4,)))
    with pytest.raises(InputError, match="holds grey images"):
        ImageSource("any", "train", colour[..., 0], ImageOptions(channels=(0,)))
