"""Activations of all centroids, against a float64 oracle."""

import numpy as np
import pytest

from pipeline import Activations
from pipeline.engines.cpu.activations import Kind
from storage import InputError
from tests.oracles import squared_distances


def expected(rows: np.ndarray, centroids: np.ndarray, kind: Kind, variance: float) -> np.ndarray:
    """Activations of each row, (n, k) float64."""
    squares = squared_distances(rows, centroids)
    if kind == "triangle":
        found = np.sqrt(squares)
        return np.maximum(0, found.mean(axis=1, keepdims=True) - found)
    shares = np.exp(-(squares - squares.min(axis=1, keepdims=True)) / (2 * variance))
    return shares / shares.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["triangle", "soft"])
@pytest.mark.parametrize(
    ("dtype", "dim", "k", "n"),
    [
        ("uint8", 25, 70, 301),
        ("uint8", 1, 1, 3),
        ("uint16", 7, 33, 10),
        ("int16", 12, 32, 8),
        ("float32", 36, 100, 40),
        ("float64", 3, 5, 9),
    ],
)
def test_sums_of_groups_are_those_of_the_oracle(
    kind: Kind, dtype: str, dim: int, k: int, n: int
) -> None:
    rng = np.random.default_rng(0)
    top = {"uint8": 255, "uint16": 60_000, "int16": 900}.get(dtype, 1.0)
    rows = (rng.random((n, dim)) * top).astype(dtype)
    centroids = (rng.random((k, dim)) * top).astype(np.float32)
    groups = rng.integers(0, 5, n)
    variance = float(squared_distances(rows, centroids).min(axis=1).mean() / dim + 1e-6)
    one = Activations(centroids, kind, variance)
    sums = np.zeros((5, one.width))
    one.add(rows, groups, sums)
    wanted = np.zeros((5, k))
    np.add.at(wanted, groups, expected(rows, centroids, kind, variance))
    tolerance = 3e-5 * (top if kind == "triangle" else 1) * n
    np.testing.assert_allclose(sums[:, :k] * one.unit, wanted, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("kind", ["triangle", "soft"])
def test_sums_do_not_depend_on_how_rows_are_cut(kind: Kind) -> None:
    rng = np.random.default_rng(1)
    rows, groups = rng.integers(0, 256, (103, 9), np.uint8), np.sort(rng.integers(0, 4, 103))
    one = Activations(rows[:40].astype(np.float32), kind, 300.0)
    whole, parts = np.zeros((4, one.width)), np.zeros((4, one.width))
    one.add(rows, groups, whole)
    for first in range(0, 103, 7):
        one.add(rows[first : first + 7], groups[first : first + 7], parts)
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_squares_stay_within_the_range_of_floats(size: float) -> None:
    rng = np.random.default_rng(2)
    rows = rng.random((20, 5)).astype(np.float32)
    centroids = rng.random((6, 5)).astype(np.float32)
    wanted = expected(rows, centroids, "triangle", 0).sum(axis=0) * size
    one = Activations(centroids * np.float32(size), "triangle")
    sums = np.zeros((1, one.width))
    one.add(rows * np.float32(size), np.zeros(20, np.intp), sums)
    np.testing.assert_allclose(sums[0, :6] * one.unit, wanted, rtol=1e-4)


def test_without_variance_the_nearest_centroid_takes_all() -> None:
    centroids = np.array([[0.0], [10.0], [20.0]], np.float32)
    one = Activations(centroids, "soft")
    sums = np.zeros((1, one.width))
    one.add(np.array([[0], [9], [20], [21]], np.uint8), np.zeros(4, np.intp), sums)
    assert sums[0, :3].tolist() == [1, 1, 2]


def test_other_columns_are_refused() -> None:
    one = Activations(np.zeros((3, 4), np.float32), "triangle")
    with pytest.raises(InputError, match="do not match"):
        one.add(np.zeros((2, 5), np.uint8), np.zeros(2, np.intp), np.zeros((1, one.width)))
