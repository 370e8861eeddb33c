"""The data of an experiment: its patch stores, its images wherever they are now, their classes."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import SweepOptions
from storage import (
    DictionaryTree,
    ImageOptions,
    ImageSource,
    InputError,
    IntegrityError,
    PatchDictError,
    PatchStore,
    class_names,
    open_images,
    open_labels,
    open_patches,
)
from storage.atomic import write_whole
from storage.images.datasets import DATASETS
from storage.images.labels import labels_file
from storage.layout import ExperimentLayout, moved_places, source_parts
from storage.patch_store import store_name
from storage.places.place import Place
from storage.plain_attributes import parsed

LABEL_ROUNDS = 1  # of asking for classes: a report without them is better than a late one
_log = logging.getLogger(__name__)  # warnings reach standard error by themselves


@dataclass(frozen=True)
class ExperimentData:
    """Part of an experiment that is open: what its dictionaries were learned from."""

    folder: Place
    dictionaries: DictionaryTree
    data: Place
    dataset: str | None = None  # where the images are, if they have moved

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the sweep wrote about the experiment."""
        return {"test_store": None} | parsed(self.dictionaries.attrs)

    @property
    def name(self) -> str:
        """The data set's name."""
        return str(self.facts["source"]["name"])

    @property
    def splits(self) -> list[str]:
        """The splits that were used: train, and test where there is one."""
        return ["train", "test"] if self.facts["test_store"] else ["train"]

    def checked_split(self, split: str | None) -> str:
        """This split, or the last one. Raises: InputError where it has no images."""
        if split is not None and split not in self.splits:
            raise InputError(f"{self.name} has no {split} images: use --split train")
        return split or self.splits[-1]

    def patches(self, split: str = "train") -> PatchStore:
        """The patch store of a split, checked to be the one that was fitted or scored on.

        Raises:
            InputError: it is gone.
            IntegrityError: it is damaged, or another one.
        """
        name = self.facts[f"{split}_store"]
        store = open_patches(ExperimentLayout(self.folder).patches(name))
        # a hash of source and spec is in it
        found = store_name(store.source, store.spec, store.tile)
        if found != name:
            raise IntegrityError(
                f"{store.path} holds the patches of {found}, not those that {self.folder} was made"
                " from: put the old store back, or sweep again"
            )
        return store

    def images(self, split: str = "train") -> ImageSource:
        """The images of a split, checked to be those that the patches were cut from.

        Raises:
            InputError: they are gone.
            IntegrityError: they are others.
        """
        labels = ExperimentLayout(self.folder).labels
        stated = labels.is_file() and not (split == "test" and self.facts.get("test"))
        return self._images(split, str(labels) if stated else None)

    def recorded(self, split: str) -> dict[str, Any]:
        """What is recorded of the images of a split."""
        found = self.facts["source"] if split == "train" else self.patches(split).source
        return dict(found)

    def _images(self, split: str, labels: str | None) -> ImageSource:
        """The same, with a file of their classes, whatever the experiment's own says."""
        known = self.recorded(split)
        stated = ImageOptions.of_source(known)
        if stated.mask is not None and not os.path.lexists(source_parts(stated.mask)[0]):
            moved = next(moved_places(stated.mask, self.folder), stated.mask)
            stated = replace(stated, mask=moved)
        if split not in self._found:  # once: all pixels are read for it
            source = self._find(split, known["fingerprint"], stated)
            if labels is None:
                return source
        return open_images(self._found[split], split, self.data, replace(stated, labels=labels))

    def _find(self, split: str, fingerprint: str, stated: ImageOptions) -> ImageSource:
        """The images of this fingerprint, wherever they are now."""
        problems = list[PatchDictError]()
        for place in self._places(split):
            try:
                source = open_images(place, split, self.data, stated)
            except InputError as error:
                problems.append(error)
                continue
            if source.fingerprint == fingerprint:
                self._found[split] = place
                return source
            problems.append(
                IntegrityError(
                    f"the {split} images of {place} are not those that {self.folder} was made from"
                    f" (SHA-256 {source.fingerprint[:10]}… where {fingerprint[:10]}… is"
                    " expected): put the old file back, name it by --dataset, or sweep again"
                )
            )
        raise problems[0]

    def _places(self, split: str) -> Iterator[str]:
        """Where the images may be: as given, as the sweep found them, moved with this folder."""
        other = split == "test" and self.facts.get("test")
        dataset = str(other or self.facts["dataset"])
        if dataset not in DATASETS and self.dataset and self.dataset not in DATASETS:
            yield os.path.expanduser(self.dataset)
        yield dataset
        if dataset not in DATASETS:
            yield from moved_places(dataset, self.folder)

    def place(self, split: str) -> str:
        """Name, or path, of the images of a split that `images` has found."""
        return self._found[split]

    @cached_property
    def _found(self) -> dict[str, str]:
        """Where the images of splits are that have been found to be the right ones."""
        return {}

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes of the images, None where there are none."""
        return class_names(self.facts["dataset"]) or self._folder_names

    @cached_property
    def _folder_names(self) -> tuple[str, ...] | None:
        """Names of the classes that were stated, or of folders that hold images of a class each."""
        try:
            images = self.images("train")
        except PatchDictError:  # what needs the images says so
            return None
        return images.classes or None

    def state_labels(self, path: Place) -> None:
        """Keep a CSV file of the images' classes, see `storage.images.labels.read_labels`.

        Raises:
            InputError: it does not fit the images, or they have classes of their own.
        """
        facts = {name: self.facts.get(name) for name in ("dataset", "test")}
        given = SweepOptions.checked(**facts, labels=str(path))
        kept = labels_file(self._images("train", given.labels))
        write_whole(ExperimentLayout(self.folder).labels, kept)

    def labels(self, split: str) -> np.ndarray | None:
        """Class of each image of a split, (images,) int64 in the order of `images(split)`.

        None where they are unknown or not available: `why_unlabelled` says why. A file of classes
        that is not there is asked for once.

        Raises:
            InputError: there are not as many classes as images.
        """
        return self._labels[split][0]

    def why_unlabelled(self, split: str) -> str | None:
        """Why `labels(split)` is None, in one line; None where it is not."""
        return self._labels[split][1]

    @cached_property
    def _labels(self) -> dict[str, tuple[np.ndarray | None, str | None]]:
        """Classes of each split, or why there are none."""
        return {split: self._labelled(split) for split in self.splits}

    def _labelled(self, split: str) -> tuple[np.ndarray | None, str | None]:
        """The same of one split."""
        dataset = self.facts["dataset"]
        try:
            labels = open_labels(dataset, split, self.data, rounds=LABEL_ROUNDS)
        except InputError as error:
            reason = f"the classes of the {split} images are missing: {error}"
            _log.warning("%s", reason)
            return None, reason
        if labels is None and self._folder_names:
            images = self.images(split)
            labels = images.labels if images.classes == self._folder_names else None
        if labels is None:
            name = Path(dataset).name  # it stands in the report, which tells nobody's folders
            return None, f"{name} holds images alone, of which no classes are known"
        known = self.recorded(split)
        if len(labels) != known["images"]:
            raise InputError(
                f"{dataset} has {len(labels)} classes for the {known['images']} {split} images of"
                f" {self.folder}: put the data set's own files into {self.data}"
            )
        return labels, None
