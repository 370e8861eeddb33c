"""Centroids as bytes: their bounds, and how few are compared in full for them."""

import numpy as np
import pytest

from pipeline.engines.cpu.centroid_table import FAR, CentroidTable, make_table
from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.engines.cpu.scan import quantized
from pipeline.engines.cpu.scan.byte_scan import find_lowest_by_bytes
from pipeline.engines.cpu.scan.quantized import AWAY, QuantizedCentroids
from pipeline.engines.cpu.scan.tile_scores import load_tile, new_tile
from pipeline.engines.cpu.simd import WIDTH, kernel
from tests.oracles import squared_distances


@pytest.fixture(autouse=True)
def _on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "BYTE_PRODUCTS", True)


def bounds(rows: np.ndarray, codes: QuantizedCentroids, shift: np.ndarray, scale: float) -> tuple:
    """Lower bounds of the scores, and what rounding to bytes may take from them; (n, k) float64."""
    dim, count = rows.shape[1], codes.words.shape[1]
    parts = codes.words.view(np.int8).reshape(len(codes.half), -1).astype(np.int64)
    padded = np.zeros((len(rows), 4 * count), np.int64)
    padded[:, : 4 * (count - 1)] = rows[:, : 4 * (count - 1)]
    padded[:, -4:] = rows[:, dim - 4 :]
    products = padded @ parts.T + codes.half
    lengths = np.linalg.norm((rows - shift) * scale, axis=1)[:, np.newaxis]
    rounding = float(codes.error) * lengths
    return float(codes.unit) * (products - rounding)[:, :-1], float(codes.unit) * rounding


@pytest.mark.parametrize("dim", [4, 5, 6, 7, 25, 47])
@pytest.mark.parametrize("kind", ["spread", "tight", "edges", "beyond"])
def test_bounds_are_below_scores_and_near_them(dim: int, kind: str) -> None:
    rng = np.random.default_rng(dim)
    rows = rng.integers(0, 256, (200, dim)).astype(np.uint8)
    centroids = rng.uniform(0, 255, (90, dim))
    if kind == "tight":
        centroids = 40 + rng.uniform(0, 1e-3, (90, dim))
    elif kind == "edges":
        centroids, rows = rng.integers(0, 2, (90, dim)) * 255.0, rows // 128 * 255
    elif kind == "beyond":  # as steps with momentum may lead to
        centroids = rng.uniform(-300, 900, (90, dim))
    table = make_table(centroids.astype(np.float32), integers=True, of_bytes=True)
    scale, shift = float(table.scale), table.shift.astype(np.float64)
    exact = (centroids.astype(np.float32) - shift) * scale
    scores = 0.5 * np.square(exact).sum(axis=1) - (rows - shift) * scale @ exact.T
    lower, rounding = bounds(rows.astype(np.int64), table.quantized, shift, scale)
    unit = float(table.quantized.unit)
    unequal = table.half[:-1] < FAR
    scores, lower = scores[:, unequal], lower[:, unequal]
    assert (lower <= scores + 0.1 * unit).all()  # which a limit has to spare ten times over
    assert (scores - lower <= 2 * rounding + 3 * unit).all()


def test_what_fills_up_a_list_or_equals_another_is_never_looked_at() -> None:
    centroids = np.random.default_rng(0).uniform(0, 255, (20, 25)).astype(np.float32)
    centroids[7] = centroids[3]
    table = make_table(centroids, integers=True, of_bytes=True)
    assert (table.quantized.half == AWAY).nonzero()[0].tolist() == [7, 20]
    assert table.half[7] == FAR


@pytest.mark.parametrize("dim", [3, 48])
def test_rows_that_gain_nothing_have_none(dim: int) -> None:
    centroids = np.random.default_rng(0).uniform(0, 255, (20, dim)).astype(np.float32)
    assert len(make_table(centroids, integers=True, of_bytes=True).quantized.words) == 0


@pytest.mark.parametrize("where", [0.0, 1e9, 1e30])
def test_nor_have_centroids_that_are_equal_or_far_from_any_byte(where: float) -> None:
    centroids = np.full((20, 25), 7.0, np.float32)
    centroids[0] += np.float32(where)
    assert len(make_table(centroids, integers=True, of_bytes=True).quantized.words) == 0


@kernel
def _looked_at(
    rows: np.ndarray, table: CentroidTable, index: np.ndarray, label: np.ndarray, listed: bool
) -> tuple[int, np.ndarray]:
    """How many centroids are compared in full with the first rows, and their nearest."""
    tile = new_tile(rows.shape[1], len(label), table.quantized.words.shape[1])
    for lane in range(WIDTH):
        tile.member[lane] = lane
    load_tile(rows, table, tile)
    dim, margin = rows.shape[1], np.float32(0)
    count = find_lowest_by_bytes(tile, dim, table, index, 0, len(index), margin, listed, label)
    return count, tile.nearest.copy()


@pytest.mark.parametrize("listed", [True, False])
def test_few_candidates_are_compared_in_full(listed: bool) -> None:
    rng = np.random.default_rng(0)
    rows = np.clip(rng.normal(90, 9, (WIDTH, 25)), 0, 255).astype(np.uint8)
    centroids = rng.uniform(0, 255, (800, 25)).astype(np.float32)
    centroids[401] = 90  # the nearest of all; the first of the list, or the label of the rows
    table = make_table(centroids, integers=True, of_bytes=True)
    index = np.roll(np.arange(800, dtype=np.int32), -401)
    label = np.full(800, 401, np.uint16)
    count, nearest = _looked_at(rows, table, index, label, listed)
    assert (nearest == 401).all()
    assert count <= 8
    if not listed:  # a label that is far away decides the speed alone
        label[:] = squared_distances(rows[:1], centroids).argmax()
        count, nearest = _looked_at(rows, table, index, label, listed)
        assert (nearest == 401).all()
        assert count == 800


def test_labels_are_the_same_with_bytes_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    middles = rng.uniform(0, 255, (30, 25))
    rows = middles[rng.integers(0, 30, 60_000)] + rng.normal(0, 25, (60_000, 25))
    rows = np.clip(rows, 0, 255).astype(np.uint8)
    centroids, found = rows[:700].astype(np.float32), []
    for products in (False, True):
        monkeypatch.setattr(quantized, "BYTE_PRODUCTS", products)
        engine = PrunedEngine(25, rows.dtype)
        engine.load(centroids)
        found += [engine.assign(rows), engine.assign(rows, rng.integers(0, 700, 60_000))]
    for labels in found[1:]:
        np.testing.assert_array_equal(labels, found[0])


@pytest.mark.parametrize("guessed", [False, True])
def test_rows_of_bytes_meet_centroids_of_doubles_in_full(guessed: bool) -> None:
    # as when a model of doubles labels bytes: tiles of doubles have no words of their rows
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (9_000, 12)).astype(np.uint8)
    centroids = rng.uniform(0, 255, (300, 12))
    engine = PrunedEngine(12, rows.dtype)
    engine.load(centroids)
    guess = rng.integers(0, 300, len(rows)) if guessed else None
    exact = squared_distances(rows, centroids).argmin(axis=1)
    np.testing.assert_array_equal(engine.assign(rows, guess), exact)
