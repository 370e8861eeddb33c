import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray

from analysis.html_report.answers import Answer, answers
from analysis.html_report.findings import Findings, ImageFindings, RebuiltFindings
from analysis.html_report.investigation import with_coverage, with_scores
from analysis.measures.elbow import Bend, ElbowInterval
from analysis.measures.kinds import KINDS
from analysis.measures.pixel_scale import PixelScale
from analysis.text import (
    compact,
    count,
    listed,
    number,
    percent,
    round_percent,
    signed,
    unbroken,
)

EVEN = dict.fromkeys(KINDS, 1 / len(KINDS))
EDGES = dict.fromkeys(KINDS, 0.0) | {"flat": 0.1, "edge": 0.625, "stroke": 0.2, "other": 0.075}
CHORD = ElbowInterval("chord", 200, 200, 300, 0.9, 204, {300: 200, 400: 200, 600: 200})
LINES = ElbowInterval("lines", 300, 200, 400, 0.5, 150, {600: 300})
REBUILT = RebuiltFindings("test", 1500, 65.0, 30.0, {"0": 70.0, "1": 20.0, "8": 90.0})
FOUND = Findings(
    dataset="digits",
    image_shape=(8, 8),
    patch="5×5",
    dim=25,
    patches=100_000,
    pixels=PixelScale(255, "grey levels"),
    sizes=[100, 200, 300, 400, 500, 600],
    mse=[3000.0, 2000.0, 1800.0, 1700.0, 1650.0, 1600.0],
    heldout=[3100.0, 2200.0, 1950.0, 1800.0, 1700.0, 1625.0],
    live=[100, 200, 300, 400, 500, 600],
    perplexity=[90.0, 170.0, 220.0, 250.0, 290.0, 320.0],
    half=[30, 55, 60, 75, 88, 101],
    largest_share=[0.05, 0.03, 0.03, 0.025, 0.023, 0.021],
    elbow=200,
    exponent=-0.5,
    variance=10000.0,
    kinds=(EVEN, EDGES),
    kinds_by_use=(EDGES, EVEN),
    image=ImageFindings("test", 7, 200, 16, 12, 9, 6.25, 500.0, 600.0, 1500.0),
    gini=[0.1, 0.2, 0.25, 0.3, 0.32, 0.34],
    entropy=[6.5, 7.4, 7.8, 8.0, 8.2, 8.32],
    converged=[True] * 6,
    chord_elbow=CHORD,
    lines_elbow=LINES,
    bend=Bend(300, -0.4, -0.15),
    within=[0.5, 0.6, 0.7, 0.8, 0.905, 0.95],
    epsilon=0.1,
    rebuilt=REBUILT,
)
OPTIONAL = "gini entropy converged chord_elbow lines_elbow bend within epsilon rebuilt"
BARE = replace(FOUND, **dict.fromkeys(OPTIONAL.split()))
CHANGE, QUALITY, COVERAGE, NATURE, COMPOSITION = range(5)


def answer(found: Findings, question: int) -> Answer:
    return answers(found)[question]


def text(found: Findings, question: int) -> str:
    return " ".join(answer(found, question).paragraphs)


def caveats(found: Findings, question: int) -> str:
    return " ".join(answer(found, question).caveats)


def test_the_five_questions_are_answered_in_order() -> None:
    questions = [answer.question for answer in answers(FOUND)]
    assert [question.split()[0] for question in questions] == ["How", "How", "How", "What", "How"]
    assert all(answer.paragraphs for answer in answers(FOUND))


def test_answers_are_short_and_begin_with_a_number() -> None:
    for one in answers(FOUND):
        assert len(one.paragraphs) <= 3
        assert any(sign.isdecimal() for sign in one.paragraphs[0])
        assert all(len(paragraph) < 900 for paragraph in one.paragraphs)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (CHANGE, "goes from 3,000 to 1,600 squared grey levels, 46.7 % less"),
        (CHANGE, "takes away 33.3 % of the MSE at the beginning of the range and 11.0 % at its"),
        (CHANGE, "(1.76 and 0.508 dB"),
        (CHANGE, "slope −0.500"),
        (CHANGE, "as if they had about 4.0 dimensions, not 25"),
        (CHANGE, "All 600 centroids are in use"),
        (CHANGE, "belong to the 101 most used, and the most used one alone has 2.1 %"),
        (CHANGE, "as varied as that of 320 centroids"),
        (
            CHANGE,
            "Gini coefficient, 0 when all are used alike and near 1 when one has all, is 0.34",
        ),
        (CHANGE, "takes 8.32 bits instead of 9.23"),
        (QUALITY, "At K = 200, the elbow of the curve, a rebuilt patch is off by 44.7 grey levels"),
        (QUALITY, "MSE of 2,000 squared grey levels"),
        (QUALITY, "(PSNR) of 15.1 dB"),
        (QUALITY, "explain 80.0 % of the patches' variance"),
        (QUALITY, "only centroid would have an MSE of 10,000"),
        (QUALITY, "goes from 54.8 to 40.0 grey levels, and the variance explained from 70.0 %"),
        (
            QUALITY,
            "at K = 600 is 1,625, 1.6 % above that of the training patches: what was learned",
        ),
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
        (
            COMPOSITION,
            "1,500 test images together, rebuilt with K = 200, have an MSE of 65.00, a PSNR",
        ),
        (COMPOSITION, "of class 1 are rebuilt best (MSE 20.00), those of class 8 worst (90.00)"),
    ],
)
def test_answers_give_the_numbers(question: int, words: str) -> None:
    assert words in text(FOUND, question)


@pytest.mark.parametrize(
    ("question", "changed", "words"),
    [
        (CHANGE, {"mse": [3000.0, 2000.0, 1800.0, 1700.0, 1650.0, 1500.0]}, "50.0 % less"),
        (CHANGE, {"mse": [9.0, 8.0, 7.0, 8.0, 9.0, 9.0]}, "do not lower the error"),
        (CHANGE, {"exponent": -0.25}, "about 8.0 dimensions"),
        (CHANGE, {"live": [100, 200, 300, 400, 500, 590]}, "Of 600 centroids 590 are in use"),
        (CHANGE, {"gini": [0.5] * 6}, "is 0.50"),
        (CHANGE, {"entropy": [4.0] * 6}, "takes 4.00 bits"),
        (QUALITY, {"variance": 4000.0}, "explain 50.0 %"),
        (QUALITY, {"elbow": None}, "At K = 600 a rebuilt patch is off by 40.0"),
        (QUALITY, {"heldout": [3000.0, 2000.0, 1800.0, 1700.0, 1650.0, 1584.0]}, "1.0 % below"),
        (QUALITY, {"pixels": PixelScale(1.0, "pixel levels")}, "pixel levels on the scale 0 … 1"),
        (
            COVERAGE,
            {"within": [0.5, 0.6, 0.92, 0.93, 0.94, 0.95]},
            "K = 300 is the first of those tried to cover 90 % of the held-out patches",
        ),
        (
            COVERAGE,
            {"within": [0.1] * 6},
            "K = 600 covers 10.0 % of the held-out patches, and 90 % are wanted",
        ),
        (COVERAGE, {"epsilon": 0.2}, "at most 51.0 grey levels, 20.0 % of the largest"),
        (COVERAGE, {"heldout": None}, "cover 90 % of the training patches"),
        (COVERAGE, {"heldout": None}, "still takes away 11.0 % of the training MSE"),
        (COVERAGE, {"heldout": [3.0, 2.0, 1.9, 1.89, 1.88, 1.87]}, "From K = 300 on a doubling"),
        (COVERAGE, {"heldout": [9.0, 8.9, 8.8, 8.7, 8.6, 8.5]}, "From K = 100 on a doubling"),
        (COVERAGE, {"heldout": [9.0, 8.0, 7.0, 6.9, 6.8, 6.75]}, "2.8 % at the end of the range"),
        (COVERAGE, {"heldout": [9.0, 8.0, 7.0, 6.9, 6.8, 6.9]}, "more centroids do harm there"),
        (COVERAGE, {"heldout": [3.0, 2.0, 1.0, 0.5, 0.1, 0.0]}, "every patch is a centroid"),
        (COVERAGE, {"elbow": 300}, "bends most, about 300"),
        (COVERAGE, {"elbow": None}, "No elbow can be given"),
        (COVERAGE, {"chord_elbow": replace(CHORD, high=200)}, "204 trials put it at K = 200"),
        (COVERAGE, {"bend": None, "lines_elbow": None}, "finds no place where the curve flattens"),
        (NATURE, {"kinds": (EDGES, EDGES | {"edge": 0.1, "stroke": 0.7})}, "are strokes: straight"),
        (NATURE, {"kinds": (EDGES, EVEN)}, "The two largest groups of the 600 centroids are"),
        (NATURE, {"kinds_by_use": (EVEN, EDGES)}, "nearest to them, at K = 600: edges 62.5 %"),
        (
            COMPOSITION,
            {"image": replace(FOUND.image, overlap=1.0, covered_mse=1500.0)},
            "No pixel is covered twice",
        ),
        (COMPOSITION, {"image": replace(FOUND.image, patches=16)}, "16 windows, all of them"),
        (
            COMPOSITION,
            {"rebuilt": replace(REBUILT, classes={"0": 10.0, "1": 20.0})},
            "class 0 are rebuilt best",
        ),
        (COMPOSITION, {"rebuilt": replace(REBUILT, mse=70.0)}, "an MSE of 70.00"),
        (COMPOSITION, {"rebuilt": replace(REBUILT, psnr=31.0)}, "a PSNR of 31.0 dB"),
        (COMPOSITION, {"rebuilt": replace(REBUILT, images=7)}, "7 test images together"),
        (COMPOSITION, {"rebuilt": replace(REBUILT, split="training")}, "1,500 training images"),
    ],
)
def test_answers_change_with_the_numbers(
    question: int, changed: dict[str, Any], words: str
) -> None:
    assert words not in text(FOUND, question)
    assert words in text(replace(FOUND, **changed), question)


@pytest.mark.parametrize(("largest", "told"), [(255, "25.0 grey"), (1.0, "0.0980 grey")])
def test_coverage_is_told_at_a_tenth_of_the_largest_level(largest: float, told: str) -> None:
    levels = np.linspace(0, largest, 256)
    coverage = {
        k: xarray.Dataset(
            {"within": ("epsilon", levels / largest * k / 600), "rows": 4321}, {"epsilon": levels}
        )
        for k in FOUND.sizes
    }
    found = with_coverage(
        replace(BARE, pixels=PixelScale(largest, "grey levels")), dict(reversed(coverage.items()))
    )
    assert found.epsilon == pytest.approx(25 / 255)
    assert found.within == pytest.approx([25 / 255 * k / 600 for k in FOUND.sizes])
    assert told in text(found, COVERAGE)
    assert "of 4,321 held-out patches" in text(found, COVERAGE)


@pytest.mark.parametrize("names", [("zero", "one", "two"), None])
def test_rebuilt_images_are_told_by_class(names: tuple[str, ...] | None) -> None:
    scores = xarray.Dataset(
        {
            "mse": ("image", [10.0, 30.0, 80.0]),
            "psnr": ("image", [30.0, 25.0, 20.0]),
            "covered_mse": ("image", [20.0, 60.0, 160.0]),
            "covered": ("image", [0.5, 0.5, 0.5]),
        },
        {"label": ("image", [0, 0, 2])},
        {"peak": 255.0, "split": "test"},
    )
    found = with_scores(BARE, scores, names)
    assert found.rebuilt is not None
    assert found.rebuilt.classes == ({"zero": 20, "two": 80} if names else {"0": 20, "2": 80})
    assert "3 test images together" in text(found, COMPOSITION)
    assert "an MSE of 40.00, a PSNR of 32.1 dB" in text(found, COMPOSITION)
    without = with_scores(BARE, scores.drop_vars("label")).rebuilt
    assert without == replace(found.rebuilt, classes=None)


def test_what_is_not_known_is_not_told() -> None:
    told = " ".join(text(BARE, question) for question in range(5))
    for words in ("Gini", "bits", "trials", "covered when", "together", "None", "nan"):
        assert words not in told


def test_without_classes_only_their_sentence_is_missing() -> None:
    found = replace(FOUND, rebuilt=replace(REBUILT, classes=None))
    assert "have an MSE of 65.00, a PSNR of 30.0 dB." in text(found, COMPOSITION)
    assert "class" not in text(found, COMPOSITION)


def test_a_good_run_has_few_caveats() -> None:
    falling = [one.caveats for one in answers(FOUND)]
    assert falling == [[], [], [falling[COVERAGE][0]], [], []]
    assert "still falling at K = 600, by 11.0 %" in falling[COVERAGE][0]
    flat = replace(FOUND, mse=[3000.0, 2000.0, 1980.0, 1970.0, 1960.0, 1950.0])
    assert caveats(flat, COVERAGE) == ""


@pytest.mark.parametrize(
    ("question", "changed", "words"),
    [
        (
            CHANGE,
            {"sizes": [1, 2, 3], "mse": [3.0, 2.0, 1.0], "live": [1, 2, 3], "elbow": 2}
            | {"converged": None, "within": None},
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
        (QUALITY, {"patches": 6000}, "there are 10 training patches for each centroid"),
        (COVERAGE, {"mse": [3000.0, 2000.0, 1800.0, 1700.0, 1600.0, 1400.0]}, "by 39.8 %"),
        (
            COVERAGE,
            {"chord_elbow": replace(CHORD, by_largest={300: 100, 400: 100, 600: 200})},
            "Had the run ended at K = 300, it would stand at K = 100",
        ),
        (
            COVERAGE,
            {"chord_elbow": replace(CHORD, by_largest={300: 200, 400: None, 500: 300, 600: 200})},
            "Had the run ended at K = 500, it would stand at K = 300",
        ),
        (COVERAGE, {"chord_elbow": replace(CHORD, high=400)}, "anywhere from 200 to 400"),
        (COVERAGE, {"chord_elbow": replace(CHORD, resamples=0)}, "nothing to leave out"),
        (COVERAGE, {"lines_elbow": replace(LINES, estimate=500)}, "disagree: K = 200"),
        (NATURE, {"kinds": (EVEN, EDGES | {"other": 0.3})}, "no name for 30.0 %"),
        (NATURE, {"patch": "2×3×3"}, "A patch of 2×3×3 pixels has no inside"),
        (COMPOSITION, {"rebuilt": None}, "a single image"),
        (COMPOSITION, {"heldout": None}, "among those that the dictionary was learned from"),
    ],
)
def test_weak_evidence_is_named(question: int, changed: dict[str, Any], words: str) -> None:
    assert words not in caveats(FOUND, question)
    assert words in caveats(replace(FOUND, **changed), question)


def test_one_small_gain_before_a_large_one_is_no_end() -> None:
    found = replace(FOUND, heldout=[9.0, 8.9, 8.8, 8.7, 8.6, 5.0])
    assert "But no number that was tried is enough" in text(found, COVERAGE)


def test_two_dictionaries_have_one_gain() -> None:
    two = replace(BARE, sizes=[100, 200], mse=[3000.0, 2000.0], live=[100, 200], heldout=None)
    two = replace(two, elbow=None)
    assert "takes away 33.3 % of the MSE (1.76 dB of" in text(two, CHANGE)
    assert "dimensions" not in text(two, CHANGE)
    assert "this run has 2 dictionaries" in text(two, COVERAGE)


def test_one_dictionary_is_told_without_a_curve() -> None:
    one = replace(
        BARE,
        sizes=[100],
        mse=[3000.0],
        heldout=None,
        live=[100],
        perplexity=[90.0],
        elbow=None,
        exponent=None,
        kinds=(EDGES, EDGES),
        kinds_by_use=(EDGES, EDGES),
    )
    assert "one dictionary, of K = 100 centroids" in text(one, CHANGE)
    assert "At K = 100 a rebuilt patch is off by 54.8" in text(one, QUALITY)
    assert "From" not in text(one, QUALITY)
    assert "this run has 1 dictionary" in text(one, COVERAGE)
    assert text(one, NATURE).count("At K =") == 0
    assert "still falling" not in caveats(one, COVERAGE)
    assert "dictionaries" not in caveats(one, CHANGE)


def test_one_centroid_is_the_mean_patch() -> None:
    one = replace(BARE, sizes=[1], mse=[3000.0], live=[1], elbow=None, exponent=None)
    assert "Its one centroid is the mean patch" in text(one, CHANGE)
    assert "of K = 1 centroid, with" in text(one, CHANGE)
    assert text(one, NATURE).startswith("The only centroid, the mean patch, is of the kind “")


def test_patches_that_are_all_alike_are_rebuilt_exactly() -> None:
    """No variance and no error, so neither a share explained nor a PSNR."""
    alike = replace(
        BARE,
        sizes=[1],
        mse=[0.0],
        heldout=None,
        live=[1],
        elbow=None,
        exponent=None,
        variance=0.0,
        rebuilt=replace(REBUILT, mse=0.0, psnr=math.inf, classes=None),
    )
    assert "K = 1 every patch is one of the centroids, so it is rebuilt" in text(alike, QUALITY)
    assert text(alike, COMPOSITION).endswith("rebuilt with K = 1, have an MSE of 0.")
    assert not any("–" in text(alike, question) for question in range(5))


def test_two_dictionaries_are_one_step() -> None:
    two = replace(BARE, sizes=[10, 50], mse=[300.0, 200.0], heldout=None, live=[10, 50], elbow=None)
    assert "slope" not in text(two, CHANGE) + caveats(two, CHANGE)
    assert "taken from a single step" in caveats(two, CHANGE)
    three = replace(two, sizes=[10, 20, 50], mse=[300.0, 250.0, 200.0], live=[10, 20, 50])
    assert "slope" in caveats(three, CHANGE)
    assert "an elbow marks" not in text(two, COVERAGE)


def test_no_error_at_all_is_told() -> None:
    exact = replace(FOUND, mse=[0.0] * 6, heldout=[0.0] * 6, exponent=None, elbow=None)
    assert "every patch is a centroid" in text(exact, COVERAGE)
    assert "every patch is one of the centroids" in text(exact, QUALITY)


def test_nouns_follow_their_numbers() -> None:
    told = [count(n, noun) for noun in ("image", "patch", "dictionary") for n in (1, 1200)]
    assert told == [
        "1 image",
        "1,200 images",
        "1 patch",
        "1,200 patches",
        "1 dictionary",
        "1,200 dictionaries",
    ]


def test_names_of_curves_are_short() -> None:
    levels = (16.0, 47.25, 6425.3, 2060.0, 0.0980, 0)
    assert [compact(level) for level in levels] == ["16", "47.2", "6,425", "2,060", "0.098", "0"]


def test_only_whole_levels_of_one_channel_are_grey() -> None:
    def level(dtype: str, *shape: int) -> str:
        return PixelScale.of_source({"dtype": dtype, "image_shape": shape}).level

    assert level("uint16", 9, 9) == "grey levels"
    assert level("uint8", 9, 9, 3) == level("float32", 9, 9) == "pixel levels"


def test_no_training_error_alone_is_learning_by_heart() -> None:
    learned = replace(FOUND, mse=[*FOUND.mse[:-1], 0.0], exponent=None)
    assert "is 1,625, not 0 as that of the training patches." in text(learned, QUALITY)
    assert "what was learned holds" not in text(learned, QUALITY)
    assert "holds its training patches by heart" in caveats(learned, QUALITY)


def test_numbers_in_sentences() -> None:
    assert [number(value) for value in (1418.9, 98.334, 0.042131, 0, float("nan"), 2e7)] == [
        "1,419",
        "98.33",
        "0.04213",
        "0",
        "–",
        "20,000,000",
    ]
    assert [percent(share) for share in (0.5, 0.0051, 0, 1)] == ["50.0 %", "0.51 %", "0 %", "100 %"]
    assert percent(float("nan")) == "–"
    assert percent(-1e-9) == "0 %"
    assert [round_percent(share) for share in (0.9, 0.05, 0.025)] == ["90 %", "5 %", "2.5 %"]
    assert signed(-0.3171) == "−0.317"
    assert listed([1000]) == "1,000"
    assert listed([1, 2, 3]) == "1, 2 and 3"
    assert listed(list(range(1, 20))) == "1, 2, 3, …, 18, 19"
    assert listed(list(range(1, 10)), most=9) == "1, 2, 3, 4, 5, 6, 7, 8 and 9"


def test_lines_do_not_end_between_a_number_and_its_unit() -> None:
    assert unbroken("K = 200 takes 5 % on 0 … 255") == (
        "K\u00a0=\u00a0200 takes 5\u00a0% on 0\u00a0…\u00a0255"
    )
