from dataclasses import replace
from typing import Any

import pytest

from analysis.answers import answers
from analysis.findings import Findings, ImageFindings
from analysis.kinds import KINDS
from analysis.pixels import PixelScale
from analysis.wording import listed, number, percent, unbroken

EVEN = dict.fromkeys(KINDS, 1 / len(KINDS))
EDGES = dict.fromkeys(KINDS, 0.0) | {"flat": 0.1, "edge": 0.625, "stroke": 0.2, "other": 0.075}
FOUND = Findings(
    dataset="digits",
    image_shape=(8, 8),
    patch="5×5",
    dim=25,
    patches=24000,
    pixels=PixelScale(255, "grey levels"),
    sizes=[100, 200, 400],
    mse=[3000.0, 2000.0, 1600.0],
    heldout=[3100.0, 2200.0, 2000.0],
    live=[100, 200, 390],
    perplexity=[90.0, 170.0, 320.0],
    half=[30, 55, 101],
    largest_share=[0.05, 0.03, 0.021],
    elbow=200,
    elbow_without_last=None,
    exponent=-0.5,
    variance=10000.0,
    kinds=(EVEN, EDGES),
    kinds_by_use=(EDGES, EVEN),
    image=ImageFindings("test", 7, 200, 16, 12, 9, 6.25, 500.0, 600.0, 1500.0),
)
CHANGE, QUALITY, COVERAGE, NATURE, COMPOSITION = range(5)


def text(found: Findings, question: int) -> str:
    return " ".join(answers(found)[question].paragraphs)


def test_the_five_questions_are_answered_in_order() -> None:
    questions = [answer.question for answer in answers(FOUND)]
    assert [question.split()[0] for question in questions] == ["How", "How", "How", "What", "How"]
    assert all(answer.paragraphs for answer in answers(FOUND))


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (CHANGE, "falls from 3,000 to 1,600 squared grey levels, by 46.7 %"),
        (CHANGE, "slope of a straight line through the 3 points is −0.500"),
        (CHANGE, "a doubling of K takes away about 29.3 %"),
        (CHANGE, "as if they had about 4.0 dimensions, of 25"),
        (CHANGE, "Of 400 centroids 390 are live, and 10 are nearest to no patch"),
        (CHANGE, "perplexity of their use is 320, 80.0 % of K"),
        (QUALITY, "At K = 200 the MSE is 2,000 squared grey levels"),
        (QUALITY, "root mean squared error of 44.7 grey levels"),
        (QUALITY, "PSNR of 15.1 dB"),
        (QUALITY, "explain 80.0 % of the patches' variance"),
        (QUALITY, "at K = 400 is 2,000, 25.0 % above the training MSE"),
        (QUALITY, "begun to fit its own training patches"),
        (COVERAGE, "The elbow of the training curve is at K = 200, where the MSE is 2,000"),
        (COVERAGE, "depends on the range of K"),
        (COVERAGE, "held-out MSE, a doubling of K takes away 29.0 %"),
        (COVERAGE, "9.1 % at its end"),
        (COVERAGE, "not yet below 5.0 %"),
        (NATURE, "At K = 100, of the centroids 12.5 % flat"),
        (NATURE, "At K = 400, of the centroids 10.0 % flat, 62.5 % edges"),
        (NATURE, "most centroids at K = 400 are edges"),
        (COMPOSITION, "The test image 7 has 16 windows, of which 12 hold"),
        (COMPOSITION, "With K = 200 they are replaced by 9 different centroids"),
        (COMPOSITION, "mean of 6.25 overlapping patches"),
        (COMPOSITION, "Its MSE is 500.0 over all pixels, and 600.0 over the covered ones"),
        (COMPOSITION, "divides the error by 2.50"),
    ],
)
def test_answers_give_the_numbers(question: int, words: str) -> None:
    assert words in text(FOUND, question)


@pytest.mark.parametrize(
    ("question", "changed", "words"),
    [
        (CHANGE, {"mse": [3000.0, 2000.0, 1500.0]}, "by 50.0 %"),
        (CHANGE, {"exponent": -0.25}, "about 8.0 dimensions"),
        (CHANGE, {"live": [100, 200, 400]}, "All 400 centroids are live"),
        (QUALITY, {"variance": 4000.0}, "explain 50.0 %"),
        (QUALITY, {"heldout": None}, "Nothing was held out"),
        (QUALITY, {"heldout": [3000.0, 2000.0, 1584.0]}, "1.0 % below the training MSE"),
        (COVERAGE, {"elbow_without_last": 100}, "without K = 400 it would be at K = 100"),
        (COVERAGE, {"elbow_without_last": 200}, "it would stay where it is"),
        (COVERAGE, {"heldout": [3100.0, 2200.0, 2190.0]}, "From K = 200 on it is below 5.0 %"),
        (COVERAGE, {"heldout": [9.0, 8.9, 8.8]}, "From K = 100 on it is below 5.0 %"),
        (COVERAGE, {"heldout": None}, "training MSE, a doubling of K takes away 33.3 %"),
        (COVERAGE, {"elbow": None}, "No elbow can be given"),
        (COVERAGE, {"heldout": [3.0, 1.0, 0.0]}, "every patch is a centroid"),
        (
            NATURE,
            {"kinds": (EDGES, EDGES | {"edge": 0.1, "stroke": 0.7})},
            "bright or dark lines through the patch, with both",
        ),
        (NATURE, {"kinds": (EDGES, EVEN)}, "The largest group"),
        (
            COMPOSITION,
            {"image": replace(FOUND.image, overlap=1.0, covered_mse=1500.0)},
            "No pixel is covered twice",
        ),
        (
            QUALITY,
            {"pixels": PixelScale(1.0, "pixel levels"), "mse": [0.3, 0.01, 0.0025]},
            "PSNR of 20.0 dB",
        ),
    ],
)
def test_answers_change_with_the_numbers(
    question: int, changed: dict[str, Any], words: str
) -> None:
    assert words not in text(FOUND, question)
    assert words in text(replace(FOUND, **changed), question)


def test_one_small_gain_before_a_large_one_is_no_end() -> None:
    found = replace(FOUND, heldout=[9.0, 8.9, 5.0])
    assert "not yet below 5.0 %" in text(found, COVERAGE)


def test_one_dictionary_is_told_without_a_curve() -> None:
    one = replace(
        FOUND,
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
    assert "At K = 100 the MSE is 3,000" in text(one, QUALITY)
    assert "From" not in text(one, QUALITY)
    assert "this run has 1 dictionary" in text(one, COVERAGE)
    assert text(one, NATURE).count("At K =") == 1


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
    assert listed([1000]) == "1,000"
    assert listed([1, 2, 3]) == "1, 2 and 3"
    assert listed(list(range(1, 20))) == "1, 2, 3, …, 18, 19"


def test_lines_do_not_end_between_a_number_and_its_unit() -> None:
    assert unbroken("K = 200 takes 5 % on 0 … 255") == (
        "K\u00a0=\u00a0200 takes 5\u00a0% on 0\u00a0…\u00a0255"
    )
