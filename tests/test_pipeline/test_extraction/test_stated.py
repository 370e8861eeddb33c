"""What is stated of images: the same extraction under other words, and what cannot be meant."""

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import xarray
from PIL import Image

from analysis.experiment import open_experiment
from pipeline import SweepOptions, extract, sweep
from pipeline.extraction import build
from storage import ImageSource, InputError, IntegrityError, PatchSpec
from tests.oracles import reflected

IMAGES = np.random.default_rng(0).integers(1, 255, (4, 16, 16)).astype(np.uint8)


def save(folder: Path, name: str, images: np.ndarray) -> str:
    np.save(folder / name, images)
    return str(folder / name)


def test_the_same_extraction_under_other_words_is_found(tmp_path: Path) -> None:
    images, mask = save(tmp_path, "a.npy", IMAGES), save(tmp_path, "m.npy", IMAGES > 60)
    same = save(tmp_path, "m2.npy", IMAGES > 60)
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"layout": "NHW"}),
        ({}, {"on_error": "skip"}),
        ({"heldout": 0.5}, {"heldout": 0.45}),
        ({"mask": mask}, {"mask": same}),
    ]
    for first, second in pairs:
        made = extract(images, patch=1, out=tmp_path / "runs", **first)
        again = extract(images, patch=1, out=tmp_path / "runs", **second)
        assert again.reused
        assert again.store.path == made.store.path


@pytest.mark.parametrize(
    "test", [np.ones((2, 9, 9, 3), np.uint8), IMAGES.astype(np.uint16), IMAGES.astype(np.int8)]
)
def test_test_images_of_another_kind_are_refused(tmp_path: Path, test: np.ndarray) -> None:
    given = {"dataset": save(tmp_path, "a.npy", IMAGES), "test": save(tmp_path, "t.npy", test)}
    with pytest.raises(InputError, match=r"where the training images are uint8, without channels"):
        sweep(SweepOptions.checked(**given, out=tmp_path / "runs", k="2", max_iter=1))
    assert not (tmp_path / "runs").exists()


def test_held_out_signed_images_have_the_black_of_the_others(tmp_path: Path) -> None:
    scan = np.full((10, 9, 9), -1000, np.int16)
    scan[:, 3:5] = 40
    images = save(tmp_path, "a.npy", scan)
    for darkest in range(10):  # whichever part it falls to
        scan[darkest, 0, 0] = -1024
        np.save(images, scan)
        parts = [
            extract(images, patch=3, out=tmp_path, heldout=0.3, split=split).store
            for split in ("train", "test")
        ]
        assert parts[0].source["range"] == parts[1].source["range"]
        scan[darkest, 0, 0] = -1000


def test_a_mask_that_changes_half_way_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number}.png")
    mask = save(tmp_path, "m.npy", np.ones((4, 16, 16), np.uint8))
    count = build.PatchBuild.count

    def counted(self: build.PatchBuild) -> tuple[np.ndarray, np.ndarray]:
        found = count(self)
        np.save(mask, np.eye(16, dtype=np.uint8)[None].repeat(4, 0))
        return found

    monkeypatch.setattr(build.PatchBuild, "count", counted)
    with pytest.raises(IntegrityError, match="changed while patches were cut"):
        extract(tmp_path / "photos", patch=1, out=tmp_path / "runs", mask=mask)
    assert not list((tmp_path / "runs" / "patches").glob("*.zarr"))


def test_masked_pixels_in_lists_and_in_dask_are_no_pixels(tmp_path: Path) -> None:
    masked = np.ma.masked_greater(IMAGES, 200)
    lazy = dask.array.from_array(masked, chunks=(2, 16, 16), asarray=False)
    for images in (masked, list(masked), lazy):
        with pytest.raises(InputError, match="hold no data"):
            extract(images, patch=1, out=tmp_path / "no")
        left = extract(images, patch=1, out=tmp_path / "runs", nodata=0).store
        assert left.n_rows == (IMAGES <= 200).sum()
        assert left.array[:].max() <= 200


def test_named_axes_of_images_in_a_list_tell_their_order(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(1, 255, (16, 12, 3)).astype(np.uint8)
    named = xarray.DataArray(colour.transpose(2, 0, 1), dims=("channel", "y", "x"))
    store = extract([named], patch=4, out=tmp_path).store
    assert store.path == extract([colour], patch=4, out=tmp_path).store.path
    with pytest.raises(InputError, match="leave out layout"):
        extract([colour], patch=4, out=tmp_path, layout="CHW")


def test_what_would_be_ignored_is_refused(tmp_path: Path) -> None:
    source = ImageSource("mine", "train", IMAGES)
    with pytest.raises(InputError, match="the ImageSource states what its images are"):
        extract(source, patch=3, out=tmp_path, white=100)
    with pytest.raises(InputError, match="the PatchSpec says which patches are cut"):
        extract(IMAGES, patch=PatchSpec(3, 3), out=tmp_path, sample="10")
    assert extract(IMAGES, patch=3, out=tmp_path, sample=100).store.n_rows == 100
    assert extract(IMAGES, patch=3, out=tmp_path, heldout=0.5, split="test").store.n_rows > 0


def test_constant_floats_have_no_spread(tmp_path: Path) -> None:
    for level in (0.1, 0.7, 1 / 3):
        images = np.full((2, 9, 9), level)
        images[0, 4, 4] += 1e-6
        kept = extract(images, patch=3, out=tmp_path, keep="std>0").store.n_rows
        assert kept == 9


def test_a_moved_project_finds_its_mask_and_its_test_images(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    images, mask = save(here, "a.npy", IMAGES), save(here, "m.npy", IMAGES > 60)
    other = save(here, "t.npy", IMAGES[:2])
    for more in ({"mask": mask}, {"test": other}):
        given = SweepOptions.checked(
            dataset=images, out=here / "runs", k="2", max_iter=1, patch=3, **more
        )
        sweep(given)
    here.rename(tmp_path / "there")
    for folder in (tmp_path / "there" / "runs").glob("a-*"):
        experiment = open_experiment(folder)
        for split in experiment.splits:
            assert len(experiment.images(split).read(slice(None))) in (2, 4)


def test_a_moved_project_finds_globs_and_arrays_that_have_names(tmp_path: Path) -> None:
    here = tmp_path / "here"
    for number, image in enumerate(IMAGES):
        (here / "photos").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(here / "photos" / f"{number}.png")
    np.savez(here / "several.npz", a=IMAGES, b=IMAGES[:2], c=IMAGES > 60)
    arrays = {name: f"{here}/several.npz::{name}" for name in "abc"}
    for more in (
        {"dataset": f"{here}/photos/[0-9].png", "heldout": 0.5},
        {"dataset": arrays["a"], "test": arrays["b"]},
        {"dataset": arrays["a"], "mask": arrays["c"]},
    ):
        sweep(SweepOptions.checked(out=here / "runs", k="2", max_iter=1, patch=3, **more))
    here.rename(tmp_path / "there")
    folders = [path.parent for path in (tmp_path / "there" / "runs").glob("*/dictionaries.zarr")]
    assert len(folders) == 3
    for folder in folders:
        experiment = open_experiment(folder)
        for split in experiment.splits:
            assert len(experiment.images(split).read(slice(None))) in (2, 4)


@pytest.mark.parametrize(
    "rules",
    [
        {"nodata": 7},
        {"keep": "std>0.22"},
        {"threshold": 0.5, "white": 200},
        {"channels": (2, 0), "keep": "range>0.74"},
        {"layout": "HWCN", "stride": 2},
    ],
)
def test_a_reflected_border_goes_with_what_is_stated(
    tmp_path: Path, rules: dict[str, object]
) -> None:
    images = np.random.default_rng(0).integers(1, 201, (3, 9, 8, 4)).astype(np.uint8)
    images[:, ::4, ::5] = 7
    wide = reflected(images, 4, 3)
    if "layout" in rules:
        images, wide = (np.moveaxis(given, 0, -1) for given in (images, wide))
    given = {"patch": (4, 3), "out": tmp_path, **rules}
    expected = extract(wide, **given).store.array[:]
    found = extract(images, border="reflect", **given).store.array[:]
    assert 0 < len(found) < 3 * 9 * 8
    np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])
