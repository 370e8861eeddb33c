"""Classifiers of an experiment's images: their accuracy by K, and by the number of labels."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from analysis.classification.accuracy import wilson_interval
from analysis.classification.known_images import KnownImages
from analysis.classification.labelled_features import LabelledFeatures
from analysis.classification.ridge import (
    Fit,
    LinearClassifier,
    decisions,
    few_bytes,
    fit_from_few,
)
from analysis.classification.squared_hinge import (
    PENALTIES,
    StoredFeatures,
    features_folder,
    fit_many,
    projected_bytes,
)
from analysis.encoding.pooling import FeatureOptions
from pipeline import Progress, Scheduler, check_budget, fits
from storage import InputError
from storage.mapped_files import lies_in_memory

FEW_IMAGES = 2000  # up to so many, with more features than images, all are in memory at once
JUDGED_SHARE = 1 / 5  # of more images: on so many the penalty is chosen
LABELS = (10, 100, 1000)  # of each class
DRAWS = 5  # of so many
SEED = 0  # of what is drawn


@dataclass(frozen=True)
class Study:
    """What is to be classified, and how.

    Attributes:
        images: with their classes, and the experiments.
        options: which features.
        stride: in pixels; None: each dictionary's own.
        memory: cap in bytes on the resident memory of the process.
        progress: an observer.
        shift: pixels by which pools are moved in four more copies of a training image; 0: of none.
    """

    images: KnownImages
    options: FeatureOptions
    stride: int | None
    memory: int
    progress: Progress
    shift: int = 0

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """Classes of training and test images."""
        return self.images.labels

    def results(self, sizes: Sequence[int] | None) -> dict[str, Any]:
        """What `classify` returns, but the path; sizes: the K, or None."""
        _ = self.labels, self.images.seen_by  # what is wrong with either is told first
        experiment = self.images.experiment
        every = self.images.sizes if sizes is None else sizes
        taken = list[int]()
        for k in every:
            if sizes is not None or fits(self._least_bytes(k, taken), self.memory):
                taken.append(k)
        left_out = [k for k in every if k not in taken]
        # Before minutes of work, what does not fit is refused, or left out where others do.
        taken = taken or list(every)
        threads = {k: self._threads(k, taken[:place]) for place, k in enumerate(taken)}
        self._check_room(taken)
        best, rows = None, list[dict[str, Any]]()
        for k in threads:
            found = self._one_size(k, threads[k])
            rows.append(found.row)
            if best is None or found.row["validation_accuracy"] > best.row["validation_accuracy"]:
                best = found
            del found  # the features of others go with them
        assert best is not None
        names = experiment.class_names or ()
        plain = sizes is None and not self.images.beside and not self.shift
        return {
            "features": self.options.kind,
            "pool": self.options.pool,
            "tf_idf": self.options.tf_idf,
            "stride": experiment.spec.stride if self.stride is None else self.stride,
            "shift": self.shift,
            "beside": [
                {"experiment": one.folder.resolve().name, "patch": list(one.patch_shape[:2])}
                for one in self.images.beside
            ],
            "asked": None if plain else list(every),
            "train_images": len(self.labels["train"]),
            "test_images": len(self.labels["test"]),
            "classes": [names[n] if n < len(names) else str(n) for n in range(self.images.classes)],
            "by_k": rows,
            "left_out": left_out,
            "best": best.row["k"],
            "confusion": best.confusion.tolist(),
            "learning": list(self._learning(best, threads[best.row["k"]])),
        }

    def _one_size(self, k: int, threads: int) -> "_OneSize":
        """What one dictionary tells."""
        started, data = time.perf_counter(), self._data(k, threads)
        train, n = np.arange(len(self.labels["train"])), len(self.labels["test"])
        width, copies, blocks = data["train"].width, data["train"].copies, data["train"].blocks
        steps = {"features": 5.0, "fitting": 4.0, "classifying": 1.0}  # shares of the time, about
        self.progress.stage({f"{step}, K={k}": share for step, share in steps.items()})
        self.progress.start(f"features, K={k}", len(train), "images")
        features = StoredFeatures(blocks(train), len(train), width, self._folder, copies)
        self.progress.start(f"fitting, K={k}", len(PENALTIES) + 1, "fits")
        every = np.ones(len(train), bool)
        fit = self._fit(features, every, lambda: self.progress.advance(1))
        self.progress.start(f"classifying, K={k}", n, "images")
        (confusion,) = self._confusions([fit.classifier], data["test"])
        self.progress.finish()
        right = int(np.trace(confusion))
        low, high = wilson_interval(right, n)
        own, *beside = self.images.sums(k)
        row = {
            "k": k,
            "dictionary": own,
            "beside": beside,
            "width": width,
            "classifier": fit.name,
            "penalty": fit.penalty,
            "validation_accuracy": 1 - fit.errors / fit.judged,
            "validation_images": fit.judged,
            "accuracy": right / n,
            "low": low,
            "high": high,
            "test_errors": n - right,
            "seconds": time.perf_counter() - started,
        }
        return _OneSize(row, confusion, features)

    def _learning(self, found: "_OneSize", threads: int) -> Iterator[dict[str, Any]]:
        """Accuracy of classifiers that a few labels of each class teach, by their number."""
        labels, k = self.labels["train"], found.row["k"]
        members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        each = [n for n in LABELS if n < min(map(len, members))]
        if not each:
            return
        steps = f"learning from a few labels, K={k}", f"classifying by few labels, K={k}"
        self.progress.stage(dict(zip(steps, (9.0, 1.0), strict=True)))
        self.progress.start(steps[0], DRAWS * len(each), "fits")
        rng, learned = np.random.default_rng(SEED), list[Fit]()
        for n in each:
            for _ in range(DRAWS):
                drawn = np.zeros(len(labels), bool)
                drawn[np.concatenate([rng.choice(own, n, False) for own in members])] = True
                learned.append(self._fit(found.features, drawn))
                self.progress.advance(1)
        test, data = len(self.labels["test"]), self._data(k, threads)["test"]
        self.progress.start(steps[1], test, "images")
        confusions = self._confusions([fit.classifier for fit in learned], data)
        self.progress.finish()
        for place, n in enumerate(each):
            own = slice(place * DRAWS, (place + 1) * DRAWS)
            shares = np.trace(confusions[own], axis1=1, axis2=2) / test
            yield {
                "labels_per_class": n,
                "images": n * len(members),
                "classifier": learned[own.start].name,
                "accuracies": shares.tolist(),
                "mean": float(shares.mean()),
                "deviation": float(shares.std(ddof=1)),
            }

    def _fit(
        self,
        features: StoredFeatures,
        chosen: np.ndarray,
        told: Callable[[], None] = lambda: None,
    ) -> Fit:
        """A classifier of some training images, of nothing else; chosen: (images,) bool."""
        which = np.flatnonzero(chosen)
        labels, copies = features.labels[which], features.copies
        if self._few(len(which) * copies, features.width):
            every = np.repeat(labels, copies)
            fit = fit_from_few(features.rows(which), every, self.images.classes, copies)
        else:
            judged = np.zeros(len(chosen), bool)
            judged[which] = _some_of_each(labels, JUDGED_SHARE)
            fit = fit_many(features, chosen, judged, self.images.classes, told)
        own = fit.classifier
        return replace(fit, classifier=features.standard.classifier(own.weights, own.offsets))

    def _confusions(
        self, classifiers: Sequence[LinearClassifier], data: LabelledFeatures
    ) -> np.ndarray:
        """Images of each class that are told to be of each, (classifiers, class, told) int64."""
        found = np.zeros((len(classifiers), self.images.classes, self.images.classes), np.int64)
        for block, labels in data.blocks(np.arange(len(data.labels))):
            for place, said in enumerate(decisions(classifiers, block)):
                np.add.at(found[place], (labels, said.argmax(axis=1)), 1)
        return found

    def _data(self, k: int, threads: int) -> dict[str, LabelledFeatures]:
        """Images and classes of both splits; test images are as they are."""
        nodes = [one.dictionary(k) for one in self.images.experiments]
        given = nodes, self.options, self.stride, threads, self.progress
        return {
            split: LabelledFeatures(
                self.images.seen_by[split], labels, *given, self.shift if split == "train" else 0
            )
            for split, labels in self.labels.items()
        }

    def _few(self, n: int, width: int) -> bool:
        return n <= min(FEW_IMAGES, width)

    def _least_bytes(self, k: int, earlier: Sequence[int]) -> int:
        """What classifying takes with one thread, after other K."""
        fixed, task, learned = self._needed(k, earlier)
        return fixed + max(task, learned)

    def _threads(self, k: int, earlier: Sequence[int]) -> int:
        """Threads that make features at the same time, after other K. Raises: MemoryBudgetError."""
        fixed, task, learned = self._needed(k, earlier)
        with Scheduler("", self.memory - fixed) as scheduler:
            scheduler.plan(task)
            needed = fixed + max(scheduler.needed, learned)
            check_budget(f"classifying by K = {k}", needed, self.memory)
            return scheduler.at_once

    def _needed(self, k: int, earlier: Sequence[int]) -> tuple[int, int, int]:
        """Bytes that classifying takes at most: always; of each thread that makes features; or,
        when these are there, of a fit.
        """
        data, n = self._data(k, 1)["train"], len(self.labels["train"])
        width, copies = data.width, data.copies
        drawn = (each * self.images.classes for each in LABELS)
        taught = [n, *(few for few in drawn if few < n)]
        learned = max(self._fit_bytes(few * copies, width) for few in taught)
        decided = 2 * 8 * width * self.images.classes * DRAWS * len(LABELS)
        stored = StoredFeatures.projected_bytes(n * copies, width, self._folder)
        if lies_in_memory(self._folder):  # where those of the best K so far stay
            stored += max(map(self._features_bytes, earlier), default=0)
        # A block as float64.
        return data.engine_bytes + 8 * data.block + decided + stored, data.task_bytes, learned

    def _features_bytes(self, k: int) -> int:
        data = self._data(k, 1)["train"]
        return 4 * len(data.labels) * data.copies * data.width

    def _check_room(self, sizes: Sequence[int]) -> None:
        """Raise InputError where the disk has no room for features of all copies of all images.

        Those of the best K stay while those of another are made.
        """
        each = sorted(map(self._features_bytes, sizes))
        needed, free = sum(each[-2:]), shutil.disk_usage(self._folder).free
        if needed > free and not lies_in_memory(self._folder):
            raise InputError(
                f"features take {needed:,} bytes of disk, but {free:,} are free in {self._folder}:"
                " make room, or ask for a smaller K, fewer pools, or no shift"
            )

    def _fit_bytes(self, n: int, width: int) -> int:
        """What a classifier of so many images takes while it is learned."""
        if self._few(n, width):
            return few_bytes(n, width)
        return projected_bytes(width, self.images.classes)

    @cached_property
    def _folder(self) -> Path:
        """Where features lie while a classifier is learned."""
        return features_folder(self.images.experiment.folder)


@dataclass(frozen=True)
class _OneSize:
    """Of one dictionary: its line of the table, the confusion matrix, features to learn from."""

    row: dict[str, Any]
    confusion: np.ndarray
    features: StoredFeatures


def _some_of_each(labels: np.ndarray, share: float) -> np.ndarray:
    """Which images are set aside: a share of each class, at least one of two; (n,) bool."""
    rng, found = np.random.default_rng(SEED), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        n = min(len(own) - 1, max(1, round(share * len(own))))
        found[rng.choice(own, n, False)] = True
    return found
