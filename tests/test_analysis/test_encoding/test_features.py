"""Features in memory, against loops over the positions of patches."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray

from analysis import features
from analysis.encoding import encoding, pooling
from analysis.encoding.encoding import Encoding
from analysis.encoding.pooling import FeatureOptions, Features
from storage import ImageSource, InputError, PatchSpec, open_dictionaries, open_images
from tests.oracles import squared_distances
from tests.test_analysis.test_encoding.test_encode import codes_by_loops, node_of
from tests.test_analysis.test_html_report.small_runs import learn
from tests.test_analysis.test_reconstruction.test_reconstruct import digit

POOLS = {"image": 1, "quadrants": 2, "grid:3": 3}


def node(folder: Path, k: int) -> xarray.DataTree:
    return open_dictionaries(folder / "dictionaries.zarr").children[f"k{k:05d}"]


def activation(patch: np.ndarray, dictionary: xarray.DataTree, kind: str) -> np.ndarray:
    """Of one patch, (k,)."""
    centroids = np.asarray(dictionary["centroids"])
    (squares,) = squared_distances(patch.reshape(1, -1), centroids.reshape(len(centroids), -1))
    if kind == "hard":
        return (np.arange(len(centroids)) == squares.argmin()).astype(float)
    if kind == "triangle":
        return np.maximum(0, np.sqrt(squares).mean() - np.sqrt(squares))
    shares = np.exp(-(squares - squares.min()) / (2 * dictionary.attrs["mse"]))
    return shares / shares.sum()


def features_by_loops(
    image: np.ndarray,
    dictionary: xarray.DataTree,
    spec: PatchSpec,
    kind: str,
    side: int,
    moved: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Position by position, in float64, (pools · k,); moved: the grid of pools, in pixels."""
    centroids = np.asarray(dictionary["centroids"])
    codes, k = codes_by_loops(image, centroids, spec), len(centroids)
    down, across = codes.shape
    found, kept = np.zeros((side, side, k)), np.zeros((side, side, 1))
    for row in range(down):
        for col in range(across):
            if codes[row, col] >= 0:
                top, left = row * spec.stride, col * spec.stride
                patch = image[top : top + spec.rows, left : left + spec.cols]
                pool = tuple(
                    min(max(0, (at * spec.stride - by) * side // (length * spec.stride)), side - 1)
                    for at, by, length in zip((row, col), moved, (down, across), strict=True)
                )
                found[pool] += activation(patch, dictionary, kind)
                kept[pool] += 1
    return (found if kind == "triangle" else found / np.maximum(kept, 1)).reshape(-1)


@pytest.mark.parametrize("kind", pooling.KINDS)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("k", [4, 60])
def test_features_are_those_of_loops_over_positions(
    digits_folder: Path, kind: str, pool: str, k: int
) -> None:
    images, dictionary = open_images("digits", "test").images[:6].copy(), node(digits_folder, k)
    images[2] = 0  # keeps no patch
    images[3, :, 4:] = 0
    spec = PatchSpec.from_dict(json.loads(dictionary.root.attrs["spec"]))
    found = features(images, dictionary, kind, pool)
    wanted = [features_by_loops(one, dictionary, spec, kind, POOLS[pool]) for one in images]
    assert (found.dims, found.dtype) == (("image", "feature"), np.float32)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-3 if kind == "triangle" else 1e-6)
    assert not found[2].values.any()
    pools = POOLS[pool] ** 2
    np.testing.assert_array_equal(found["pool"], np.repeat(np.arange(pools), k))
    np.testing.assert_array_equal(found["atom"], np.tile(np.arange(k), pools))
    if kind != "triangle":
        sums = found.values.reshape(6, pools, k).sum(axis=2)
        np.testing.assert_allclose(sums[[0, 1, 4, 5]], 1, rtol=1e-6)


@pytest.mark.parametrize("kind", pooling.KINDS)
@pytest.mark.parametrize(("side", "stride", "shift"), [(2, 1, 1), (2, 1, 3), (3, 1, 2), (2, 2, 2)])
def test_copies_are_those_of_loops_over_pools_that_are_moved(
    digits_folder: Path, kind: str, side: int, stride: int, shift: int
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 19, 17), np.uint8)
    images[2] = 0  # keeps no patch
    images[3, 6:, :7] = 0
    dictionary = node(digits_folder, 12)
    work = Encoding.of(images, dictionary, stride=stride)
    spec = work.spec
    made = Features.of(work, dictionary, FeatureOptions.of(kind, side), shift)
    found = made.copies(slice(0, 5))
    ways = [(0, 0), (-shift, 0), (shift, 0), (0, -shift), (0, shift)]
    wanted = [
        [features_by_loops(one, dictionary, spec, kind, side, way) for way in ways]
        for one in images
    ]
    assert (found.shape, found.dtype) == (np.shape(wanted), np.float32)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-3 if kind == "triangle" else 1e-6)
    assert len({copy.tobytes() for copy in found[0]}) == 5
    plain = Features.of(work, dictionary, FeatureOptions.of(kind, side))
    alone = plain.made((slice(0, 5), slice(0, plain.shape[1])))
    np.testing.assert_allclose(found[:, 0], alone, rtol=1e-6)


@pytest.mark.parametrize("kind", pooling.KINDS)
@pytest.mark.parametrize("border", ["valid", "reflect"])
def test_other_strides_borders_and_colour(kind: str, border: Literal["valid", "reflect"]) -> None:
    spec = PatchSpec(3, 2, stride=2, threshold=0.2, border=border)
    images = np.stack([digit(3, seed=seed) for seed in range(3)])
    dictionary = node_of(spec, 3)
    dictionary.attrs["mse"] = 700.0
    found = features(images, dictionary, kind, 2)
    extended = images
    wanted = [features_by_loops(one, dictionary, spec, kind, 2) for one in extended]
    if border == "valid":
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-3)
    else:  # patches of the border lie outside the image that the loops see
        assert found.shape == np.shape(wanted)
    whole = features(images, dictionary, kind, 2, stride=1)
    assert not np.allclose(whole, found)


def test_tf_idf_weighs_shares_by_how_rare_centroids_are(digits_folder: Path) -> None:
    images, dictionary = open_images("digits", "test").images[:9], node(digits_folder, 12)
    counts = np.asarray(dictionary["count"])
    plain = features(images, dictionary, "hard", "quadrants")
    found = features(images, dictionary, "hard", "quadrants", tf_idf=True)
    weights = np.tile(np.log(counts.sum() / counts), 4)
    np.testing.assert_allclose(found, plain * weights, rtol=1e-5)
    assert "tf_idf" not in plain.attrs
    assert found.attrs["tf_idf"] != features(images, node(digits_folder, 4), tf_idf=True).tf_idf


def test_of_one_image_features_are_a_vector(digits_folder: Path) -> None:
    images, dictionary = open_images("digits", "test").images, node(digits_folder, 12)
    one = features(images[3], dictionary, "triangle", "quadrants")
    assert one.dims == ("feature",)
    np.testing.assert_array_equal(one, features(images, dictionary, "triangle", 2)[3])


@pytest.mark.parametrize("kind", pooling.KINDS)
def test_large_images_and_small_caps_give_the_same_bits(
    kind: str, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dictionary = node(digits_folder, 12)
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 33), np.uint8)
    images[1, 10:30] = 0
    whole = features(images, dictionary, kind, 3).values
    monkeypatch.setattr(encoding, "LEAST_POSITIONS", 1)
    monkeypatch.setattr(encoding, "PATCH_BYTES", 25 * 70)
    np.testing.assert_array_equal(features(images, dictionary, kind, 3), whole)
    monkeypatch.setattr(encoding, "CHUNK_CODES", 1 << 8)  # squares of 16 positions
    squares = features(images, dictionary, kind, 3).values
    np.testing.assert_allclose(squares, whole, rtol=1e-6)  # added up in another order


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kind": "best"}, "no features 'best': use hard, triangle, soft"),
        ({"pool": "rows"}, "no pool 'rows': use image, quadrants"),
        ({"pool": "grid:0"}, "no pool 'grid:0'"),
        ({"pool": 5}, "grid:5 has more parts than the 4 × 4 positions"),
        ({"kind": "triangle", "tf_idf": True}, "tf-idf weighs words that are counted"),
    ],
)
def test_what_cannot_be_made_is_refused(
    digits_folder: Path, asked: dict[str, Any], message: str
) -> None:
    images = open_images("digits", "test").images[:2]
    with pytest.raises(InputError, match=message):
        features(images, node(digits_folder, 4), **asked)


def test_a_dictionary_that_does_not_say_enough_is_refused(digits_folder: Path) -> None:
    images, dictionary = open_images("digits", "test").images[:2], node(digits_folder, 4)
    bare = dictionary.to_dataset()[["centroids"]]
    bare.attrs = {"spec": dictionary.root.attrs["spec"]}
    assert features(images, bare).shape == (2, 4)
    with pytest.raises(InputError, match="does not say its MSE"):
        features(images, bare, "soft")
    with pytest.raises(InputError, match="how often its centroids are used"):
        features(images, bare, tf_idf=True)


def test_float_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((6, 9, 10)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    given = {"dataset": str(tmp_path / "images.npy"), "patch": (3, 2)}
    folder = learn(tmp_path / "runs", (3,), **given)
    dictionary = node(folder, 3)
    found = features(ImageSource("images", "train", images), dictionary, "triangle")
    spec = PatchSpec(3, 2)
    centroids = np.asarray(dictionary["centroids"])
    wanted = np.zeros((6, 3))
    for place, image in enumerate(images):
        for row in range(7):
            for col in range(9):
                patch = image[row : row + spec.rows, col : col + spec.cols]
                wanted[place] += activation(patch, dictionary, "triangle")
    assert centroids.shape == (3, 3, 2)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
