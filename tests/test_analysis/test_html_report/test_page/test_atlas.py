"""The atlas as its readers use it: orders, and what the pointer says of a centroid."""

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray

from analysis.html_report.exploration import classed_patches
from analysis.html_report.measured import Measured
from analysis.html_report.page.atlas import ORDERS, atlas_source
from analysis.measures.kinds import KINDS, kinds_of, plural
from analysis.measures.pixel_scale import PixelScale
from storage import open_dictionaries
from storage.images.pixel_range import PixelRange
from tests.browser import Opened, opened, until
from tests.test_analysis.test_html_report.test_page.conftest import Reported

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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


def test_a_centroid_that_is_far_brighter_takes_no_shades_from_the_others() -> None:
    centroids = np.linspace(300, 400, 36).reshape(4, 3, 3)
    centroids[3] = 60000
    facts = {name: ("atom", np.zeros(4)) for name in ("count", "kind", "sse_share")}
    facts |= {name: (("atom", "n"), np.zeros((4, 2))) for name in ("near", "distance", "order")}
    atlas = xarray.Dataset({"centroids": (("atom", "row", "col"), centroids), **facts})
    scale = PixelScale(PixelRange(300, 400), "grey levels", narrowed=True)
    source = atlas_source({4: atlas}, scale)
    (stored,), (coding,) = source.data["centroids"], source.data["coding"]
    lowest, step, dark, light = coding
    np.testing.assert_allclose(lowest + step * stored, centroids, atol=0.51 * step)
    shades = np.clip((stored - float(dark)) / light, 0, 1)
    np.testing.assert_allclose(shades, np.clip((centroids - 300) / 100, 0, 1), atol=0.01)


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
        page.page.get_by_role("slider").press("Home")
        for _ in range(reported.sizes.index(k)):
            page.page.get_by_role("slider").press("ArrowRight")
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
            point_at(page, tile)
            until(partial(assert_tells, page, stored, tile["atom"]))
        placed[order] = [tile["atom"] for tile in shown]
        assert_told_beside(page, stored, order, shown)
    assert_in_order(stored, placed)


def point_at(page: Opened, tile: dict[str, Any]) -> None:
    page.point("atlas-board", tile["x"] + 0.4 * tile["width"], tile["y"] + 0.6 * tile["height"])


def assert_told_beside(
    page: Opened, stored: dict[str, np.ndarray], order: str, shown: list[dict[str, Any]]
) -> None:
    """Beside the rows stands what they are ordered by; each kind begins a row."""
    words = page.column("atlas-scale", "words")
    rows = sorted({tile["y"] for tile in shown})
    firsts = [min(shown, key=lambda tile: (tile["y"] != row, tile["x"]))["atom"] for row in rows]
    if order == "likeness":
        assert words == []
    elif order == "kind":
        kinds = [kind for kind in KINDS if (stored["kind"] == kind).any()]
        assert [text.partition(",")[0] for text in words] == [plural(kind) for kind in kinds]
        told = [float(text.partition(", ")[2].rstrip("\u00a0%")) for text in words]
        shares = [100 * (stored["kind"] == kind).mean() for kind in kinds]
        assert told == pytest.approx(shares, rel=0.06)
        assert {str(stored["kind"][atom]) for atom in firsts} == set(kinds)
    else:
        by = stored["share" if order == "use" else "sse_share"]
        told = [float(text.rpartition("\u00a0")[0]) for text in words]
        assert told == pytest.approx([100 * by[atom] for atom in firsts], rel=0.06)


def test_a_chosen_centroid_is_the_same_everywhere(page: Opened, digits: Reported) -> None:
    k = digits.sizes[-1]
    stored = facts(digits, k)
    choose(page, digits, k, "use")
    tile = tiles(page)[7]
    point_at(page, tile)
    page.page.mouse.down()
    page.page.mouse.up()
    until(lambda: assert_chosen(page, stored, tile["atom"]))
    field = page.page.get_by_role("spinbutton", name="Centroid")
    for wrong in ("99999", "-3", "1.5"):
        field.fill(wrong)
        page.page.keyboard.press("Enter")
        assert field.evaluate("(input) => !input.validity.valid")
        assert page.column("atlas-near", "atom")[0] == tile["atom"]
    made = page.column("explorer-tiles", "atom")[0]
    field.fill(str(made))
    page.page.keyboard.press("Enter")
    until(lambda: assert_chosen(page, stored, made))
    assert page.column("explorer-tiles", "thick")[0] > 0
    times = page.column("explorer-tiles", "weight")[0] * digits.experiment.spec.grid(8, 8)[0] ** 2
    assert len(page.column("explorer-places", "x")) == pytest.approx(times)
    # At another K it is the one that is most like it.
    page.page.get_by_role("slider").press("Home")
    before, after = stored["centroids"], facts(digits, digits.sizes[0])
    off = ((after["centroids"] - before[made]) ** 2).sum(axis=(1, 2))
    until(lambda: assert_chosen(page, after, int(off.argmin())))
    near = page.column("atlas-near", "atom")[2]
    page.point("atlas-near-picture", *(page.column("atlas-near", name)[2] + 0.5 for name in "xy"))
    page.page.mouse.down()
    page.page.mouse.up()
    until(lambda: assert_chosen(page, after, near))


def test_a_drawn_patch_finds_its_nearest_centroid_and_its_classes(
    page: Opened, digits: Reported
) -> None:
    k = digits.sizes[-1]
    stored, drawn = facts(digits, k), np.zeros((5, 5))
    page.page.get_by_role("slider").press("End")
    page.page.get_by_text("Search by a drawn patch").click()
    for row in range(5):
        page.page.get_by_label(f"Row {row}, column 2", exact=True).check()
        drawn[row, 2] = 255
    off = ((stored["centroids"] - drawn) ** 2).sum(axis=(1, 2))
    atom = int(off.argmin())
    until(lambda: assert_chosen(page, stored, atom))
    patches = classed_patches(Measured(digits.experiment), [k])
    assert patches is not None
    classes = patches.classes[patches.nearest[k] == atom]
    words = page.words("atlas-words")
    assert f"Of {len(patches.classes):,} random patches it stands for {len(classes)}" in " ".join(
        words.split()
    )
    told = re.findall(r"(\d)\s+(–|[\d.]+\u00a0%)", words.partition("by class:")[2])
    shares = np.bincount(classes, minlength=10) / max(1, len(classes))
    assert [int(name) for name, _ in told] == list(range(10))
    for (_, text), share in zip(told, shares, strict=True):
        assert float(text.rstrip("\u00a0%").replace("–", "0")) == pytest.approx(
            100 * share, rel=0.06
        )


def assert_chosen(page: Opened, stored: dict[str, np.ndarray], atom: int) -> None:
    """All parts of the page show this centroid."""
    assert page.column("atlas-near", "words") == [str(a) for a in (atom, *stored["near"][atom])]
    words = page.words("atlas-words")
    assert re.match(rf"Centroid {atom}, {stored['kind'][atom]}\b", words)
    assert f"{stored['count'][atom]:,} patches" in words
    assert page.page.get_by_role("spinbutton", name="Centroid").input_value() == str(atom)
    (left,), (top,) = (page.column("atlas-chosen", name) for name in "xy")
    (tile,) = [tile for tile in tiles(page) if tile["atom"] == atom]
    assert (tile["x"], tile["y"]) == (left, top)


def test_the_address_holds_what_is_seen(browser: "Browser", digits: Reported) -> None:
    k, last = digits.sizes[0], digits.sizes[-1]
    asked = f"k={k}&c=3&image=test-7&order=use&row=2&col=4"
    with opened(browser, digits.path, fragment=asked) as page:
        until(lambda: assert_chosen(page, facts(digits, k), 3))
        score = page.words("explorer-score")
        assert f"K = {k}" in score
        assert "test image" in score
        assert "Row 2, column 4" in page.words("explorer-made-words")
        page.page.get_by_role("slider").press("End")
        until(lambda: assert_in_address(page, f"#k={last}&", "image=test-7&order=use&row=2&col=4"))
        page.run("location.hash = argument", f"k={k}&c=99999&image=train-0")
        until(lambda: assert_in_address(page, f"#k={k}&", "image=train-0"))
        page.page.locator("#curve .strip").nth(1).evaluate("(strip) => strip.click()")
        until(lambda: assert_in_address(page, f"#k={digits.sizes[1]}"))
        assert page.failures == page.complaints == []


def assert_in_address(page: Opened, *words: str) -> None:
    address = page.run("return location.href")  # playwright's own is told of it late
    assert all(each in address for each in words)
    k = address.partition("#k=")[2].partition("&")[0]
    assert f"K = {k}" in page.words("explorer-score")


def test_k_grows_by_itself_once_and_stops_at_a_touch(browser: "Browser", digits: Reported) -> None:
    with opened(browser, digits.path, moves=True) as page:
        first = int(page.run("return model('k').value"))
        page.page.keyboard.press("Shift")
        page.page.wait_for_timeout(1000)
        assert int(page.run("return model('k').value")) == first
    with opened(browser, digits.path, moves=True) as page:
        until(lambda: assert_k(page, digits.sizes[0]))
        until(lambda: assert_k(page, digits.sizes[1]))


def assert_k(page: Opened, k: int) -> None:
    assert page.run("return model('k').value") == str(k)


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


def assert_tells(page: Opened, stored: dict[str, np.ndarray], atom: int) -> None:
    """The tooltip on the screen tells the atom's stored numbers."""
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
