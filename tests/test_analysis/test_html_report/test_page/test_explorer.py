"""The explorer as its readers use it: by keyboard, mouse and finger."""

import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from analysis import reconstruct
from pipeline import assign, cut_patches, keep_mask
from storage import PatchSpec
from tests.browser import Opened, opened, until
from tests.test_analysis.test_html_report.test_page.conftest import Reported

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Pixel = tuple[int, int]
PAINTED = ("explorer-original", "explorer-rebuilt")


def rebuilt(reported: Reported, k: int, split: str, place: int) -> np.ndarray:
    """What the page must show, float32; from the stored dictionary."""
    node = reported.experiment.dictionaries[f"k{k:05d}"]
    return reconstruct(reported.images[split][place], node).astype(np.float32)


def shaded(levels: np.ndarray, largest: float) -> np.ndarray:
    """Red, green and blue of an image's pixels, halves up as scripts round; (height, width, 3)."""
    scaled = np.floor(255 * np.clip(levels.astype(np.float64) / largest, 0, 1) + 0.5)
    return np.broadcast_to(scaled.reshape(*levels.shape[:2], -1), (*levels.shape[:2], 3))


def grey(levels: np.ndarray) -> np.ndarray:
    return levels.astype(np.float64).reshape(*levels.shape[:2], -1).mean(axis=2)


def errors_of(original: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """What the error map shows: signed of one channel, of several their root mean square."""
    off = expected.astype(np.float64) - original
    return off if off.ndim == 2 else np.sqrt((off**2).mean(axis=2))


def assert_shown(page: Opened, reported: Reported, k: int, split: str, place: int) -> None:
    """The page's numbers, pixels and score are those of this image at this K."""
    original, expected = reported.images[split][place], rebuilt(reported, k, split, place)
    (levels,) = page.column("explorer-rebuilt", "levels")
    np.testing.assert_allclose(levels, expected.ravel(), rtol=1e-6)
    for source, image in zip(PAINTED, (original, expected), strict=True):
        (pixels,) = page.column(source, "image")
        channels = np.array(pixels, np.uint32).view(np.uint8).reshape(*image.shape[:2], 4)
        np.testing.assert_array_equal(channels[..., :3], shaded(image, reported.largest))
        assert (channels[..., 3] == 255).all()
    (errors,) = page.column("explorer-error", "image")
    off = errors_of(original, expected)
    np.testing.assert_allclose(errors, off.ravel(), atol=1e-6 * reported.largest)
    score = re.search(r"K = ([\d,]+)\b.*MSE\D*([\d.,]+)", page.words("explorer-score"))
    assert score
    assert score[1] == f"{k:,}"
    mse = np.mean((original.astype(np.float64) - expected) ** 2)
    assert float(score[2].replace(",", "")) == pytest.approx(mse, rel=1e-3)


def assert_painted(page: Opened, reported: Reported, k: int, split: str, place: int) -> None:
    """Each pixel of both pictures has its colour on the screen, at its centre."""
    images = (reported.images[split][place], rebuilt(reported, k, split, place))
    for source, image in zip(PAINTED, images, strict=True):
        height, width = image.shape[:2]
        centres = [(col + 0.5, row + 0.5) for row in range(height) for col in range(width)]
        found = page.colours(f"{source}-picture", centres)
        expected = shaded(image, reported.largest).reshape(-1, 3)
        np.testing.assert_array_equal(found, expected)


def size_of(page: Opened) -> int:
    return int(page.run("return model('k').value").replace(",", ""))


def tab_to(page: Opened, role: str) -> None:
    """Press Tab until an element of that role has the focus."""
    for _ in range(40):
        page.page.keyboard.press("Tab")
        found = page.run(
            """let element = document.activeElement
            while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement
            return element?.getAttribute("role") ?? element?.type"""
        )
        if found == role:
            return
    pytest.fail(f"no {role} is reached by Tab")


def test_at_first_the_first_image_is_shown(page: Opened, reported: Reported) -> None:
    k = reported.sizes[0] if len(reported.sizes) == 1 else size_of(page)
    assert k in reported.sizes
    assert_shown(page, reported, k, "train", 0)
    until(lambda: assert_painted(page, reported, k, "train", 0))


def test_the_error_map_of_colours_ends_at_their_largest_error(
    browser: "Browser", reports: dict[str, Reported]
) -> None:
    colour = reports["colour"]
    original = colour.images["train"][0]
    most = errors_of(original, rebuilt(colour, colour.sizes[0], "train", 0)).max()
    with opened(browser, colour.path) as page:
        ends = page.run("const {low, high} = " + _COLOUR_MAPPER + "; return [low, high]")
        assert ends == pytest.approx([0, most])
        assert "over the channels" in page.page.locator("#explorer").inner_text()


_COLOUR_MAPPER = 'model("explorer-error-picture").renderers[0].glyph.color_mapper'


def test_arrow_keys_move_through_all_k(page: Opened, digits: Reported) -> None:
    sizes, original = digits.sizes, grey(digits.images["train"][0])
    most = max(np.abs(grey(rebuilt(digits, k, "train", 0)) - original).max() for k in sizes)
    tab_to(page, "slider")
    page.page.keyboard.press("Home")
    for key, k in [
        (None, sizes[0]),
        ("ArrowRight", sizes[1]),
        ("ArrowRight", sizes[2]),
        ("ArrowRight", sizes[2]),
        ("ArrowLeft", sizes[1]),
        ("End", sizes[2]),
        ("Home", sizes[0]),
    ]:
        if key:
            page.page.keyboard.press(key)
        assert size_of(page) == k
        assert_shown(page, digits, k, "train", 0)
        assert_scale(page, most)  # one for all K
    until(lambda: assert_painted(page, digits, sizes[0], "train", 0))
    page.page.keyboard.press("End")
    until(lambda: assert_painted(page, digits, sizes[2], "train", 0))


def assert_scale(page: Opened, most: float) -> None:
    """The colours of the error map end at this error, and the words below say so."""
    ends = page.run("const {low, high} = " + _COLOUR_MAPPER + "; return [low, high]")
    assert ends == pytest.approx([-most, most])
    shown = page.words("explorer-error-words")
    assert float(re.findall(r"[\d.]+", shown)[0]) == pytest.approx(most, rel=5e-3)


def test_arrow_keys_choose_split_and_image(page: Opened, digits: Reported) -> None:
    k, last = size_of(page), len(digits.images["test"]) - 1
    radios = page.page.locator("#explorer").get_by_role("radio", checked=True)
    radios.nth(0).focus()
    page.page.keyboard.press("ArrowRight")
    assert_shown(page, digits, k, "test", 0)
    radios.nth(1).focus()
    page.page.keyboard.press("ArrowRight")
    assert_shown(page, digits, k, "test", 1)
    for _ in range(2):
        page.page.keyboard.press("ArrowLeft")
    assert_shown(page, digits, k, "test", last)
    until(lambda: assert_painted(page, digits, k, "test", last))


def windows(image: np.ndarray, centroids: np.ndarray, spec: PatchSpec) -> dict[Pixel, int]:
    """The centroid of each kept window, by its upper left pixel, which may lie outside."""
    kept = keep_mask(image[np.newaxis], spec)[0]
    labels = iter(
        assign(cut_patches(image[np.newaxis], spec), centroids.reshape(len(centroids), -1))
    )
    above, beside = spec.before
    return {
        (down * spec.stride - above, across * spec.stride - beside): int(next(labels))
        for down in range(kept.shape[0])
        for across in range(kept.shape[1])
        if kept[down, across]
    }


def on_pixel(found: dict[Pixel, int], spec: PatchSpec, pixel: Pixel) -> dict[Pixel, int]:
    """Those windows that cover the pixel, by the pixel's place in them."""
    places = {(pixel[0] - top, pixel[1] - left): label for (top, left), label in found.items()}
    return {
        (row, col): label
        for (row, col), label in places.items()
        if 0 <= row < spec.rows and 0 <= col < spec.cols
    }


def assert_made_of(page: Opened, labels: list[int]) -> None:
    """The centroids that are shown, with their shares, are those of these windows."""
    atoms, weights = (page.column("explorer-tiles", name) for name in ("atom", "weight"))
    shares = {label: labels.count(label) / len(labels) for label in labels}
    assert dict(zip(atoms, weights, strict=True)) == pytest.approx(shares)
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == pytest.approx(1 if labels else 0)


def assert_pixel_made_of(page: Opened, reported: Reported, k: int, pixel: Pixel) -> None:
    """The centroids shown are those that cover the pixel, and their levels mix to its own."""
    spec, centroids = reported.experiment.spec, reported.experiment.centroids(k)
    here = on_pixel(windows(reported.images["train"][0], centroids, spec), spec, pixel)
    assert_made_of(page, list(here.values()))
    levels = [float(text.replace(",", "")) for text in page.column("explorer-tiles", "level")]
    weights = page.column("explorer-tiles", "weight")
    for atom, level in zip(page.column("explorer-tiles", "atom"), levels, strict=True):
        own = [centroids[atom][place].mean() for place, label in here.items() if label == atom]
        # Shown with three digits, of levels stored in 256 steps.
        assert level == pytest.approx(np.mean(own), rel=6e-3, abs=0.6 * reported.largest / 255)
    mixed = sum(weight * level for weight, level in zip(weights, levels, strict=True))
    expected = grey(rebuilt(reported, k, "train", 0))[pixel]
    assert mixed == pytest.approx(expected, rel=6e-3, abs=0.6 * reported.largest / 255)


def test_the_pixel_pointed_at_is_made_of_the_centroids_that_cover_it(
    page: Opened, reported: Reported
) -> None:
    height, width = reported.experiment.image_shape[:2]
    k, spec = reported.sizes[-1], reported.experiment.spec
    whole = list(
        windows(reported.images["train"][0], reported.experiment.centroids(k), spec).values()
    )
    if len(reported.sizes) > 1:
        page.page.get_by_role("slider").press("End")
    until(lambda: assert_made_of(page, whole))
    for picture, pixel in [
        ("rebuilt", (height // 2, width // 2)),
        ("original", (3, 4)),
        ("error", (height - 2, 1)),
        ("rebuilt", (height - 1, width - 1)),
    ]:
        page.point(f"explorer-{picture}-picture", pixel[1] + 0.3, pixel[0] + 0.7)
        until(partial(assert_pixel_made_of, page, reported, k, pixel))
    page.away()
    until(lambda: assert_made_of(page, whole))


def test_a_pixel_without_kept_patches_is_made_of_none(
    browser: "Browser", reports: dict[str, Reported]
) -> None:
    colour = reports["colour"]
    with opened(browser, colour.path) as page:
        page.point("explorer-rebuilt-picture", 0.5, 0.5)  # in a blank window
        until(lambda: assert_made_of(page, []))
        assert "no kept patch" in page.words("explorer-made-words")


def test_a_click_keeps_the_pixel_another_lets_it_go_and_numbers_choose_one(
    page: Opened, digits: Reported
) -> None:
    k, kept, other = digits.sizes[-1], (3, 3), (5, 6)
    page.page.get_by_role("slider").press("End")
    page.point("explorer-rebuilt-picture", kept[1] + 0.5, kept[0] + 0.5)
    page.page.mouse.down()
    page.page.mouse.up()
    until(lambda: assert_says(page, "Click again"))
    page.point("explorer-rebuilt-picture", other[1] + 0.5, other[0] + 0.5)
    page.away()
    page.page.wait_for_timeout(200)
    assert_pixel_made_of(page, digits, k, kept)
    page.point("explorer-rebuilt-picture", kept[1] + 0.5, kept[0] + 0.5)
    page.page.wait_for_timeout(500)  # or the browser takes both for a double click
    page.page.mouse.down()
    page.page.mouse.up()
    until(lambda: assert_says(page, "to keep it"))
    page.point("explorer-rebuilt-picture", other[1] + 0.5, other[0] + 0.5)
    until(lambda: assert_pixel_made_of(page, digits, k, other))
    for label, value in (("Row", "2"), ("Column", "4")):
        page.page.locator("#explorer").get_by_label(label).fill(value)
        page.page.keyboard.press("Enter")
    until(lambda: assert_pixel_made_of(page, digits, k, (2, 4)))


def assert_says(page: Opened, words: str) -> None:
    assert words in page.words("explorer-made-words")


def test_a_finger_chooses_a_pixel(browser: "Browser", digits: Reported) -> None:
    with opened(browser, digits.path, width=390, touch=True) as page:
        ((left, top),) = page.places("explorer-rebuilt-picture", [(4.5, 2.5)])
        page.page.touchscreen.tap(left, top)
        until(lambda: assert_pixel_made_of(page, digits, size_of(page), (2, 4)))
