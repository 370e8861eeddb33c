"""`classify`: how much of the class an experiment's dictionaries carry."""

import json
from collections.abc import Sequence
from typing import Any

from analysis.classification.known_images import KnownImages
from analysis.classification.study import Study
from analysis.encoding.pooling import FeatureOptions
from analysis.experiment import Experiment
from analysis.text import count, percent
from pipeline import USUAL_MEMORY, Progress, SilentProgress
from storage.atomic import write_whole
from storage.dictionary_store import dictionary_sum
from storage.layout import ExperimentLayout
from storage.places.place import Place

SCHEMA = 3  # 2 is the same without `beside` and `shift`


def classify(
    folder: str | Place,
    k: int | Sequence[int] | None = None,
    *,
    features: str = "triangle",
    pool: str | int = "quadrants",
    tf_idf: bool = False,
    stride: int | None = None,
    data: Place | None = None,
    dataset: str | None = None,
    labels: Place | None = None,
    memory: int = USUAL_MEMORY,
    progress: Progress | None = None,
    beside: Sequence[str | Place] = (),
    shift: int = 0,
) -> dict[str, Any]:
    """Tell the class of all test images by features of a dictionary, for each K.

    The classifier is linear, on standardised features: a squared hinge for each class against the
    others, as `LinearSVC`, or of fewer images than features, up to 2,000, a ridge. It is learned
    from training images alone; its penalty is chosen on a fifth of them that it was not learned
    from, or, by the ridge, by leaving each out. The best K is the one of the most right answers
    there; test images are counted, and decide nothing. Features lie in a scratch file meanwhile.

    Args:
        folder: of the experiment, or a sweep's OUT that holds only one.
        k: sizes of dictionaries; None: all that fit under the cap, and that each experiment has.
        features: "hard", "triangle" or "soft", see `features`.
        pool: "image", "quadrants" or "grid:N".
        tf_idf: see `features`.
        stride: step between patches in pixels; None: the dictionary's own.
        data: folder of downloads; None: the one that the sweep used.
        dataset: file of the images, where it is no longer the one that the sweep used.
        labels: CSV file of the images' classes, which the experiment keeps.
        memory: cap in bytes on the resident memory of the process.
        progress: an observer, or None.
        beside: other experiments of the same images, as of another patch: features of an image by K
            centroids of each stand side by side. Classes are those of the first.
        shift: in pixels, up to half of a pool: training images are learned from as they are, and
            with the grid of pools moved up, down, left and right; patches beyond a moved grid fall
            into its outer pools. Images to judge by stay as they are, and lend no copy.

    Returns:
        Plain JSON, also written into the experiment's folder: features, pool, tf_idf, stride,
        shift, beside (of each other: experiment, its folder's name, and patch), train_images,
        test_images, classes (names), by_k (of each K: k, dictionary (SHA-256 of its centroids),
        beside (the same of the others), width (features of an image), classifier, penalty (per
        image), validation_accuracy, validation_images, accuracy with low and high (95 % interval by
        Wilson, of test images), test_errors, seconds), left_out (K that do not fit), best (K),
        asked (K, or null), confusion (of best: rows are classes, columns what they were told to
        be), learning (of best, by labels_per_class: images, classifier, accuracies (of each draw),
        mean, deviation), path.

    Raises: InputError; IntegrityError: damage; MemoryBudgetError: a K asked for does not fit.
    """
    options = FeatureOptions.of(features, pool, tf_idf)
    sizes = [k] if isinstance(k, int) else k
    images = KnownImages.opened([folder, *beside], sizes or (), data, dataset, labels)
    told = progress or SilentProgress()
    return written(Study(images, options, stride, memory, told, shift), sizes)


def written(study: Study, sizes: Sequence[int] | None) -> dict[str, Any]:
    """The results of a study, which are kept with the experiment."""
    path = ExperimentLayout(study.images.experiment.folder).classification
    result = {"schema": SCHEMA, **study.results(sizes)}
    write_whole(path, json.dumps(result, indent=1).encode())
    return result | {"path": str(path)}


def kept(experiment: Experiment) -> dict[str, Any] | None:
    """Results that are kept with an experiment; None where there are none of its dictionaries.

    Those of dictionaries that were dropped are left out; without the best of them there are none.
    """
    try:
        found = json.loads(ExperimentLayout(experiment.folder).classification.read_bytes())
        found["by_k"] = [one for one in found["by_k"] if one["k"] in experiment.nodes]
        found["left_out"] = [k for k in found["left_out"] if k in experiment.nodes]
        alike = found["schema"] in (2, SCHEMA) and found["best"] in experiment.nodes
        alike = alike and all(
            dictionary_sum(experiment.codebook(one["k"])[0]) == one["dictionary"]
            for one in found["by_k"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {"beside": [], "shift": 0} | found if alike else None


def in_words(result: dict[str, Any]) -> str:
    """The result of `classify` for people."""
    what = f"{result['features']} features, {result['pool']}"
    what += "".join(f", beside those of {one['experiment']}" for one in result["beside"])
    if result["shift"]:
        what += f", which are shifted by {count(result['shift'], 'pixel')}, too"
    by_k = [
        f"K = {one['k']}: {percent(one['accuracy'])} right ({percent(one['low'])} to"
        f" {percent(one['high'])}), {one['test_errors']:,} wrong, {one['classifier']}, penalty"
        f" {one['penalty']:g}, {one['seconds']:.1f} s"
        for one in result["by_k"]
    ]
    left_out = ", ".join(map(str, result["left_out"]))
    learning = [
        f"{one['labels_per_class']} labels of each class, K = {result['best']}:"
        f" {percent(one['mean'])} right (± {percent(one['deviation'])} by draw)"
        for one in result["learning"]
    ]
    lines = [
        f"{result['test_images']:,} test images told by {result['train_images']:,} training images,"
        f" {what}:",
        *by_k,
        *([f"left out, for they do not fit under the cap: K = {left_out}"] if left_out else []),
        *learning,
    ]
    return "\n".join([*lines, result["path"]])
