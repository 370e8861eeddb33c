"""What do the codes carry?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis.html_report.figures.axes import k_axis, plain_log_ticks
from analysis.html_report.figures.confusion import NUMBERED_CLASSES, confusion_figure
from analysis.html_report.figures.figure import ReportFigure, finished, table, table_of_lines
from analysis.html_report.figures.style import BLUE, VERMILION, new_figure
from analysis.html_report.measured import Measured
from analysis.html_report.section import Section
from analysis.text import count, listed, percent

FEW_TEST_IMAGES, FINE_TEST_IMAGES = 1000, 5000
_WORDS = {"hard": "hard features", "triangle": "triangle features", "soft": "soft features"}


def _paragraphs(measured: Measured) -> list[str]:
    found = measured.classification
    if found is None:
        return [_command(measured)] if measured.classes_known else []
    second = [*_over_k(found), *_few_labels(found)]
    return [_answer(found), *([" ".join(second)] if second else []), _method(measured, found)]


def _command(measured: Measured) -> str:
    """How the section is made."""
    folder = measured.experiment.folder.resolve()
    return (
        "That is told by a linear classifier, which has not been learned yet, as it takes minutes:"
        f" patchdict classify {folder.parent.name}/{folder.name}, run in the folder that holds the"
        " results, learns it, and the next report shows what it found."
    )


def _answer(found: dict[str, Any]) -> str:
    """How well the class is told, and which classes are mistaken for which."""
    best, names = _best(found), found["classes"]
    text = (
        f"Enough of the class for a linear classifier to tell it right for"
        f" {_share(best['accuracy'], found)} of the {found['test_images']:,} test images (95 %"
        f" confidence interval {_interval(found)}), by K = {best['k']:,} centroids{_of_each(found)}"
        f" and all {found['train_images']:,} labels of training images."
    )
    mistakes = np.array(found["confusion"])
    np.fill_diagonal(mistakes, 0)
    if not mistakes.any():
        return text
    own, told = np.unravel_index(int(mistakes.argmax()), mistakes.shape)
    return (
        f"{text} Of the {best['test_errors']:,} mistakes the most frequent is to take {names[own]}"
        f" for {names[told]} ({count(int(mistakes[own, told]), 'image')})."
    )


def _over_k(found: dict[str, Any]) -> list[str]:
    rows = found["by_k"]
    if len(rows) < 2:
        return []
    first, last, best = rows[0], rows[-1], _best(found)
    alike = [row["k"] for row in rows if row["high"] >= best["low"] and row["k"] < best["k"]]
    text = (
        f"From K = {first['k']:,} to K = {last['k']:,} the accuracy goes from"
        f" {_share(first['accuracy'], found)} to {_share(last['accuracy'], found)}."
        f" K = {best['k']:,} was chosen"
        " by training images alone"
    )
    if alike:
        text += f"; that of K = {alike[0]:,} has an interval that overlaps with its own"
    return [f"{text}."]


def _few_labels(found: dict[str, Any]) -> list[str]:
    if not found["learning"]:
        return []
    parts = [
        f"{_share(one['mean'], found)} with {one['labels_per_class']:,}"
        for one in found["learning"]
    ]
    return [
        f"Few labels of each class go a long way: K = {found['best']:,} reaches {listed(parts)}"
        f" (the mean over {len(found['learning'][0]['accuracies'])} random draws), although its"
        " centroids were learned without any."
    ]


def _method(measured: Measured, found: dict[str, Any]) -> str:
    """What was done."""
    kinds = {
        "hard": "the share of its patches whose nearest centroid it is",
        "triangle": "the sum over its patches of max(0, mean distance − distance) (Coates, Lee & Ng"
        " 2011)",
        "soft": "the mean over its patches of the probability of the centroid",
    }
    pools = {"image": "The whole image is one pool", "quadrants": "Each quadrant is a pool"}
    pool = pools.get(
        found["pool"], f"Each cell of a {found['pool'].replace(':', ' of ')} is a pool"
    )
    words = f"{pool}, and its feature for a centroid is {kinds[found['features']]}"
    prepared = measured.experiment.facts.get("fit", {}).get("preprocess", "none")
    words += ", weighed by how rare the centroid is (tf-idf)" if found["tf_idf"] else ""
    apart = f"patches are {count(found['stride'], 'pixel')} apart"
    apart += "" if prepared == "none" else f", preprocessed ({prepared})"
    if found["beside"]:
        others = [f"{_size(one['patch'])} ({one['experiment']})" for one in found["beside"]]
        own = _size(measured.experiment.patch_shape[:2])
        apart += f". Features by centroids of {own} patches stand beside those of {listed(others)}"
    if found["shift"]:
        apart += (
            ". Each training image is learned from five times: as it is, and with its pools moved"
            f" by {count(found['shift'], 'pixel')} up, down, left and right"
        )
    return (
        f"{words}; {apart}. The classifier is linear ({_best(found)['classifier']}),"
        " features standardised; its penalty is chosen on training images that it was not learned"
        " from. Test images decide nothing."
    )


def _caveats(measured: Measured) -> list[str]:
    found = measured.classification
    if found is None:
        return []
    caveats = []
    if found["test_images"] < FEW_TEST_IMAGES:
        caveats.append(
            f"There are {found['test_images']:,} test images alone: one more right is"
            f" {percent(1 / found['test_images'])}, and the interval {_interval(found)} is wide."
        )
    if found["left_out"]:
        caveats.append(
            f"K = {listed(found['left_out'])} did not fit under the cap on memory, and is missing."
        )
    return caveats


def _of_each(found: dict[str, Any]) -> str:
    """Of how many dictionaries K centroids are."""
    return f" of each of {len(found['beside']) + 1} experiments" if found["beside"] else ""


def _size(patch: Sequence[int]) -> str:
    return " × ".join(map(str, patch))


def _best(found: dict[str, Any]) -> dict[str, Any]:
    """Of the best K its line of the table."""
    return next(row for row in found["by_k"] if row["k"] == found["best"])


def _share(share: float, found: dict[str, Any]) -> str:
    """An accuracy, in as many decimals as so many test images have."""
    decimals = 2 if found["test_images"] >= FINE_TEST_IMAGES else 1
    return f"{100 * share:.{decimals}f} %"


def _interval(found: dict[str, Any]) -> str:
    low, high = (_share(_best(found)[end], found) for end in ("low", "high"))
    return f"{low.removesuffix(' %')} to {high}"


def _figures(measured: Measured) -> list[ReportFigure]:
    found = measured.classification
    if found is None:
        return []
    figures = [_confusion(found)]
    if len(found["by_k"]) > 1:  # no chart of one point
        figures.insert(0, _accuracy(found))
    return [*figures, _learning(found)] if found["learning"] else figures


def _what(found: dict[str, Any]) -> str:
    kind = "tf-idf" if found["tf_idf"] else _WORDS[found["features"]]
    pool = found["pool"].replace("image", "the whole image")
    return f"{kind}{_of_each(found)}, pooled over {pool}"


def _accuracy(found: dict[str, Any]) -> ReportFigure:
    rows = found["by_k"]
    columns = {
        "k": [row["k"] for row in rows],
        "features_of_an_image": [row["width"] for row in rows],
        **{name: [row[name] for row in rows] for name in ("accuracy", "low", "high")},
        "test_errors": [row["test_errors"] for row in rows],
        "classifier": [row["classifier"] for row in rows],
        "penalty_per_image": [row["penalty"] for row in rows],
        "validation_accuracy": [row["validation_accuracy"] for row in rows],
    }
    caption = (
        f"The share of {found['test_images']:,} test images whose class is told right, against K;"
        " bars: 95 % confidence intervals (Wilson). Dashed: the same of training images that the"
        " classifier was not learned from, by which K and its penalty are chosen. Linear classifier"
        f" ({_best(found)['classifier']}) on {_what(found)}."
    )
    figure = accuracy_figure(found)
    return finished("accuracy", "Accuracy against K.", caption, figure, table(columns))


def accuracy_figure(found: dict[str, Any]) -> Figure:
    """Accuracy over K with its intervals; found: as `classify` returns it."""
    figure = new_figure(2.7)
    axes, rows = figure.subplots(), found["by_k"]
    k = np.array([row["k"] for row in rows])
    share, low, high, judged = (
        100 * np.array([row[name] for row in rows])
        for name in ("accuracy", "low", "high", "validation_accuracy")
    )
    axes.plot(k, judged, "s--", color=VERMILION, label="training images set aside")
    bars = np.maximum([share - low, high - share], 0)
    axes.errorbar(k, share, bars, fmt="o-", color=BLUE, capsize=2.5, label="test images")
    k_axis(axes, k)
    if len(k) > 1:
        plain_log_ticks(axes)
    axes.set_ylabel("per cent right")
    axes.legend(loc="lower right")
    return figure


def _learning(found: dict[str, Any]) -> ReportFigure:
    lines = [
        (one["labels_per_class"], one["images"], draw, share)
        for one in found["learning"]
        for draw, share in enumerate(one["accuracies"])
    ]
    names = ["labels_per_class", "labelled_images", "draw", "accuracy"]
    caption = (
        f"The share of {found['test_images']:,} test images whose class is told right by"
        f" K = {found['best']:,}, against the number of labels of each class: dots, random draws of"
        " labelled images; line, their mean; square, all labels."
    )
    csv, figure = table_of_lines(names, lines), learning_figure(found)
    return finished("learning", "Learning from a few labels.", caption, figure, csv)


def learning_figure(found: dict[str, Any]) -> Figure:
    """Accuracy over labels of each class; found: as `classify` returns it."""
    figure = new_figure(2.7)
    axes, learning = figure.subplots(), found["learning"]
    labels = np.array([one["labels_per_class"] for one in learning])
    every = found["train_images"] / len(found["classes"])
    means = 100 * np.array([*(one["mean"] for one in learning), _best(found)["accuracy"]])
    axes.plot([*labels, every], means, "-", color=BLUE, zorder=1)
    for one in learning:
        shares = 100 * np.array(one["accuracies"])
        axes.plot(np.full(len(shares), one["labels_per_class"]), shares, "o", color=BLUE, alpha=0.6)
    axes.plot([every], means[-1:], "s", color=VERMILION, markersize=5)
    axes.set_xscale("log")
    plain_log_ticks(axes)
    axes.set_xlabel("labelled images of each class (the mean where all are labelled)")
    axes.set_ylabel("per cent right")
    return figure


def _confusion(found: dict[str, Any]) -> ReportFigure:
    matrix, names = np.array(found["confusion"]), found["classes"]
    lines = [
        (own, told, int(matrix[i, j]))
        for i, own in enumerate(names)
        for j, told in enumerate(names)
    ]
    caption = (
        f"a, test images of each class by what K = {found['best']:,} tells them to be; colour:"
        f" mistakes{'; numbers: images' if len(names) <= NUMBERED_CLASSES else ''}. b, the share of"
        " each class that is told right, with 95 % confidence intervals (Wilson)."
    )
    csv = table_of_lines(["class", "told", "images"], lines)
    title = "Which class is taken for which."
    return finished("confusion", title, caption, confusion_figure(matrix, names), csv)


CLASSIFICATION = Section(
    "codes", _figures, "Classes", "What do the codes carry?", _paragraphs, _caveats
)
