"""Pages in a real browser without a window: the system's Chromium, driven by playwright.

playwright's asyncio loop runs in the thread that it was started in until it is stopped: keep
`started` within the tests that need it, so that no others find a running loop.
"""

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.image import imread

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--no-sandbox",  # which root has not
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 5  # seconds until a page must have done what it was asked to
HEIGHT = 900  # of the window, CSS pixels

# What every script below starts with: Bokeh's models by name, and walks through shadow roots.
_SCRIPTS = """
const model = (name) => Bokeh.documents[0].get_model_by_name(name)
const plain = (value) => ArrayBuffer.isView(value) ? Array.from(value) : value
function* deep(root) {
  for (const element of root.querySelectorAll("*")) {
    yield element
    if (element.shadowRoot) yield* deep(element.shadowRoot)
  }
}
const above = (element) =>
  element.assignedSlot ?? element.parentElement ?? element.getRootNode().host ?? null
function* texts(root) {
  for (const element of deep(root)) {
    if (/^(STYLE|SCRIPT|NOSCRIPT|TITLE)$/.test(element.tagName)) continue
    if (!element.checkVisibility({visibilityProperty: true})) continue
    for (const node of element.childNodes) {
      if (node.nodeType == Node.TEXT_NODE && node.textContent.trim()) yield node
    }
  }
}
function boxes(node) {
  const range = document.createRange()
  range.selectNodeContents(node)
  return Array.from(range.getClientRects()).filter((box) => box.width && box.height)
}
"""


def program() -> str:
    """Chromium's path; skips where there is none."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not found:
        pytest.skip(f"no browser: install one of {', '.join(PROGRAMS)}, or set CHROMIUM")
    return found


@contextmanager
def started() -> "Iterator[Browser]":
    """A browser; skips where there is none, or no playwright."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = program()
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(OPTIONS))
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, and what it did.

    complaints: warnings and errors on the console. failures: errors that no script caught.
    requests: addresses of all that was asked for, the page's own first.
    """

    page: "Page"
    complaints: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def run(self, script: str, argument: Any = None) -> Any:
        """What a script returns; it may use `model`, `plain`, `deep`, `above`, `texts`, `boxes`."""
        return self.page.evaluate(f"(argument) => {{ {_SCRIPTS} {script} }}", argument)

    def column(self, source: str, name: str) -> list[Any]:
        """A column of a data source, arrays as lists."""
        return self.run(
            "return Array.from(model(argument[0]).data[argument[1]], plain)", [source, name]
        )

    def words(self, name: str) -> str:
        """The text of a Div."""
        return self.run(
            """const parsed = new DOMParser().parseFromString(model(argument).text, "text/html")
            return parsed.body.textContent""",
            name,
        )

    def places(self, figure: str, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        """Where points of a figure are in the window, once the figure is in it; CSS pixels."""
        return self.run(
            """const view = Bokeh.index.get(model(argument[0]))
            view.el.scrollIntoView({block: "center"})
            const {x, y} = view.canvas_view.el.getBoundingClientRect()
            const {x_scale, y_scale} = view.frame
            return argument[1].map((p) => [x + x_scale.compute(p[0]), y + y_scale.compute(p[1])])
            """,
            [figure, points],
        )

    def point(self, figure: str, x: float, y: float) -> None:
        """Move the mouse to a point of a figure."""
        ((left, top),) = self.places(figure, [(x, y)])
        self.page.mouse.move(left, top)

    def away(self) -> None:
        """Move the mouse out of all figures."""
        self.page.mouse.move(0, 0)

    def painted(self) -> np.ndarray:
        """What is in the window; (height, width, 3) uint8."""
        picture = imread(io.BytesIO(self.page.screenshot()), format="png")
        return np.rint(255 * picture[..., :3]).astype(np.uint8)

    def colours(self, figure: str, points: list[tuple[float, float]]) -> np.ndarray:
        """The colours that are painted at points of a figure; (m, 3) uint8."""
        left, top = np.floor(self.places(figure, points)).astype(int).T
        return self.painted()[top, left]


@contextmanager
def opened(
    browser: "Browser",
    path: Path,
    *,
    width: int = 1280,
    dark: bool = False,
    touch: bool = False,
    scripts: bool = True,
    moves: bool = False,
    fragment: str = "",
) -> Iterator[Opened]:
    """A page opened from disk, when its interactive parts are ready, in a window of that width.

    moves: its reader has nothing against what moves by itself. fragment: of the address, after #.
    """
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHT},
        color_scheme="dark" if dark else "light",
        has_touch=touch,
        reduced_motion="no-preference" if moves else "reduce",
        java_script_enabled=scripts,
    )
    page = context.new_page()
    result = Opened(page)
    page.on("request", lambda request: result.requests.append(request.url))
    page.on("pageerror", lambda error: result.failures.append(str(error)))
    page.on(
        "console",
        lambda message: (
            result.complaints.append(message.text) if message.type in ("warning", "error") else None
        ),
    )
    page.goto(path.as_uri() + (f"#{fragment}" if fragment else ""))
    if scripts:
        page.wait_for_function("window.Bokeh?.documents[0]?.is_idle")
    yield result
    context.close()


def until(check: Callable[[], None]) -> None:
    """Wait until a check raises no AssertionError, for PATIENCE seconds at most."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
