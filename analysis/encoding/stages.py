"""The stages of a residual quantiser: their dictionaries, what each gains, what they take."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray

from analysis.experiment import Experiment, open_experiment
from analysis.measures.codebook import (
    AnyDictionary,
    Node,
    node_of,
    preprocessing_of,
    scores_in_pixels,
)
from analysis.measures.usage import usage_of_counts
from analysis.text import number
from pipeline import USUAL_MEMORY, Progress, learn_stages
from storage import InputError, group_name, open_dictionaries
from storage.dictionary_store import dictionary_sum
from storage.layout import ExperimentLayout
from storage.places.place import Place
from storage.plain_attributes import parsed

Dictionaries = AnyDictionary | Sequence[AnyDictionary]


def in_stages(dictionary: Dictionaries) -> list[Node]:
    """One dictionary or several as a list. Raises: InputError for none."""
    given: Sequence[Any] = dictionary if isinstance(dictionary, Sequence) else [dictionary]
    nodes = [node_of(one) for one in given]
    if not nodes:
        raise InputError("no dictionary to encode by: give one, or one for each stage")
    if len(nodes) > 1:
        _check_sums(nodes)
    return nodes


def _check_sums(nodes: Sequence[Node]) -> None:
    """Raise InputError for centroids that are directions alone."""
    made = map(preprocessing_of, nodes)
    if any(one is not None and one.distance == "cosine" for one in made):
        raise InputError(
            "stages add up what the one before leaves, and of directions nothing is left: use a"
            " dictionary learned with DISTANCE=euclidean"
        )


def open_stages(
    experiment: str | Place,
    k: int,
    stages: int,
    *,
    memory: int = USUAL_MEMORY,
    progress: Progress | None = None,
) -> list[xarray.DataTree]:
    """The dictionaries of a residual quantiser, of which those that are not there are learned.

    The first is the experiment's own of k centroids; each other one is learned on what those before
    it leave of the training patches, with the options of the experiment, in this process, on the
    CPU. They are kept in the experiment's folder.

    Args:
        experiment: its folder, or a sweep's OUT that holds only one.
        k: size of the dictionaries.
        stages: how many, 1 or more.
        memory: cap in bytes on the resident memory of the process.
        progress: an observer, or None.

    Returns:
        A node for each stage, as `encode` and `decode` take them.

    Raises: InputError: no such dictionary, no stages, no patches to learn on, or fewer than k
        distinct rows are left; IntegrityError; MemoryBudgetError; BusyError.
    """
    found = open_experiment(experiment)
    return completed_stages(found, k, stages, memory=memory, progress=progress)


def completed_stages(
    experiment: Experiment,
    k: int,
    stages: int,
    *,
    memory: int = USUAL_MEMORY,
    progress: Progress | None = None,
) -> list[xarray.DataTree]:
    """The same of an experiment that is open."""
    first = experiment.dictionary(k)
    if stages < 1:
        raise InputError(f"stages {stages} is too small: use 1 or more")
    if stages == 1:
        return [first]
    _check_sums([first])
    there = stored_stages(experiment, k)
    if len(there) < stages:
        stores = {split: experiment.patches(split) for split in experiment.splits}
        learn_stages(experiment.folder, k, stages, stores, memory=memory, progress=progress)
        there = stored_stages(experiment, k)
    return there[:stages]


def stored_stages(experiment: Experiment, k: int) -> list[xarray.DataTree]:
    """The dictionaries of the stages that are there, the first included, one after the other.

    Those that follow on another dictionary than the one before, which was replaced, are none.
    """
    layout, found = ExperimentLayout(experiment.folder), [experiment.dictionary(k)]
    while layout.stage(k, len(found) + 1).dictionaries.exists():
        tree = open_dictionaries(layout.stage(k, len(found) + 1).dictionaries)
        sums = [dictionary_sum(np.asarray(one["centroids"])) for one in found]
        if group_name(k) not in tree.children:
            break  # being learned
        if [*parsed(tree.attrs)["residual_of"].values()] != sums:
            break
        found.append(tree.children[group_name(k)])
    return found


def stages_of_codes(experiment: Experiment, facts: dict[str, Any]) -> list[np.ndarray]:
    """Centroids of the stages that codes are of; facts: see `Encoding.facts`.

    Raises: InputError where one is not there any more.
    """
    k, count = facts["k"], 1 + len(facts.get("later", {}))
    there = [experiment.dictionary(k)] if count == 1 else stored_stages(experiment, k)
    if len(there) < count:
        raise InputError(
            f"the dictionary of stage {len(there) + 1} of K = {k} that the codes are of is not in"
            f" {experiment.folder} any more: encode again with --stages {count}, which learns it"
        )
    return [np.asarray(one["centroids"]) for one in there[:count]]


def stage_scores(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """What each stage gains, plain JSON.

    Returns: for each stage, mse and heldout_mse of all up to it (squared pixel levels; null where
        nothing was held out); bits that its code takes of a patch: log2 of K, and entropy of its
        use by the training patches.
    """
    found = []
    for stage, node in enumerate(nodes, 1):
        use = usage_of_counts(np.asarray(node["count"]))
        scores = scores_in_pixels(parsed(node.attrs))
        found.append(
            {
                "stage": stage,
                "mse": scores["mse"],
                "heldout_mse": scores["heldout_mse"],
                "bits": math.log2(use["k"]),
                "entropy": use["entropy"],
            }
        )
    return found


def stage_curves(experiment: Experiment) -> dict[int, xarray.Dataset]:
    """Rate and distortion of the K that have stages, over `stage`, from 1 on.

    Returns: by K, ascending, mse (squared pixel levels), psnr (dB), and what all stages up to one
        take of a patch: rate (log2 K each) and entropy, bits.
    """
    span, found = experiment.pixels.span, {}
    for k in ExperimentLayout(experiment.folder).stages():
        if k not in experiment.nodes or len(nodes := stored_stages(experiment, k)) < 2:
            continue
        scores = stage_scores(nodes)
        mse, bits, entropy = (
            np.array([one[name] for one in scores]) for name in ("mse", "bits", "entropy")
        )
        with np.errstate(divide="ignore"):
            psnr = 10 * np.log10(span**2 / mse)
        columns = {"mse": mse, "psnr": psnr, "rate": bits.cumsum(), "entropy": entropy.cumsum()}
        found[k] = xarray.Dataset(
            {name: ("stage", values) for name, values in columns.items()},
            {"stage": np.arange(1, len(nodes) + 1)},
        )
    return found


def scores_in_words(scores: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each stage of several."""
    lines = []
    for one in scores if len(scores) > 1 else ():
        heldout = one["heldout_mse"]
        lines.append(
            f"stage {one['stage']}: MSE {number(one['mse'], 5)}"
            + ("" if heldout is None else f", held-out {number(heldout, 5)}")
            + f", {number(one['bits'])} bits of a patch, {number(one['entropy'])} by entropy"
        )
    return lines
