"""What the report says of classes, in words and in figures."""

from typing import Any

import numpy as np
import pytest

from analysis.html_report.figures.confusion import confusion_figure
from analysis.html_report.figures.style import styled
from analysis.html_report.sections import CLASSIFICATION
from tests.test_analysis.test_html_report.made_up import CLASSIFIED, made_up


def said(**changed: Any) -> str:
    return " ".join(CLASSIFICATION.paragraphs(made_up(classification=CLASSIFIED | changed)))


@pytest.mark.parametrize(
    "words",
    [
        "91.0 % of the 1,000 test images (95 % confidence interval 89.0 to 92.6 %)",
        "by K = 600 centroids and all 4,000 labels of training images",
        "Of the 90 mistakes the most frequent is to take dog for cat (60 images)",
        "goes from 90.0 % to 91.0 %. K = 600 was chosen by training images alone",
        "that of K = 100 has an interval that overlaps with its own",
        "K = 600 reaches 65.0 % with 10 (the mean over 2 random draws)",
        "Each quadrant is a pool, and its feature for a centroid is the sum over its patches of",
        "patches are 1 pixel apart",
    ],
)
def test_the_answer_gives_the_numbers(words: str) -> None:
    assert words in said()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"pool": "image"}, "The whole image is one pool"),
        ({"pool": "grid:3", "features": "hard"}, "Each cell of a grid of 3 is a pool"),
        ({"features": "hard"}, "the share of its patches whose nearest centroid it is"),
        ({"features": "hard", "tf_idf": True}, "weighed by how rare the centroid is (tf-idf)"),
        ({"features": "soft"}, "the probability of the centroid"),
        ({"stride": 2}, "patches are 2 pixels apart"),
        (
            {"shift": 2},
            "learned from five times: as it is, and with its pools moved by 2 pixels up",
        ),
        (
            {"beside": [{"experiment": "mnist-12x12", "patch": [12, 12]}]},
            "centroids of 5 × 5 patches stand beside those of 12 × 12 (mnist-12x12)",
        ),
        (
            {
                "beside": [
                    {"experiment": "a", "patch": [3, 3]},
                    {"experiment": "b", "patch": [7, 7]},
                ]
            },
            "by K = 600 centroids of each of 3 experiments and all 4,000 labels",
        ),
    ],
)
def test_the_method_is_told(changed: dict[str, Any], words: str) -> None:
    assert words not in said()
    assert words in said(**changed)


def test_preprocessing_is_told() -> None:
    found = made_up()
    found.experiment.facts["fit"] = {"preprocess": "zca"}
    assert "patches are 1 pixel apart, preprocessed (zca)" in CLASSIFICATION.paragraphs(found)[-1]


def test_without_mistakes_none_is_named() -> None:
    assert "mistake" not in said(confusion=[[500, 0], [0, 500]])


def test_of_one_k_and_without_draws_less_is_told() -> None:
    found = CLASSIFIED | {"by_k": CLASSIFIED["by_k"][1:], "learning": []}
    paragraphs = CLASSIFICATION.paragraphs(made_up(classification=found))
    assert len(paragraphs) == 2
    with styled():
        figures = CLASSIFICATION.figures(made_up(classification=found))
    assert [figure.name for figure in figures] == ["confusion"]


def test_weak_evidence_is_told() -> None:
    assert CLASSIFICATION.caveats(made_up()) == []
    found = CLASSIFIED | {"test_images": 100, "left_out": [900]}
    few, missing = CLASSIFICATION.caveats(made_up(classification=found))
    assert "one more right is 1.0 %" in few
    assert "K = 900 did not fit under the cap on memory" in missing


def test_figures_have_their_data() -> None:
    with styled():
        accuracy, confusion, learning = CLASSIFICATION.figures(made_up())
    assert accuracy.files["csv"].splitlines()[1] == (
        b"100,400,0.9,0.88,0.917,100,squared hinge,0.1,0.92"
    )
    assert confusion.files["csv"].splitlines()[3] == b"dog,cat,60"
    assert learning.files["csv"].splitlines()[1:] == [b"10,20,0,0.6", b"10,20,1,0.7"]


@pytest.mark.parametrize("classes", [2, 10, 30, 100])
def test_any_number_of_classes_is_drawn(classes: int) -> None:
    matrix = 3 * np.eye(classes, dtype=int)
    matrix[0, 1] = 2
    with styled():
        figure = confusion_figure(matrix, [f"class {n}" for n in range(classes)])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert (sorted(texts) == ["2", *["3"] * classes]) == (classes <= 16)


def test_where_it_was_not_called_there_is_nothing_but_the_command() -> None:
    unknown = made_up(classification=None)
    unknown.__dict__["classes_known"] = False
    assert CLASSIFICATION.paragraphs(unknown) == []
    assert CLASSIFICATION.figures(unknown) == []
    assert CLASSIFICATION.caveats(unknown) == []
