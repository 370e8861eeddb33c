import numpy as np
import pytest
import xarray

from analysis import gallery
from analysis.measures.gallery import DENSE_COLOUR, grid_shape, tiled
from analysis.measures.similarity_grid import WHOLE_CELLS, similarity_grid
from storage import InputError


def blobs(k: int, seed: int = 0) -> np.ndarray:
    """Smooth patches that differ by place and size of a spot; (k, 5, 5)."""
    rng = np.random.default_rng(seed)
    row, col, size = rng.uniform([0, 0, 0.8], [4, 4, 2], (k, 3)).T[..., np.newaxis, np.newaxis]
    down, across = np.mgrid[:5, :5]
    return (255 * np.exp(-((down - row) ** 2 + (across - col) ** 2) / size**2)).astype(np.float32)


def neighbour_distance(vectors: np.ndarray, grid: np.ndarray) -> float:
    """Mean distance between the vectors of cells that touch; grid as `similarity_grid` gives it."""
    flat = vectors.reshape(len(vectors), -1).astype(np.float64)
    distances = []
    for first, second in ((grid[1:], grid[:-1]), (grid[:, 1:], grid[:, :-1])):
        both = (first >= 0) & (second >= 0)
        distances.append(np.linalg.norm(flat[first[both]] - flat[second[both]], axis=1))
    return float(np.mean(np.concatenate(distances)))


@pytest.mark.parametrize("k", [1, 7, 60, WHOLE_CELLS + 31])
def test_the_order_holds_each_centroid_once(k: int) -> None:
    order = gallery(blobs(k)).order
    assert sorted(order[order >= 0].tolist()) == list(range(k))
    assert (order.ravel()[k:] == -1).all()


@pytest.mark.parametrize(("k", "share"), [(60, 1), (600, 0.8)])
def test_neighbours_are_more_alike_than_at_random_or_by_principal_components(
    k: int, share: float
) -> None:
    centroids, (rows, cols) = blobs(k), grid_shape(k)
    found = neighbour_distance(centroids, similarity_grid(centroids, rows, cols))
    shuffled = np.full(rows * cols, -1)
    shuffled[:k] = np.random.default_rng(1).permutation(k)
    assert found < 0.6 * neighbour_distance(centroids, shuffled.reshape(rows, cols))
    centred = centroids.reshape(k, -1) - centroids.reshape(k, -1).mean(axis=0)
    places = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    lines = np.argsort(places[:, 0]).reshape(rows, cols)
    principal = np.take_along_axis(lines, np.argsort(places[lines, 1], axis=1), axis=1)
    assert found < share * neighbour_distance(centroids, principal)


def test_the_order_is_the_same_every_time_and_hangs_on_the_seed() -> None:
    centroids = blobs(600)
    first = similarity_grid(centroids, 20, 30, seed=3)
    np.testing.assert_array_equal(first, similarity_grid(centroids, 20, 30, seed=3))
    assert (first != similarity_grid(centroids, 20, 30, seed=4)).any()


def test_each_tile_shows_its_centroid_between_lines() -> None:
    centroids = np.array([[[0, 255]], [[51, 102]]], np.float32)
    picture = tiled(centroids, np.array([[1, 0, -1]]), white=255, black=0, scale=2, line=1)
    assert picture.shape == (4, 16, 3)
    assert picture[1, 1:5, 0].tolist() == [51, 51, 102, 102]
    assert picture[1, 6:10, 0].tolist() == [0, 0, 255, 255]
    assert picture[0, 0].tolist() == picture[1, 5].tolist() == list(DENSE_COLOUR)


def test_colour_is_kept() -> None:
    red = np.zeros((1, 2, 2, 3), np.float32)
    red[..., 0] = 255
    assert gallery(red, scale=1, line=1).image[1, 1].tolist() == [255, 0, 0]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_dictionary_brings_its_level_of_white_and_gets_names(dtype: str) -> None:
    levels = blobs(7) / (255 if dtype == "float32" else 1)
    dataset = xarray.Dataset({"centroids": (("atom", "row", "col"), levels)})
    tree = xarray.DataTree.from_dict({"k00007": dataset})
    tree.attrs["source"] = {"dtype": dtype}
    plain = gallery(blobs(7))
    named = gallery(tree["k00007"])
    assert named.image.dims == ("row", "col", "channel")
    assert named.order.dims == ("down", "across")
    np.testing.assert_array_equal(named.image, plain.image)
    np.testing.assert_array_equal(named.order, plain.order)
    white = 1.0 if dtype == "float32" else 255
    for same in (dataset, dataset["centroids"]):
        np.testing.assert_array_equal(gallery(same, largest=white).image, plain.image)


@pytest.mark.parametrize("k", [1, 2, 3, 10, 97, 100, 1000, 9999, 10000])
def test_the_grid_has_room_and_few_empty_cells(k: int) -> None:
    rows, cols = grid_shape(k)
    assert k <= rows * cols < k + cols
    limited = grid_shape(k, 20)
    assert limited[0] * limited[1] >= k
    assert limited[1] <= 20


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="not images"):
        gallery(np.zeros((3, 25), np.float32))
    with pytest.raises(InputError, match="2x2"):
        gallery(blobs(5), shape=(2, 2))
