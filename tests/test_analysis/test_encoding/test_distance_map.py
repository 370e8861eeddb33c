"""Distances of pixels to a dictionary, and what stands out by them."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import xarray

from analysis import distance_map
from analysis.reconstruction import image_stack, overlap
from storage import InputError, PatchSpec, open_dictionaries, open_images
from tests.oracles import reflected, squared_distances
from tests.test_analysis.test_encoding.test_encode import BORDERS, node_of
from tests.test_analysis.test_reconstruction.test_reconstruct import as_tree, digit


def by_loops(image: np.ndarray, centroids: np.ndarray, spec: PatchSpec) -> np.ndarray:
    """Patch by patch, in float64."""
    size, grid = image.shape[:2], spec.grid(*image.shape[:2])
    if spec.border == "reflect":
        (image,) = reflected(image[np.newaxis], spec.rows, spec.cols)
    total, cover = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
    for row, col in np.ndindex(grid):
        top, left = row * spec.stride, col * spec.stride
        place = slice(top, top + spec.rows), slice(left, left + spec.cols)
        patch = image[place].reshape(1, -1)
        if patch.sum(dtype=np.float64) > spec.threshold * 255 * patch.size:
            flat = centroids.reshape(len(centroids), -1)
            total[place] += np.sqrt(squared_distances(patch, flat).min() / patch.size)
            cover[place] += 1
    with np.errstate(invalid="ignore"):
        total /= cover
    top, left = spec.before
    return total[top : top + size[0], left : left + size[1]]


def test_by_hand() -> None:
    # (10, 30) is 2 and 10 away from (12, 20), (30, 0) 18 and 20; pixel 1 lies in both.
    image = np.array([[10, 30, 0, 0, 0]], np.uint8)
    tree = as_tree(np.array([[[12, 20]]], np.float32), PatchSpec(1, 2))
    found = distance_map(image, tree.children["k00002"])
    first, second = np.sqrt((4 + 100) / 2), np.sqrt((18**2 + 20**2) / 2)
    expected = [[first, (first + second) / 2, second, np.nan, np.nan]]
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    assert found.dims == ("row", "col")
    assert float(found["score"]) == pytest.approx(second)


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("border", BORDERS)
def test_agrees_with_loops_whole_or_part_by_part(
    border: Literal["valid", "reflect"],
    channels: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = PatchSpec(3, 2, stride=2, threshold=0.2, border=border)
    images = np.stack([digit(*channels, seed=seed) for seed in range(3)])
    images[1] = 0
    node = node_of(spec, *channels)
    found = distance_map(images, node)
    for image, one in zip(images, found, strict=True):
        expected = by_loops(image, np.asarray(node["centroids"]), spec)
        np.testing.assert_allclose(one, expected, rtol=1e-12)
    np.testing.assert_array_equal(found["score"], np.fmax.reduce(found.values, axis=(1, 2)))
    assert np.isnan(found["score"][1])
    monkeypatch.setattr(image_stack, "WHOLE_VALUES", 60)
    monkeypatch.setattr(overlap, "BLOCK_VALUES", 16)
    xarray.testing.assert_identical(distance_map(images, node), found)


def test_a_foreign_object_stands_out(digits_folder: Path) -> None:
    node = open_dictionaries(digits_folder / "dictionaries.zarr").children["k00060"]
    images = open_images("digits", "test").images
    assert isinstance(images, np.ndarray)
    before = distance_map(images, node)
    spoiled = images.copy()
    spoiled[7, 1:4, 4:7] = np.array([[255, 0, 255], [0, 255, 0], [255, 0, 255]])  # no stroke
    found = distance_map(spoiled, node)
    assert found["score"].values.argmax() == 7
    assert found["score"][7] > before["score"].max()
    ((row, col),) = np.argwhere(found[7].values == float(found["score"][7]))
    assert 0 <= row <= 4
    assert 3 <= col <= 7
    others = np.delete(found.values, 7, axis=0), np.delete(before.values, 7, axis=0)
    np.testing.assert_array_equal(*others)


def test_what_does_not_fit_is_refused() -> None:
    for image in (digit(3)[np.newaxis], digit().astype(np.int64), digit()[:2]):
        with pytest.raises(InputError):
            distance_map(image, node_of(PatchSpec(3, 2)))
