"""What the sections say of a run, in numbers and in words, and where the evidence is weak."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray

from analysis.html_report.measured import Measured
from analysis.html_report.section import Section
from analysis.html_report.sections import CHANGE, COMPOSITION, COVERAGE, NATURE, QUALITY, SECTIONS
from analysis.measures.pixel_scale import PixelScale
from storage.images.pixel_range import PixelRange
from tests.test_analysis.test_html_report.made_up import (
    CHORD,
    EDGES,
    EVEN,
    LINES,
    MADE,
    NUMBERS,
    image_scores,
    made_up,
)

FIVE = ("How", "How", "How", "What", "How")  # the study's
ASKED = [section for section in SECTIONS if section.question]
FOUND = made_up()
SHOWN = replace(FOUND.pixels, levels=PixelRange(20, 60), narrowed=True)


def text(measured: Measured, section: Section) -> str:
    return " ".join(section.paragraphs(measured))


def caveats(measured: Measured, section: Section) -> str:
    return " ".join(section.caveats(measured))


def test_the_questions_are_answered_in_order() -> None:
    questions = [section.question for section in ASKED]
    assert [question.split()[0] for question in questions] == [*FIVE, "What"]
    assert [section.name for section in SECTIONS][2:-1] == [section.name for section in ASKED]


def test_answers_are_short_and_begin_with_a_number() -> None:
    for section in ASKED:
        paragraphs = section.paragraphs(FOUND)
        assert 1 < len(paragraphs) <= 3
        assert any(sign.isdecimal() for sign in paragraphs[0])
        assert all(len(paragraph) < 900 for paragraph in paragraphs)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (CHANGE, "goes from 3,000 to 1,600 squared grey levels, 46.7 % less"),
        (CHANGE, "takes away 33.3 % of the MSE at the beginning of the range and 11.0 % at its"),
        (CHANGE, "(1.76 and 0.508 dB"),
        (CHANGE, "slope −0.500"),
        (CHANGE, "as if they had about 4.0 dimensions, not 25"),
        (CHANGE, "All 600 centroids are in use"),
        (CHANGE, "belong to the 101 most used, and the most used one alone has 2.1 %"),
        (CHANGE, "as varied as that of 320 centroids"),
        (CHANGE, "Gini coefficient, 0 when all are used alike and near 1 when one has all"),
        (CHANGE, "takes 8.32 bits instead of 9.23"),
        (QUALITY, "At K = 200, the elbow of the curve, a rebuilt patch is off by 44.7 grey levels"),
        (QUALITY, "MSE of 2,000 squared grey levels"),
        (QUALITY, "(PSNR) of 15.1 dB"),
        (QUALITY, "explain 80.0 % of the patches' variance"),
        (QUALITY, "only centroid would have an MSE of 10,000"),
        (QUALITY, "goes from 54.8 to 40.0 grey levels, and the variance explained from 70.0 %"),
        (QUALITY, "at K = 600 is 1,625, 1.6 % above that of the training patches: what was"),
        (COVERAGE, "About 500, if a patch counts as covered when a centroid is near"),
        (COVERAGE, "at most 25.5 grey levels, 10.0 % of the largest"),
        (COVERAGE, "goes from 50.0 % at K = 100 to 95.0 % at K = 600"),
        (COVERAGE, "By the elbow, where the curve of the training MSE bends most, about 200"),
        (COVERAGE, "at K = 200 the MSE is 2,000"),
        (COVERAGE, "95 % of 204 trials put it between K = 200 and K = 300"),
        (COVERAGE, "90.0 % of those that keep K = 200 choose it again"),
        (COVERAGE, "part at K = 300, with the slope −0.400 before and −0.150 after"),
        (COVERAGE, "95 % of 150 trials put it between K = 200 and K = 400"),
        (COVERAGE, "still takes away 15.8 % of the held-out MSE, more than 5 %"),
        (NATURE, "Most of the 600 centroids are edges: dark meets light"),
        (NATURE, "All kinds at K = 600: edges 62.5 %, strokes 20.0 %, flat 10.0 % and other 7.5 %"),
        (NATURE, "At K = 100: flat 12.5 %"),
        (NATURE, "By the patches nearest to them, at K = 600: flat 12.5 %"),
        (NATURE, "below 6 % of the largest level"),
        (COMPOSITION, "The test image 7 has 16 windows, 12 of them with a patch"),
        (COMPOSITION, "With K = 200 they are replaced by 9 different centroids"),
        (COMPOSITION, "mean of 6.25 patches"),
        (COMPOSITION, "is 500.0 over all pixels, and 600.0 over the covered ones"),
        (COMPOSITION, "the MSE is 2.50 times smaller than patch by patch"),
        (COMPOSITION, "1,500 test images together, rebuilt with K = 200, have an MSE of 65.00"),
        (COMPOSITION, "of class 1 are rebuilt best (MSE 20.00), those of class 8 worst (90.00)"),
    ],
)
def test_answers_give_the_numbers(section: Section, words: str) -> None:
    assert words in text(FOUND, section)


@pytest.mark.parametrize(
    ("section", "changed", "words"),
    [
        (CHANGE, {"mse": [3000.0, 2000.0, 1800.0, 1700.0, 1650.0, 1500.0]}, "50.0 % less"),
        (CHANGE, {"mse": [9.0, 8.0, 7.0, 8.0, 9.0, 9.0]}, "do not lower the error"),
        (CHANGE, {"exponent": -0.25}, "about 8.0 dimensions"),
        (CHANGE, {"live": [100, 200, 300, 400, 500, 590]}, "Of 600 centroids 590 are in use"),
        (CHANGE, {"gini": [0.5] * 6}, "is 0.50"),
        (CHANGE, {"half": [1] * 6}, "not alike: the most used one alone has 2.1 % of the patches."),
        (CHANGE, {"entropy": [4.0] * 6}, "takes 4.00 bits"),
        (QUALITY, {"variance": 4000.0}, "explain 50.0 %"),
        (QUALITY, {"elbow": None}, "At K = 600 a rebuilt patch is off by 40.0"),
        (QUALITY, {"heldout": [3000.0, 2000.0, 1800.0, 1700.0, 1650.0, 1584.0]}, "1.0 % below"),
        (
            QUALITY,
            {"pixels": PixelScale(PixelRange(0, 1.0), "pixel levels")},
            "pixel levels on the scale 0 … 1",
        ),
        (
            COVERAGE,
            {"within": [0.5, 0.6, 0.92, 0.93, 0.94, 0.95]},
            "K = 300 is the first of those tried to cover 90 % of 4,321 held-out patches",
        ),
        (
            COVERAGE,
            {"within": [0.1] * 6},
            "More than the 600 that were tried, if a patch counts as covered when",
        ),
        (
            COVERAGE,
            {"pixels": PixelScale(PixelRange(0, 1.0), "levels")},
            "at most 0.100 levels, 10.0 %",
        ),
        (COVERAGE, {"pictures": SHOWN}, "at most 4.00 grey levels, 10.0 % of the range that pic"),
        (NATURE, {"pictures": SHOWN}, "“The largest level” is the range that pictures show, 40."),
        (COVERAGE, {"heldout": None}, "cover 90 % of 4,321 training patches"),
        (COVERAGE, {"heldout": None}, "still takes away 11.0 % of the training MSE"),
        (COVERAGE, {"heldout": [3.0, 2.0, 1.9, 1.89, 1.88, 1.87]}, "From K = 300 on a doubling"),
        (COVERAGE, {"heldout": [9.0, 8.9, 8.8, 8.7, 8.6, 8.5]}, "From K = 100 on a doubling"),
        (COVERAGE, {"heldout": [9.0, 8.0, 7.0, 6.9, 6.8, 6.75]}, "2.8 % at the end of the range"),
        (COVERAGE, {"heldout": [9.0, 8.0, 7.0, 6.9, 6.8, 6.9]}, "more centroids do harm there"),
        (COVERAGE, {"heldout": [3.0, 2.0, 1.0, 0.5, 0.1, 0.0]}, "every patch is a centroid"),
        (COVERAGE, {"elbow": 300}, "bends most, about 300"),
        (COVERAGE, {"elbow": None}, "No elbow can be given"),
        (COVERAGE, {"chord": replace(CHORD, high=200)}, "204 trials put it at K = 200"),
        (COVERAGE, {"bend": None, "lines": None}, "finds no place where the curve flattens"),
        (NATURE, {"kinds": (EDGES, EDGES | {"edge": 0.1, "stroke": 0.7})}, "are strokes: straight"),
        (NATURE, {"kinds": (EDGES, EVEN)}, "The two largest groups of the 600 centroids are"),
        (NATURE, {"kinds_by_use": (EVEN, EDGES)}, "nearest to them, at K = 600: edges 62.5 %"),
        (
            COMPOSITION,
            {"made": replace(MADE, overlap=1.0, covered_mse=1500.0)},
            "No pixel is covered twice",
        ),
        (COMPOSITION, {"made": replace(MADE, patches=16)}, "16 windows, all of them"),
        (
            COMPOSITION,
            {"scores": image_scores({0: (3, 10.0), 1: (3, 20.0)})},
            "class 0 are rebuilt best",
        ),
        (COMPOSITION, {"scores": image_scores({0: (3, 70.0)})}, "an MSE of 70.00"),
        (COMPOSITION, {"scores": image_scores({0: (3, 70.0)})}, "a PSNR of 29.7 dB"),
        (COMPOSITION, {"scores": image_scores({0: (7, 70.0)})}, "7 test images together"),
        (COMPOSITION, {"heldout": None}, "1,500 training images"),
        (
            CHANGE,
            {"sizes": [1, 2, 3], "live": [1, 2, 3], "elbow": 2, "chord": None},
            "only 3 dictionaries",
        ),
        (CHANGE, {"converged": [True] * 4 + [False] * 2}, "The fits of K = 500 and 600 stopped"),
        (CHANGE, {"converged": [True] * 5 + [False]}, "The fit of K = 600 stopped"),
        (CHANGE, {"live": [100, 200, 300, 400, 500, 590]}, "10 centroids (1.7 %) stand "),
        (CHANGE, {"live": [100, 200, 300, 400, 500, 599]}, "At K = 600 1 centroid (0.17 %) stands"),
        (CHANGE, {"live": [80, 200, 300, 400, 500, 570]}, "At K = 100 20 centroids (20.0 %)"),
        (QUALITY, {"heldout": None}, "Nothing was held out"),
        (QUALITY, {"heldout": [2000.0] * 6}, "held-out patches is 25.0 % larger"),
        (QUALITY, {"rows": 6000}, "there are 10 training patches for each centroid"),
        (COVERAGE, {"mse": [3000.0, 2000.0, 1800.0, 1700.0, 1600.0, 1400.0]}, "by 39.8 %"),
        (
            COVERAGE,
            {"chord": replace(CHORD, by_largest={300: 100, 400: 100, 600: 200})},
            "ended at K = 300, it would stand at K = 100",
        ),
        (
            COVERAGE,
            {"chord": replace(CHORD, by_largest={300: 200, 400: None, 500: 300, 600: 200})},
            "ended at K = 500, it would stand at K = 300",
        ),
        (COVERAGE, {"chord": replace(CHORD, high=400)}, "anywhere from 200 to 400"),
        (COVERAGE, {"chord": replace(CHORD, resamples=0)}, "nothing to leave out"),
        (COVERAGE, {"lines": replace(LINES, estimate=500)}, "disagree: K = 200"),
        (NATURE, {"kinds": (EVEN, EDGES | {"other": 0.3})}, "no name for 30.0 %"),
        (NATURE, {"patch_shape": (2, 3, 3)}, "A patch of 2×3×3 pixels has no inside"),
        (COMPOSITION, {"heldout": None}, "among those that the dictionary was learned from"),
    ],
)
def test_answers_and_caveats_change_with_the_numbers(
    section: Section, changed: dict[str, Any], words: str
) -> None:
    found = made_up(**changed)
    assert words not in text(FOUND, section) + caveats(FOUND, section)
    assert words in text(found, section) + caveats(found, section)


def test_a_good_run_has_few_caveats() -> None:
    assert [bool(section.caveats(FOUND)) for section in ASKED] == [0, 0, 1, 0, 0, 0]
    assert "still falling at K = 600, by 11.0 %" in caveats(FOUND, COVERAGE)
    flat = made_up(mse=[3000.0, 2000.0, 1980.0, 1970.0, 1960.0, 1950.0])
    assert caveats(flat, COVERAGE) == ""


@pytest.mark.parametrize(("largest", "told"), [(255.0, "25.0 grey"), (1.0, "0.0980 grey")])
def test_coverage_is_told_up_to_a_tenth_of_the_largest_level(largest: float, told: str) -> None:
    found, levels = (
        made_up(pixels=PixelScale(PixelRange(0, largest), "grey levels")),
        np.linspace(0, largest, 256),
    )
    for k in found.sizes:
        within = ("epsilon", levels / largest * k / 60)
        found.coverage[k] = xarray.Dataset({"within": within, "rows": 99}, {"epsilon": levels})
    assert told in text(found, COVERAGE)
    assert "goes from 16.3 % at K = 100 to 98.0 % at K = 600" in text(found, COVERAGE)
    assert "of 99 held-out patches" in text(found, COVERAGE)


@pytest.mark.parametrize("names", [("zero", "one", "two"), None])
def test_rebuilt_images_are_told_by_class(names: tuple[str, ...] | None) -> None:
    several = {0: (2, 20.0), 2: (1, 80.0)}
    told = text(made_up(scores=image_scores(several), class_names=names), COMPOSITION)
    assert "3 test images together" in told
    assert "an MSE of 40.00, a PSNR of 32.1 dB" in told
    best, worst = ("zero", "two") if names else ("0", "2")
    assert f"class {best} are rebuilt best (MSE 20.00), those of class {worst} worst" in told
    without = text(made_up(scores=image_scores(several, labels=False)), COMPOSITION)
    assert without.endswith("an MSE of 40.00, a PSNR of 32.1 dB.")


def test_one_small_gain_before_a_large_one_is_no_end() -> None:
    found = made_up(heldout=[9.0, 8.9, 8.8, 8.7, 8.6, 5.0])
    assert "No number that was tried is so large" in text(found, COVERAGE)


def few(sizes: list[int], mse: list[float], **changed: Any) -> Measured:
    """A run without an elbow, and with nothing held out."""
    none = dict.fromkeys(("heldout", "elbow", "chord", "lines", "bend"))
    return made_up(**none | {"sizes": sizes, "mse": mse, "live": sizes} | changed)


def test_two_dictionaries_are_one_step() -> None:
    two = few([100, 200], [3000.0, 2000.0])
    assert "takes away 33.3 % of the MSE (1.76 dB of" in text(two, CHANGE)
    assert "dimensions" not in text(two, CHANGE)
    assert "slope" not in text(two, CHANGE) + caveats(two, CHANGE)
    assert "taken from a single step" in caveats(two, CHANGE)
    assert "this run has 2 dictionaries" in text(two, COVERAGE)
    three = few([10, 20, 50], [300.0, 250.0, 200.0])
    assert "slope" in caveats(three, CHANGE)
    assert "an elbow marks" not in text(two, COVERAGE)


def test_one_dictionary_is_told_without_a_curve() -> None:
    one = few([100], [3000.0], exponent=None)
    assert "one dictionary, of K = 100 centroids" in text(one, CHANGE)
    assert "At K = 100 a rebuilt patch is off by 54.8" in text(one, QUALITY)
    assert "From" not in text(one, QUALITY)
    assert "this run has 1 dictionary" in text(one, COVERAGE)
    assert text(one, NATURE).count("At K =") == 0
    assert "still falling" not in caveats(one, COVERAGE)
    assert "dictionaries" not in caveats(one, CHANGE)


def test_one_centroid_is_the_mean_patch() -> None:
    one = few([1], [3000.0], exponent=None)
    assert "Its one centroid is the mean patch" in text(one, CHANGE)
    assert "of K = 1 centroid, with" in text(one, CHANGE)
    assert text(one, NATURE).startswith("The only centroid, the mean patch, is of the kind “")


def test_patches_that_are_all_alike_are_rebuilt_exactly() -> None:
    """No variance and no error, so neither a share explained nor a PSNR."""
    exact = image_scores({0: (3, 0.0)})
    alike = few([1], [0.0], exponent=None, variance=0.0, scores=exact)
    assert "K = 1 every patch is one of the centroids, so it is rebuilt" in text(alike, QUALITY)
    assert text(alike, COMPOSITION).endswith("rebuilt with K = 1, have an MSE of 0.")
    assert not any("–" in text(alike, section) for section in ASKED)


def test_no_error_at_all_is_told() -> None:
    exact = made_up(mse=[0.0] * 6, heldout=[0.0] * 6, exponent=None, elbow=None)
    assert "every patch is a centroid" in text(exact, COVERAGE)
    assert "every patch is one of the centroids" in text(exact, QUALITY)


def test_no_training_error_alone_is_learning_by_heart() -> None:
    learned = made_up(mse=[*NUMBERS["mse"][:-1], 0.0], exponent=None)
    assert "is 1,625, not 0 as that of the training patches." in text(learned, QUALITY)
    assert "what was learned holds" not in text(learned, QUALITY)
    assert "holds its training patches by heart" in caveats(learned, QUALITY)
