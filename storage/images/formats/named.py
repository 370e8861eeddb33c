"""Images of the data sets that have names."""

import numpy as np

from storage.errors import InputError
from storage.images.datasets import DATASETS
from storage.images.download import find_or_fetch, find_or_unpack
from storage.images.embedded import read_digits, read_photos
from storage.images.formats.cifar import map_images
from storage.images.formats.idx import read_idx
from storage.images.options import ImageOptions
from storage.images.reader import ImageReader
from storage.places.place import Place


def open_named(
    dataset: str, split: str, data: Place, options: ImageOptions
) -> np.ndarray | ImageReader:
    """The images of a split; files that are missing in `data` are downloaded.

    Raises: InputError where they cannot be had, or are damaged.
    """
    if dataset == "digits":
        return read_digits(split)[0]
    if dataset == "photos":
        return read_photos()
    named = DATASETS[dataset]
    if named.archive is None:
        return read_idx(find_or_fetch(named.images[split], dataset, data))
    if options.layout is not None:
        raise InputError(f"{dataset} tells the order of its axes itself: leave out layout")
    return map_images(find_or_unpack(named.batches[split], named.archive, dataset, data), dataset)
