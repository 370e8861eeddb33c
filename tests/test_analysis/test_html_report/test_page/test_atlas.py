"""The atlas as its readers use it: orders, and what the pointer says of a centroid."""

import re
from functools import partial
from typing import Any

import numpy as np
import pytest

from analysis.html_report.page.atlas import ORDERS
from analysis.measures.kinds import KINDS, kinds_of
from storage import open_dictionaries
from tests.browser import Opened, until
from tests.test_analysis.test_html_report.test_page.conftest import Reported

NEAREST = 5


def facts(reported: Reported, k: int) -> dict[str, np.ndarray]:
    """What is stored of each centroid; kinds as words, neighbours by brute force."""
    tree = open_dictionaries(reported.path.parent / "dictionaries.zarr")
    centroids, count, sse = (
        tree[f"k{k:05d}"][name].values for name in ("centroids", "count", "sse")
    )
    flat = centroids.reshape(k, -1).astype(np.float64)
    distance = np.linalg.norm(flat[:, np.newaxis] - flat, axis=2)
    np.fill_diagonal(distance, np.inf)
    return {
        "centroids": centroids,
        "count": count,
        "share": count / count.sum(),
        "sse_share": sse / sse.sum(),
        "kind": np.array(KINDS)[kinds_of(centroids, reported.largest)],
        "near": distance.argsort(axis=1, kind="stable")[:, : min(NEAREST, k - 1)],
    }


def tiles(page: Opened) -> list[dict[str, Any]]:
    """The tiles in reading order."""
    names = ("x", "y", "width", "height", "atom", "count", "kind", "sse_share")
    columns = [page.column("atlas-tiles", name) for name in names]
    found = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return sorted(found, key=lambda tile: (tile["y"], tile["x"]))


def choose(page: Opened, reported: Reported, k: int, order: str) -> None:
    """Set K and order by the keyboard."""
    atlas = page.page.locator("#atlas")
    if len(reported.sizes) > 1:
        atlas.get_by_role("slider").press("Home")
        for _ in range(reported.sizes.index(k)):
            atlas.get_by_role("slider").press("ArrowRight")
    radios = atlas.get_by_role("radio")
    radios.nth(0).focus()
    page.page.keyboard.press("Space")
    for _ in range(ORDERS.index(order)):
        page.page.keyboard.press("ArrowRight")
    until(lambda: assert_tiles(page, k))


def assert_tiles(page: Opened, k: int) -> None:
    assert sorted(page.column("atlas-tiles", "atom")) == list(range(k))


def test_a_tile_pointed_at_says_what_is_stored(page: Opened, digits: Reported) -> None:
    k = digits.sizes[-1]
    orders, placed = [(digits.sizes[0], ORDERS[0]), *((k, order) for order in ORDERS)], {}
    for size, order in orders:
        stored = facts(digits, size)
        choose(page, digits, size, order)
        shown = tiles(page)
        for tile in (shown[0], shown[size // 2], shown[-1]):
            x, y = tile["x"] + 0.4 * tile["width"], tile["y"] + 0.6 * tile["height"]
            page.point("atlas-board", x, y)
            until(partial(assert_tells, page, stored, tile["atom"]))
        placed[order] = [tile["atom"] for tile in shown]
    page.page.locator("#atlas").get_by_role("textbox", name="Centroid").fill("17")
    page.page.keyboard.press("Enter")
    until(lambda: assert_near(page, [17, *stored["near"][17].tolist()]))
    assert_in_order(stored, placed)


def assert_in_order(stored: dict[str, np.ndarray], placed: dict[str, list[int]]) -> None:
    """The orders are what they say; placed: order -> the atoms as they stand."""
    for order, by in (("use", stored["count"]), ("error", stored["sse_share"])):
        assert (np.diff(by[placed[order]]) <= 0).all()
    kinds = [KINDS.index(kind) for kind in stored["kind"][placed["kind"]]]
    assert kinds == sorted(kinds)
    flat = stored["centroids"].reshape(len(stored["count"]), -1)
    steps = {
        order: np.linalg.norm(np.diff(flat[atoms], axis=0), axis=1).mean()
        for order, atoms in placed.items()
    }
    assert steps["likeness"] < min(steps["use"], steps["error"])


def assert_near(page: Opened, atoms: list[int]) -> None:
    assert page.column("atlas-near", "words") == [str(atom) for atom in atoms]


def assert_tells(page: Opened, stored: dict[str, np.ndarray], atom: int) -> None:
    """The tooltip on the screen tells the atom's stored numbers, and so do the words beside."""
    tips = page.page.locator(".bk-tooltip-content").locator("visible=true")
    assert tips.count() == 1
    told = tips.inner_text()
    assert re.search(rf"centroid:\s*{atom}\b.*{stored['kind'][atom]}", told)
    assert re.search(rf"patches:\s*{stored['count'][atom]:,}\s", told)
    shares = [float(text) for text in re.findall(r"([\d.]+) %", told)]
    expected = [100 * stored["share"][atom], 100 * stored["sse_share"][atom]]
    assert shares == pytest.approx(expected, abs=6e-4)
    nearest = re.search(r"nearest:\s*(.*)", told)
    assert nearest
    assert [int(text) for text in nearest[1].split(",")] == stored["near"][atom].tolist()
    words = page.words("atlas-words")
    assert re.match(rf"Centroid {atom}, {stored['kind'][atom]}\b", words)
    assert f"{stored['count'][atom]:,} patches" in words


def test_tiles_are_painted_as_their_centroids(page: Opened, reported: Reported) -> None:
    rows, cols = reported.experiment.patch_shape[:2]
    k = reported.sizes[-1]
    centroids = reported.experiment.centroids(k)
    scaled = np.rint(255 * np.clip(centroids / reported.largest, 0, 1))
    choose(page, reported, k, "use")
    placed = tiles(page)[:: max(1, k // 7)]
    pixels = [
        # Beside the line, half of which lies in the tile's frame.
        (
            tile["x"] + 0.5 + (col + 0.5) * (tile["width"] - 1) / cols,
            tile["y"] + 0.5 + (row + 0.5) * (tile["height"] - 1) / rows,
        )
        for tile in placed
        for row in range(rows)
        for col in range(cols)
    ]
    shown = scaled[[tile["atom"] for tile in placed]].reshape(len(pixels), -1)
    expected = np.broadcast_to(shown, (len(pixels), 3))
    until(lambda: np.testing.assert_array_equal(page.colours("atlas-board", pixels), expected))
