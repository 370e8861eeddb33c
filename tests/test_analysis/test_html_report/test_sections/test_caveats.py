"""Where the evidence is weak, the sections say so."""

from dataclasses import replace
from typing import Any

import pytest

from tests.test_analysis.test_html_report.made_up import CHORD, EDGES, EVEN, LINES, made_up
from tests.test_analysis.test_html_report.test_sections.questions import (
    ASKED,
    CHANGE,
    COMPOSITION,
    COVERAGE,
    NATURE,
    QUALITY,
    caveats,
)

FOUND = made_up()


def test_a_good_run_has_few_caveats() -> None:
    assert [bool(section.caveats(FOUND)) for section in ASKED] == [False, False, True, False, False]
    assert "still falling at K = 600, by 11.0 %" in caveats(FOUND, COVERAGE)
    flat = made_up(mse=[3000.0, 2000.0, 1980.0, 1970.0, 1960.0, 1950.0])
    assert caveats(flat, COVERAGE) == ""


@pytest.mark.parametrize(
    ("question", "changed", "words"),
    [
        (
            CHANGE,
            {"sizes": [1, 2, 3], "mse": [3.0, 2.0, 1.0], "live": [1, 2, 3], "elbow": 2}
            | {"chord": None},
            "only 3 dictionaries",
        ),
        (CHANGE, {"converged": [True] * 4 + [False] * 2}, "The fits of K = 500 and 600 stopped"),
        (CHANGE, {"converged": [True] * 5 + [False]}, "The fit of K = 600 stopped"),
        (
            CHANGE,
            {"live": [100, 200, 300, 400, 500, 590]},
            "At K = 600 10 centroids (1.7 %) stand ",
        ),
        (CHANGE, {"live": [100, 200, 300, 400, 500, 599]}, "At K = 600 1 centroid (0.17 %) stands"),
        (CHANGE, {"live": [80, 200, 300, 400, 500, 570]}, "At K = 100 20 centroids (20.0 %)"),
        (QUALITY, {"heldout": None}, "Nothing was held out"),
        (QUALITY, {"heldout": [2000.0] * 6}, "held-out patches is 25.0 % larger"),
        (QUALITY, {"rows": 6000}, "there are 10 training patches for each centroid"),
        (COVERAGE, {"mse": [3000.0, 2000.0, 1800.0, 1700.0, 1600.0, 1400.0]}, "by 39.8 %"),
        (
            COVERAGE,
            {"chord": replace(CHORD, by_largest={300: 100, 400: 100, 600: 200})},
            "Had the run ended at K = 300, it would stand at K = 100",
        ),
        (
            COVERAGE,
            {"chord": replace(CHORD, by_largest={300: 200, 400: None, 500: 300, 600: 200})},
            "Had the run ended at K = 500, it would stand at K = 300",
        ),
        (COVERAGE, {"chord": replace(CHORD, high=400)}, "anywhere from 200 to 400"),
        (COVERAGE, {"chord": replace(CHORD, resamples=0)}, "nothing to leave out"),
        (COVERAGE, {"lines": replace(LINES, estimate=500)}, "disagree: K = 200"),
        (NATURE, {"kinds": (EVEN, EDGES | {"other": 0.3})}, "no name for 30.0 %"),
        (NATURE, {"patch_shape": (2, 3, 3)}, "A patch of 2×3×3 pixels has no inside"),
        (COMPOSITION, {"heldout": None}, "among those that the dictionary was learned from"),
    ],
)
def test_weak_evidence_is_named(question: int, changed: dict[str, Any], words: str) -> None:
    assert words not in caveats(FOUND, question)
    assert words in caveats(made_up(**changed), question)
