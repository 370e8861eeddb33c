"""A browser, and reports of small experiments that are as different as can be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from analysis import report
from analysis.experiment import Experiment, open_experiment
from analysis.html_report.exploration import choose_images
from analysis.html_report.measured import Measured
from tests.browser import Opened, opened, started
from tests.conftest import made_once
from tests.test_analysis.test_html_report.small_runs import learn

if TYPE_CHECKING:
    from playwright.sync_api import Browser

KINDS = ("digits", "colour")
DARK = "dark"


@dataclass(frozen=True)
class Reported:
    """A reported experiment, and what its page must show.

    images: split -> the images that can be chosen, (m, *image_shape).
    """

    path: Path
    experiment: Experiment
    images: Mapping[str, np.ndarray]

    @property
    def sizes(self) -> list[int]:
        return self.experiment.sizes

    @property
    def largest(self) -> float:
        return self.experiment.pixels.white


@pytest.fixture(scope="package")
def reports(
    digits_report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Reported]:
    """By KINDS: digits, held-out ones too; colour in float32, cut into rectangles, for one K.

    The border of the colour images is reflected. By DARK 16 bits of which few are used.
    """
    found = {}
    made = made_once(tmp_path_factory, "pages", report_unlike)
    for kind, page in {KINDS[0]: digits_report["report"], **made}.items():
        experiment = open_experiment(Path(page).parent)
        chosen = choose_images(Measured(experiment))
        found[kind] = Reported(Path(page), experiment, chosen.images)
    return found


def report_unlike(out: Path) -> dict[str, str]:
    """Learn from the images that are unlike the digits. Returns: their pages."""
    out.mkdir()
    rng = np.random.default_rng(0)
    colour = np.zeros((12, 9, 10, 3), np.float32)
    colour[:, 2:7, 3:8] = rng.random((12, 5, 5, 3))
    np.save(out / "colour.npy", colour)
    cut = {"patch": (2, 3), "stride": 2, "threshold": 0.05, "border": "reflect"}
    folders = {KINDS[1]: learn(out, (5,), dataset=str(out / "colour.npy"), **cut)}
    dark = np.full((60, 9, 10), 300, np.uint16)
    dark[:, 2:7, 3:8] = rng.integers(300, 3000, (60, 5, 5))
    dark[16, 4, 5] = 9000  # of the image that is shown first
    np.save(out / "dark.npy", dark)
    folders[DARK] = learn(out, (5, 9), dataset=str(out / "dark.npy"), patch=3)
    return {kind: report(folder)[0]["report"] for kind, folder in folders.items()}


# After the reports, so that they are made without playwright's loop.
@pytest.fixture(scope="package")
def browser(reports: dict[str, Reported]) -> "Iterator[Browser]":
    with started() as one:
        yield one


@pytest.fixture(params=KINDS)
def reported(request: pytest.FixtureRequest, reports: dict[str, Reported]) -> Reported:
    """Each of the reports."""
    return reports[request.param]


@pytest.fixture
def digits(reports: dict[str, Reported]) -> Reported:
    return reports["digits"]


@pytest.fixture
def page(browser: "Browser", request: pytest.FixtureRequest) -> Iterator[Opened]:
    """The page of `reported` where a test asks for it, else of `digits`; no script may fail."""
    known = "reported" if "reported" in request.fixturenames else "digits"
    with opened(browser, request.getfixturevalue(known).path) as one:
        yield one
        assert one.failures == one.complaints == []
