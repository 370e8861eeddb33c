"""What holds for the whole page: nothing from elsewhere, any width, any light, any reader."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import Opened, opened, until
from tests.test_analysis.test_page.conftest import Reported

if TYPE_CHECKING:
    from playwright.sync_api import Browser

READABLE = 4.5  # contrast that WCAG 2.1 asks for of text, level AA
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
CONTROLS = {"slider", "radio", "button", "spinbutton", "textbox", "link", "img", "combobox"}


def test_nothing_but_the_page_itself_is_asked_for(browser: "Browser", reported: Reported) -> None:
    with opened(browser, reported.path) as page:
        for role in ("slider", "radio"):
            for control in page.page.get_by_role(role).all():
                control.press("ArrowRight")
        page.point("explorer-rebuilt-picture", 2.5, 3.5)
        page.point("atlas-board", 9, 9)
        page.page.wait_for_timeout(200)
        assert page.requests == [reported.path.as_uri()]
        assert page.failures == page.complaints == []


@contextmanager
def counting_server() -> Iterator[tuple[str, list[str]]]:
    """An address on this machine, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("policy", [True, False])
def test_the_policy_keeps_planted_requests_from_leaving(
    browser: "Browser", digits: Reported, tmp_path: Path, policy: bool
) -> None:
    with counting_server() as (address, asked):
        planted = (
            f'<body><img src="{address}/picture.png"><script src="{address}/code.js"></script>'
        )
        text = digits.path.read_text().replace("\n<body>\n", planted, 1)
        assert POLICY.search(text)
        copy = tmp_path / "planted.html"
        copy.write_text(text if policy else POLICY.sub("", text))
        with opened(browser, copy) as page:
            page.run("return fetch(argument + '/data').catch(() => null)", address)
            page.page.wait_for_timeout(200)
            if policy:
                assert asked == []
                assert "Content Security Policy" in page.complaints[0]
            else:  # so that the case before could fail
                assert set(asked) == {"/code.js", "/data", "/picture.png"}


def test_no_text_is_cut_off_or_overlaps_at_any_width(
    browser: "Browser", reported: Reported
) -> None:
    with opened(browser, reported.path, width=320) as page:
        for width in (320, 390, 1280):
            page.page.set_viewport_size({"width": width, "height": 900})
            until(partial(assert_readable, page, width))


def assert_readable(page: Opened, width: int) -> None:
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.run(_CUT_OFF) == []
    assert page.run(_OVERLAPPING) == []
    assert page.run(_OUTSIDE, ["explorer", "atlas"]) == []
    for figure in ("explorer-made-picture", "atlas-near-picture"):
        assert page.run(_WIDER_THAN_THEIR_TILES, figure) == []


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


@pytest.mark.parametrize("dark", [True, False])
def test_every_text_stands_out(browser: "Browser", digits: Reported, dark: bool) -> None:
    with opened(browser, digits.path, dark=dark) as page:
        assert (paper(page) < 60) == dark
        on_canvas = page.run(_CONTRASTS_ON_CANVASES)
        contrasts = page.run(_CONTRASTS)
        assert len(on_canvas) > 10
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

# Labels of axes, and words below tiles.
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


def accessible(page: Opened) -> list[dict[str, Any]]:
    """What a screen reader is told: role, name, level and whether each takes the focus."""
    session = page.page.context.new_cdp_session(page.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    found = []
    for node in nodes:
        if node["ignored"]:
            continue
        properties = {one["name"]: one["value"].get("value") for one in node.get("properties", [])}
        found.append(
            {
                "role": node["role"]["value"],
                "name": node.get("name", {}).get("value", ""),
                "level": properties.get("level"),
                "focusable": properties.get("focusable", False),
            }
        )
    return found


def test_a_screen_reader_is_told_of_everything(browser: "Browser", reported: Reported) -> None:
    with opened(browser, reported.path) as page:
        for slider in page.page.get_by_role("slider").all():
            slider.press("End")  # whose change must not take away a name
        told = accessible(page)
        roles = [one["role"] for one in told]
        assert roles.count("slider") == (2 if len(reported.sizes) > 1 else 0)
        assert roles.count("radio") > len(reported.images["train"])
        needs_name = [one for one in told if one["focusable"] or one["role"] in CONTROLS]
        assert [one for one in needs_name if not one["name"].strip()] == []
        pictures = [one["name"] for one in told if one["role"] in ("img", "image")]
        for figure in ("Original", "Rebuilt", "Error"):
            assert any(figure.lower() in name.lower() for name in pictures)
        assert len(set(pictures)) == len(pictures)
        levels = [int(one["level"]) for one in told if one["role"] == "heading"]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert page.page.locator("html").get_attribute("lang") == "en"
        alts = page.run("return Array.from(document.images, (image) => image.alt)")
        assert all(len(alt) > 10 for alt in alts)


def test_without_scripts_texts_and_figures_are_there(browser: "Browser", digits: Reported) -> None:
    with opened(browser, digits.path, scripts=False) as page:
        text = page.page.locator("body").inner_text()
        assert "JavaScript" in text
        assert "How is an image made from them?" in text
        for image in page.page.locator("img").all():
            image.scroll_into_view_if_needed()
            assert image.is_visible()
            assert image.evaluate("(image) => image.naturalWidth") > 100
        assert page.page.locator("img").count() == len(
            list(digits.path.parent.glob("figures/*.png"))
        )
