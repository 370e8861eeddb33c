"""What holds for the whole page: nothing from elsewhere, and any reader is told of everything."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import Opened, opened
from tests.test_analysis.test_html_report.test_page.conftest import Reported

if TYPE_CHECKING:
    from playwright.sync_api import Browser

POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
CONTROLS = {"slider", "radio", "button", "spinbutton", "textbox", "link", "img", "combobox"}


def test_nothing_but_the_page_itself_is_asked_for(page: Opened, reported: Reported) -> None:
    for role in ("slider", "radio"):
        for control in page.page.get_by_role(role).all():
            control.press("ArrowRight")
    page.point("explorer-rebuilt-picture", 2.5, 3.5)
    page.point("atlas-board", 9, 9)
    page.page.wait_for_timeout(200)
    assert page.requests == [reported.path.as_uri()]


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


def test_a_screen_reader_is_told_of_everything(page: Opened, reported: Reported) -> None:
    for slider in page.page.get_by_role("slider").all():
        slider.press("End")  # whose change must not take away a name
    told = accessible(page)
    roles = [one["role"] for one in told]
    assert roles.count("slider") == (1 if len(reported.sizes) > 1 else 0)
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
        made = list(digits.path.parent.glob("figures/*.png"))
        assert page.page.locator("img").count() == len(made) - 2  # two galleries lie beside it


def test_what_is_told_at_the_ends_of_a_curve_is_not_cut_off(page: Opened) -> None:
    page.page.add_style_tag(content=".strip::after { display: block !important; }")
    spans = page.run(
        """const card = document.querySelector("#curve .card").getBoundingClientRect()
        return Array.from(document.querySelectorAll("#curve .strip"), (strip) => {
          const {width, translate} = getComputedStyle(strip, "::after")
          const {left, right} = strip.getBoundingClientRect()
          const start = (left + right) / 2 + parseFloat(translate) / 100 * parseFloat(width)
          return [start - card.left, card.right - start - parseFloat(width)]
        })"""
    )
    assert len(spans) == 6  # of three K in two panels
    assert min(map(min, spans)) > 0
