import tracemalloc

import numpy as np
import pytest
import xarray

from analysis import coverage, reconstruct, reconstruction_scores
from analysis.html_report.samples import Composition
from analysis.reconstruction.overlap import Rebuilder
from pipeline import cut_patches
from storage import InputError, PatchSpec
from tests.oracles import rebuilt_by_loops, reflected

SPECS = [
    PatchSpec(3, 3),
    PatchSpec(2, 4, stride=2),
    PatchSpec(3, 2, stride=3, threshold=0.2),
    PatchSpec(5, 5, stride=2, threshold=0.5),
    PatchSpec(4, 3, stride=2, threshold=0.2, border="reflect"),
]


def digit(*channels: int, seed: int = 0) -> np.ndarray:
    """A random image with a blank margin; (11, 13, *channels) uint8."""
    image = np.zeros((11, 13, *channels), np.uint8)
    inner = np.random.default_rng(seed).integers(0, 256, (6, 7, *channels))
    image[3:9, 4:11] = inner
    return image


def as_tree(centroids: np.ndarray, spec: PatchSpec) -> xarray.DataTree:
    axes = ("atom", "row", "col", "channel")[: centroids.ndim]
    dictionary = xarray.Dataset({"centroids": (axes, centroids)})
    tree = xarray.DataTree.from_dict({"k00002": dictionary})
    tree.attrs = {"spec": spec.to_dict()}
    return tree


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_own_patches_as_centroids_give_the_image_back(
    spec: PatchSpec, channels: tuple[int, ...]
) -> None:
    image = digit(*channels)
    patches = cut_patches(image[np.newaxis], spec)
    centroids = patches.reshape(-1, spec.rows, spec.cols, *channels).astype(np.float32)
    rebuilt = Rebuilder(centroids, spec, image.dtype).rebuild(image[np.newaxis])
    (covered,) = rebuilt.cover > 0
    assert covered.any()
    np.testing.assert_array_equal(rebuilt.images[0][covered], image[covered])
    assert not rebuilt.images[0][~covered].any()
    made = Composition.of(image, rebuilt, centroids, spec)
    assert made.patch_mse == made.covered_mse == 0


def test_overlaps_are_averaged_and_blank_pixels_stay_zero_by_hand() -> None:
    # Windows of one row and two columns; those at columns 0 and 1 are kept, the rest are blank.
    image = np.array([[10, 30, 0, 0, 0]], np.uint8)
    centroids = np.array([[[12, 20]], [[40, 4]]], np.float32)
    tree = as_tree(centroids, PatchSpec(1, 2))
    # (10, 30) goes to (12, 20), (30, 0) to (40, 4); pixel 1 is the mean of 20 and 40.
    np.testing.assert_array_equal(reconstruct(image, tree["k00002"]), [[12, 30, 4, 0, 0]])


def test_mse_over_patches_and_over_pixels_by_hand() -> None:
    image, centroids, spec = (
        np.array([[10, 0, 0, 0]], np.uint8),
        np.array([[[6, 2]]]),
        PatchSpec(1, 2, stride=2),
    )
    rebuilt = Rebuilder(centroids.astype(np.float32), spec, image.dtype).rebuild(image[np.newaxis])
    made = Composition.of(image, rebuilt, centroids, spec)
    assert made == Composition(
        2, 1, 1, 1.0, (4**2 + 2**2) / 4, (4**2 + 2**2) / 2, (4**2 + 2**2) / 2
    )


def test_a_dataset_alone_needs_the_spec() -> None:
    centroids = np.array([[[7]]], np.float32)
    alone = as_tree(centroids, PatchSpec(1, 1))["k00002"].to_dataset()
    image = np.array([[9]], np.uint8)
    np.testing.assert_array_equal(reconstruct(image, alone, spec=PatchSpec(1, 1)), [[7]])
    np.testing.assert_array_equal(reconstruct(image, alone, spec={"rows": 1, "cols": 1}), [[7]])
    with pytest.raises(InputError, match="spec="):
        reconstruct(image, alone)


def test_a_spec_that_contradicts_the_dictionary_is_refused() -> None:
    tree = as_tree(np.array([[[7]]], np.float32), PatchSpec(1, 1))
    with pytest.raises(InputError, match="contradicts"):
        reconstruct(np.array([[9]], np.uint8), tree["k00002"], spec=PatchSpec(1, 1, stride=2))


@pytest.mark.parametrize(
    "image",
    [
        np.ones((4, 4), np.int64),
        np.ones((2, 4, 4), np.int64),
        np.ones((1, 4, 4, 3), np.uint8),
        np.ones(4, np.uint8),
        np.ones((0, 4, 4), np.uint8),
        np.full((4, 4), np.nan, np.float32),
    ],
)
def test_an_image_that_does_not_fit_is_refused(image: np.ndarray) -> None:
    tree = as_tree(np.ones((1, 2, 2), np.float32), PatchSpec(2, 2))
    with pytest.raises(InputError, match="image"):
        reconstruct(image, tree["k00002"])


def some_centroids(spec: PatchSpec, *channels: int) -> np.ndarray:
    shape = (5, spec.rows, spec.cols, *channels)
    return np.random.default_rng(1).uniform(0, 200, shape).astype(np.float32)


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("stride", [1, 2, 4, 7, 100])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
def test_a_stack_of_images_with_any_stride_agrees_with_loops(
    spec: PatchSpec, stride: int, channels: tuple[int, ...]
) -> None:
    images = np.stack([digit(*channels, seed=seed) for seed in range(3)])
    images[1] = 0
    centroids = some_centroids(spec, *channels)
    node = as_tree(centroids, spec)["k00002"]
    found = reconstruct(images, node, stride=stride)
    assert found.dtype == np.float64
    level = spec.threshold * 255 * spec.dim(*channels)
    for image, rebuilt in zip(images, found, strict=True):
        whole, (top, left) = image, spec.before
        if spec.border == "reflect":
            whole = reflected(image[np.newaxis], spec.rows, spec.cols)[0]
        expected, _ = rebuilt_by_loops(whole, centroids, stride, level)
        np.testing.assert_allclose(
            rebuilt, expected[top : top + len(image), left : left + image.shape[1]], rtol=1e-12
        )
        np.testing.assert_array_equal(rebuilt, reconstruct(image, node, stride=stride))


def test_the_dictionary_tells_a_colour_image_from_a_stack_of_grey_ones() -> None:
    images = np.stack([digit(seed=seed)[:, :3] + np.uint8(1) for seed in range(4)])  # (4, 11, 3)
    grey = as_tree(np.ones((1, 2, 2), np.float32), PatchSpec(2, 2))["k00002"]
    colour = as_tree(np.ones((1, 2, 2, 3), np.float32), PatchSpec(2, 2))["k00002"]
    as_stack, as_image = reconstruct(images, grey, stride=2), reconstruct(images, colour, stride=2)
    assert not as_stack[:, :, 2].any()  # columns 0 and 1 alone have a window
    assert as_image[:, :10].all()
    assert not as_image[:, 10].any()


@pytest.mark.parametrize(
    "axes", [("image", "row", "col"), ("col", "image", "row"), ("a", "b", "c")]
)
def test_a_data_array_keeps_its_axes_and_coordinates(axes: tuple[str, ...]) -> None:
    images = np.stack([digit(seed=seed) for seed in range(2)])
    node = as_tree(some_centroids(PatchSpec(2, 3)), PatchSpec(2, 3))["k00002"]
    named = xarray.DataArray(images, dims=("image", "row", "col"), name="digits")
    given = (
        named.transpose(*axes)
        if axes[0] != "a"
        else named.rename(dict(zip(named.dims, axes, strict=True)))
    )
    given = given.assign_coords({axes[0]: np.arange(given.shape[0]) + 10, "made": "today"})
    found = reconstruct(given, node)
    assert isinstance(found, xarray.DataArray)
    assert found.dims == given.dims
    assert found.name == "digits"
    xarray.testing.assert_identical(found.coords.to_dataset(), given.coords.to_dataset())
    order = axes if axes[0] == "a" else ("image", "row", "col")
    np.testing.assert_array_equal(found.transpose(*order).values, reconstruct(images, node))
    one = given.isel({order[0]: 1})
    np.testing.assert_array_equal(reconstruct(one, node).values, found.isel({order[0]: 1}).values)


@pytest.mark.parametrize(("stride", "message"), [(0, "too small"), (-1, "small"), (1.5, "whole")])
def test_a_stride_that_is_no_number_of_pixels_is_refused(stride: float, message: str) -> None:
    tree = as_tree(np.ones((1, 2, 2), np.float32), PatchSpec(2, 2))
    with pytest.raises(InputError, match=message):
        reconstruct(np.ones((4, 4), np.uint8), tree["k00002"], stride=stride)


def test_a_large_image_takes_no_more_than_a_few_times_its_patches() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    centroids = np.random.default_rng(1).uniform(0, 255, (4, 5, 5, 3)).astype(np.float32)
    rebuilder = Rebuilder(centroids, PatchSpec(5, 5), image.dtype)
    rebuilder.rebuild(image[np.newaxis, :20])  # compiles
    tracemalloc.start()
    rebuilt = rebuilder.rebuild(image[np.newaxis])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    patches = 75 * len(rebuilt.labels)
    print(f"{peak / patches:.1f} times the patches' {patches:,} bytes")
    assert peak < 8 * patches


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16"])
def test_pixels_of_another_range_than_the_dictionarys_are_refused(dtype: str) -> None:
    tree = as_tree(np.full((2, 1, 1), 9, np.float32), PatchSpec(1, 1))
    tree.attrs["source"] = {"dtype": "uint8", "image_shape": [4, 4]}
    image = np.ones((4, 4), dtype)
    for work in (
        lambda: reconstruct(image, tree["k00002"]),
        lambda: reconstruction_scores(image[np.newaxis], tree["k00002"]),
        lambda: coverage(tree["k00002"], image.reshape(-1, 1)),
    ):
        with pytest.raises(InputError, match=rf"{dtype} where .* 0 … 255 \(uint8\): rescale them"):
            work()
    assert reconstruct(image.astype(np.uint8) * 200, tree["k00002"]).max() == 9


@pytest.mark.parametrize(("high", "dtype"), [(1, "float64"), (16, "uint8"), (16, "float32")])
def test_pixels_of_another_unit_are_refused_or_brought_to_the_dictionarys(
    high: int, dtype: str
) -> None:
    tree = as_tree(np.array([[[0]], [[102]], [[255]]], np.float32), PatchSpec(1, 1))
    tree.attrs["source"] = {"dtype": "uint8", "image_shape": [5, 4]}
    node = next(iter(tree.children.values()))
    right = (np.arange(20).reshape(1, 5, 4) * 255 / 19).astype(np.uint8)
    image = (np.arange(20).reshape(1, 5, 4) * high / 19).astype(dtype)
    exact = np.rint(image.astype(np.float64) * 255 / high).astype(np.uint8)
    works = (
        lambda pixels, **white: reconstruct(pixels, node, **white),
        lambda pixels, **white: reconstruction_scores(pixels, node, **white)["mse"],
        lambda pixels, **white: coverage(node, pixels.reshape(-1, 1), **white)["mse"],
    )
    for work in works:
        with pytest.raises(InputError, match=r"where the dictionary knows .*say which"):
            work(image)
        np.testing.assert_array_equal(work(image, white=high), work(exact))
        work(right)
        assert np.array_equal(work(exact, white=255), work(exact))  # right as they are


def test_pixels_without_data_are_neither_rebuilt_nor_scored() -> None:
    tree = as_tree(np.array([[[0.25]], [[0.75]]], np.float32), PatchSpec(1, 1))
    tree.attrs["source"] = {
        "dtype": "float32",
        "image_shape": [2, 2],
        "stated": {"nodata": "nan"},
    }
    image = np.array([[[0.3, np.nan], [0.7, np.nan]]], np.float32)
    rebuilt = reconstruct(image, tree["k00002"])
    np.testing.assert_array_equal(rebuilt, [[[0.25, 0], [0.75, 0]]])
    scores = reconstruction_scores(image, tree["k00002"])
    assert float(scores["mse"][0]) == pytest.approx(0.05**2, rel=1e-5)
    assert int(scores["patches"][0]) == 2


@pytest.mark.parametrize("level", [-1.0, 1.5, np.nan])
def test_float_pixels_outside_their_range_are_refused(level: float) -> None:
    tree = as_tree(np.full((2, 1, 1), 0.5, np.float32), PatchSpec(1, 1))
    with pytest.raises(InputError, match="scale them to 0…1"):
        reconstruct(np.full((2, 2), level), tree["k00002"])
