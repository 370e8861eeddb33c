"""The look of the whole page: at any width, in any light, and on paper."""

import io
import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.image import imread

from analysis.html_report.measured import Measured
from tests.browser import HEIGHT, Opened, opened, until
from tests.test_analysis.test_html_report.test_page.conftest import DARK, Reported

if TYPE_CHECKING:
    from playwright.sync_api import Browser

READABLE = 4.5  # contrast that WCAG 2.1 asks for of text, level AA


def test_no_text_is_cut_off_or_overlaps_at_any_width(
    browser: "Browser", reported: Reported
) -> None:
    with opened(browser, reported.path, width=320) as page:
        for width in (320, 390, 1280):
            page.page.set_viewport_size({"width": width, "height": HEIGHT})
            until(partial(assert_readable, page, width))


def assert_readable(page: Opened, width: int) -> None:
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.run(_CUT_OFF) == []
    assert page.run(_OVERLAPPING) == []
    assert page.run(_OUTSIDE, ["explorer", "atlas"]) == []
    for figure in ("explorer-made-picture", "atlas-near-picture"):
        assert page.run(_WIDER_THAN_THEIR_TILES, figure) == []
        assert page.run(_ROOM_BELOW_TILES, figure) >= 0


def test_figures_follow_when_the_light_changes(page: Opened) -> None:
    page.page.emulate_media(color_scheme="dark")
    for name in ("mse", "use", "patches"):
        image = page.page.locator(f"#{name} img")
        image.scroll_into_view_if_needed()
        levels = imread(io.BytesIO(image.screenshot()), format="png")[..., :3] * 255
        assert np.median(levels[:, :9]) < 60  # the paper, white by day
        assert levels[:, :60].min(axis=2).max() > 180  # words and axes
    images = page.column("explorer-error", "image")[0]
    zero = int(np.abs(images).argmin())
    width = page.run("return model('explorer-error-picture').x_range.end") // 1
    place = (zero % width + 0.5, zero // width + 0.5)
    until(lambda: assert_dark(page, place))


def test_pictures_of_few_used_levels_are_light_enough_and_say_so(
    browser: "Browser", reports: dict[str, Reported]
) -> None:
    """PSNR goes by the whole range all the same."""
    dark = reports[DARK]
    scale, original = Measured(dark.experiment).pictures, dark.images["train"][0]
    assert 2500 < scale.span < 3000 < dark.largest == 16383
    told = f"black is 300 and white {scale.white:g}, the 0.1 and 99.9 percentiles of the training"
    with opened(browser, dark.path) as page:
        (pixels,) = page.column("explorer-original", "image")
        words = page.words("explorer-score")
        coding, stored = (page.column("dictionaries", name) for name in ("coding", "centroids"))
        text = page.page.locator("main").inner_text()
        (errors,), ends = page.column("explorer-error", "image"), page.words("explorer-error-words")
        limits = page.run(
            "const {low, high} = model('explorer-draw').args.scale; return [low, high]"
        )
    shown = np.array(pixels, np.uint32).view(np.uint8).reshape(*original.shape, 4)
    levels = (original.astype(float) - scale.black) / scale.span
    np.testing.assert_array_equal(shown[..., 0], np.floor(255 * np.clip(levels, 0, 1) + 0.5))
    found = re.search(r"MSE\D*([\d.,]+).*PSNR\D*([\d.]+)", words)
    assert found
    mse, psnr = float(found[1].replace(",", "")), float(found[2])
    assert psnr == pytest.approx(10 * np.log10(16383**2 / mse), abs=0.1)
    assert np.abs(errors).max() > scale.span  # of one bright pixel, beside which others are seen
    assert limits == [-scale.span, scale.span]
    assert "≥ +2," in ends
    for (lowest, step, black, white), k, bytes_ in zip(coding, dark.sizes, stored, strict=True):
        assert lowest + step * black == pytest.approx(scale.black, abs=step)
        assert lowest + step * (black + white) == pytest.approx(scale.white, abs=step)
        centroids = dark.experiment.centroids(k).ravel()
        np.testing.assert_allclose(lowest + step * np.array(bytes_), centroids, atol=0.51 * step)
    assert text.count(told) == 1
    assert told.replace("black is", "Black is") in text


def assert_dark(page: Opened, place: tuple[float, float]) -> None:
    assert page.colours("explorer-error-picture", [place]).max() < 90


# Texts of which a part lies outside a box that hides what does not fit.
_CUT_OFF = """
const cut = []
for (const node of texts(document.body)) for (const box of boxes(node)) {
  for (let element = node.parentElement; element; element = above(element)) {
    const {overflowX, position} = getComputedStyle(element)
    if (overflowX == "auto" || overflowX == "scroll") break
    const room = element.getBoundingClientRect()
    if (overflowX != "visible" && element != document.body &&
        (box.left < room.left - 1 || box.right > room.right + 1)) cut.push(node.textContent.trim())
  }
}
return cut
"""

_OVERLAPPING = """
const all = Array.from(texts(document.body)).flatMap((node) =>
  boxes(node).map((box) => ({node, box})))
const found = []
for (const [i, one] of all.entries()) for (const two of all.slice(i + 1)) {
  const across = Math.min(one.box.right, two.box.right) - Math.max(one.box.left, two.box.left)
  // Boxes of lines are higher than their letters.
  const down = Math.min(one.box.bottom, two.box.bottom) - Math.max(one.box.top, two.box.top)
  const lowest = Math.min(one.box.height, two.box.height)
  if (one.node != two.node && across > 1 && down > lowest / 3) {
    found.push([one.node.textContent.trim(), two.node.textContent.trim()])
  }
}
return found
"""

# What readers need of some sections, but that is not within the section, and the window.
_OUTSIDE = """
const found = []
for (const id of argument) {
  const section = document.getElementById(id)
  const {left, right, top, bottom} = section.getBoundingClientRect()
  if (left < 0 || right > innerWidth + 0.5) found.push(id)
  for (const element of deep(section)) {
    if (!element.matches("canvas, label, input, [role=slider], h2, h3, button")) continue
    if (!element.checkVisibility()) continue
    const box = element.getBoundingClientRect()
    const there = element.matches("canvas") ? box.width > 20 && box.height > 10 : true
    const inside = box.left >= left - 1 && box.right <= right + 1 &&
      box.top >= top - 1 && box.bottom <= bottom + 1
    if (!there || !inside) found.push([id, element.tagName, box.left, box.right])
  }
}
return found
"""

_WIDER_THAN_THEIR_TILES = """
const view = Bokeh.index.get(model(argument))
const renderer = view.model.renderers.find((one) => one.glyph.type == "Text")
const {x, words} = renderer.data_source.data
const room = view.frame.x_scale.compute(1.1) - view.frame.x_scale.compute(0)
const probe = document.body.appendChild(document.createElement("span"))
probe.style.fontSize = renderer.glyph.text_font_size.value
probe.style.fontFamily = renderer.glyph.text_font.value
probe.style.position = "absolute"
const wide = words.filter((text) => {
  probe.textContent = text
  return probe.getBoundingClientRect().width > room
})
probe.remove()
return wide
"""


# Pixels between the words below a tile and the next one.
_ROOM_BELOW_TILES = """
const view = Bokeh.index.get(model(argument))
const {glyph, data_source} = view.model.renderers.find((one) => one.glyph.type == "Text")
const {y, bottom} = data_source.data
const next = Math.min(...y.filter((top) => top > bottom[0]), view.model.y_range.start)
const {y_scale} = view.frame
const higher = 4  // as much higher Bokeh writes
return y_scale.compute(next) - y_scale.compute(bottom[0]) - glyph.y_offset.value + higher
  - parseFloat(glyph.text_font_size.value) * 16
"""


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 360)])
def test_axe_finds_nothing(browser: "Browser", reported: Reported, dark: bool, width: int) -> None:
    reason = "axe-playwright-python is not installed"
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=reason).Axe()
    with opened(browser, reported.path, dark=dark, width=width) as page:
        found = axe.run(page.page).response["violations"]
        told = [(one["id"], node["html"][:200]) for one in found for node in one["nodes"]]
        assert told == []
        page.run("for (const image of document.images) image.removeAttribute('alt')")
        assert "image-alt" in [one["id"] for one in axe.run(page.page).response["violations"]]


def test_no_word_is_smaller_than_11_pixels(page: Opened) -> None:
    assert [one for one in page.run(_SIZES) if one[0] < 11] == []
    for image in page.page.locator("figure img").all():
        inches, wide = image.evaluate(
            """(image) => {
              const svg = decodeURIComponent(image.src.slice(image.src.indexOf(",") + 1))
              return [parseFloat(/width="([\\d.]+)pt"/.exec(svg)[1]) / 72, image.width]
            }"""
        )
        assert 7 / 72 * wide / inches > 11  # the smallest words of figures have 7 points


_SIZES = """
const found = []
for (const node of texts(document.body)) {
  const element = node.parentElement ?? node.getRootNode().host
  found.push([parseFloat(getComputedStyle(element).fontSize), node.textContent.trim()])
}
return found
"""


@pytest.mark.parametrize("dark", [True, False])
def test_every_text_stands_out(browser: "Browser", digits: Reported, dark: bool) -> None:
    with opened(browser, digits.path, dark=dark) as page:
        assert (paper(page) < 60) == dark
        on_canvas = page.run(_CONTRASTS_ON_CANVASES)
        contrasts = page.run(_CONTRASTS)
        assert len(on_canvas) == 3
        assert len(contrasts) > 100
        assert [entry for entry in on_canvas + contrasts if entry[0] < READABLE] == []
        scheme = "dark" if dark else "light"
        page.page.emulate_media(media="print", color_scheme=scheme)
        assert paper(page) == 255
        assert [entry for entry in page.run(_CONTRASTS) if entry[0] < READABLE] == []
        assert page.page.pdf(format="A4").startswith(b"%PDF")
        assert page.failures == page.complaints == []


def paper(page: Opened) -> int:
    """The brightest channel of the page's background."""
    colour = page.run("return getComputedStyle(document.body).backgroundColor")
    return max(map(int, re.findall(r"\d+", colour)[:3]))


_CONTRAST = """
const context = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true})
function rgba(colour) {
  context.clearRect(0, 0, 1, 1)
  context.fillStyle = colour
  context.fillRect(0, 0, 1, 1)
  return Array.from(context.getImageData(0, 0, 1, 1).data, (byte) => byte / 255)
}
function over(front, back) {
  return back.map((level, i) => i == 3 ? 1 : level + (front[i] - level) * front[3])
}
function ground(element) {
  if (!element) return [1, 1, 1, 1]
  const own = rgba(getComputedStyle(element).backgroundColor)
  return own[3] == 1 ? own : over(own, ground(above(element)))
}
function luminance(colour) {
  const linear = colour.slice(0, 3).map((level) =>
    level <= 0.03928 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4)
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
}
function contrast(colour, element) {
  const back = ground(element)
  const [light, dark] = [luminance(over(rgba(colour), back)), luminance(back)].sort((a, b) => b - a)
  return (light + 0.05) / (dark + 0.05)
}
const found = []
"""

_CONTRASTS = f"""{_CONTRAST}
for (const node of texts(document.body)) {{
  const element = node.parentElement ?? node.getRootNode().host
  found.push([contrast(getComputedStyle(element).color, element), node.textContent.trim()])
}}
return found
"""

# Words below and beside tiles.
_CONTRASTS_ON_CANVASES = (
    _CONTRAST
    + """
for (const root of Bokeh.index.roots) for (const view of root.children?.() ?? []) {
  const {visuals, model} = view
  for (const name of ["major_label_text", "axis_label_text"]) {
    if (visuals?.[name] && model.visible) {
      found.push([contrast(visuals[name].get_text_color(), root.el), `${model.type} ${name}`])
    }
  }
  const glyph = view.glyph?.model
  if (glyph?.type == "Text") {
    found.push([contrast(glyph.text_color.value, root.el), root.model.name])
  }
}
return found
"""
)
