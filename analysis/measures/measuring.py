"""The streamed measures behind a report: coverage by every dictionary, scores of rebuilt images."""

import math
from collections.abc import Sequence

import numpy as np
import xarray

from analysis.experiment import Experiment
from analysis.measures.coverage import coverage
from analysis.measures.patch_sample import sample_patches
from analysis.reconstruction.scores import reconstruction_scores
from storage import group_name

COVERED_ROWS = 1 << 15  # of a store, at most
COVERED_VALUES = 1 << 23  # of these rows together, at most
SCORED_VALUES = 1 << 23  # of training images, where there are no others; 10,699 of 28×28 pixels


def measure_coverage(experiment: Experiment, memory: int) -> dict[int, xarray.Dataset]:
    """`coverage` of COVERED_ROWS random held-out patches by each dictionary, by K ascending.

    Of fewer where these are more than COVERED_VALUES together; of training patches where nothing
    is held out; `split` among the attributes says which.
    memory: cap in bytes.
    """
    split = experiment.splits[-1]
    store = experiment.store(split)
    sample = sample_patches(store, max(1, min(COVERED_ROWS, COVERED_VALUES // store.dim)))
    found = {}
    for k in experiment.sizes:
        by_k = coverage(experiment.centroids(k), sample, memory=memory)
        found[k] = by_k.assign_attrs(split=split, k=k)
    return found


def measure_scores(
    experiment: Experiment, sizes: Sequence[int], memory: int
) -> dict[int, xarray.Dataset]:
    """`reconstruction_scores` of images at some K: of all test images, with their classes.

    Where there are no test images, of training images drawn by the store's order, as many as have
    SCORED_VALUES pixel values together; the coordinate `image` says which, `split` among the
    attributes of which split, and `label` is there where classes are known.
    memory: cap in bytes.
    """
    split = experiment.splits[-1]
    source, labels = experiment.images(split), experiment.labels(split)
    which = np.arange(len(source.images))
    if split == "train":
        most = max(1, SCORED_VALUES // math.prod(source.images.shape[1:]))
        which = np.sort(experiment.store(split).order[:most])
    images = source.read(which) if len(which) < len(source.images) else source
    chosen = None if labels is None else labels[which]
    found = {}
    for k in sizes:
        node = experiment.tree.children[group_name(k)]
        scores = reconstruction_scores(images, node, labels=chosen, memory=memory)
        found[k] = scores.assign_coords(image=which).assign_attrs(split=split)
    return found
