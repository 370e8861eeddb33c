"""Classes of the images of data sets that have a name."""

from pathlib import Path

import numpy as np

from storage.errors import InputError
from storage.images.datasets import DATASETS, check_split
from storage.images.download import ROUNDS, find_or_fetch, find_or_unpack
from storage.images.embedded import read_digits
from storage.images.formats.cifar import read_classes
from storage.images.formats.idx import read_idx


def open_labels(
    dataset: str, split: str = "train", data_dir: str | Path = "data", *, rounds: int = ROUNDS
) -> np.ndarray | None:
    """The class of each image of a data set, in the order of `open_images`.

    Args:
        dataset: as for `open_images`.
        split: "train" or "test"; a path has only "train".
        data_dir: where downloads are kept; right files found there are used.
        rounds: how often the mirrors are asked for a file that is not there.

    Returns: (images,) int64, numbers into `class_names`; None for a path, whose classes nobody
        knows.
    Raises: InputError for an unknown split, and for a file that is neither there nor to be had.
    """
    if dataset not in DATASETS or not DATASETS[dataset].class_names:
        return None
    check_split(dataset, split)
    if dataset == "digits":
        return read_digits(split)[1]
    named = DATASETS[dataset]
    names = named.class_names
    if named.archive is not None:
        files = named.batches[split], named.archive
        paths = find_or_unpack(*files, dataset, Path(data_dir), rounds=rounds)
        labels, path = read_classes(paths), paths[0]
    else:
        path = find_or_fetch(named.labels[split], dataset, Path(data_dir), rounds=rounds)
        labels = read_idx(path)
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise InputError(
            f"{path} holds {labels.dtype.name} of shape {labels.shape} where whole numbers of shape"
            " (images,) are expected: fetch it again"
        )
    if not 0 <= labels.min() <= labels.max() < len(names):
        raise InputError(
            f"{path} holds classes from {labels.min()} to {labels.max()} where 0 to"
            f" {len(names) - 1} are expected: fetch it again"
        )
    return labels.astype(np.int64)
