"""Images of known class, and the experiments by whose dictionaries they are told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.experiment import Experiment, open_experiment
from storage import ImageSource, InputError
from storage.dictionary_store import dictionary_sum
from storage.places.place import Place


@dataclass(frozen=True)
class KnownImages:
    """Training and test images of an experiment, and their classes.

    Attributes:
        experiment: whose images and classes they are.
        sources: the images, by split.
        beside: other experiments of the same images, whose dictionaries say something, too.
    """

    experiment: Experiment
    sources: Mapping[str, ImageSource]
    beside: Sequence[Experiment] = ()

    @classmethod
    def opened(
        cls,
        folders: Sequence[str | Place],
        sizes: Sequence[int],
        data: Place | None,
        dataset: str | None,
        labels: Place | None,
    ) -> "KnownImages":
        """Those of experiments, the first of which keeps their classes.

        sizes: K of which each is to have a dictionary. Others, and what is raised: see `classify`.
        """
        first, *others = folders
        own = open_experiment(first, data, dataset, labels)
        beside = [open_experiment(other, data, dataset) for other in others]
        for experiment in (own, *beside):
            for k in sizes:
                experiment.dictionary(k)
        return cls(own, {split: own.images(split) for split in own.splits}, beside)

    @property
    def experiments(self) -> list[Experiment]:
        """All of them."""
        return [self.experiment, *self.beside]

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """Classes of training and test images. Raises: InputError where they cannot be told."""
        found = {}
        if len(self.experiment.splits) < 2:
            raise InputError(
                f"{self.experiment.name} has no test images, whose classes would be told: sweep"
                " with test images (--test, or --heldout)"
            )
        for split in self.experiment.splits:
            labels = self.experiment.labels(split)
            if labels is None:
                reason = self.experiment.why_unlabelled(split)
                raise InputError(f"{reason}: say which they are (--labels FILE.csv)")
            found[split] = labels
        for source in self.sources.values():
            if not source.uniform:
                raise InputError(
                    f"the images of {source.where} have several sizes, whose features are not"
                    " alike: classify images of one size"
                )
        counts = np.unique(found["train"], return_counts=True)[1]
        if len(counts) < 2 or counts.max() < 2:
            raise InputError(
                f"the training images of {self.experiment.name} are of {len(counts)} classes, with"
                f" at most {counts.max()} of each: at least two of both are needed"
            )
        return found

    @property
    def classes(self) -> int:
        """Classes of all images."""
        return 1 + max(int(labels.max()) for labels in self.labels.values())

    @cached_property
    def seen_by(self) -> dict[str, list[ImageSource]]:
        """The images of each split as each experiment opens them.

        Raises: InputError: experiments are of other images, or one of them is given twice.
        """
        own = self.experiment
        if len({one.folder.resolve() for one in self.experiments}) <= len(self.beside):
            raise InputError(
                "an experiment is given twice, whose features say nothing more: give each once"
            )
        found = {split: [source] for split, source in self.sources.items()}
        for other in self.beside:
            if _fingerprints(other) != _fingerprints(own):
                raise InputError(
                    f"{other.folder} is of other training or test images than {own.folder}, so"
                    " that their features cannot stand side by side: sweep the same images with"
                    " both patches"
                )
            for split, sources in found.items():
                sources.append(other.images(split))
        return found

    @property
    def sizes(self) -> list[int]:
        """The K of which each experiment has a dictionary. Raises: InputError: there is none."""
        found = set.intersection(*(set(one.sizes) for one in self.experiments))
        if not found:
            held = "; ".join(", ".join(map(str, one.sizes)) for one in self.experiments)
            raise InputError(
                f"these experiments share no K ({held}): sweep one of them with a K of the others"
            )
        return sorted(found)

    def sums(self, k: int) -> list[str]:
        """SHA-256 of the centroids of each dictionary of k."""
        return [dictionary_sum(one.codebook(k)[0]) for one in self.experiments]


def _fingerprints(experiment: Experiment) -> dict[str, str]:
    """Of the images of each split."""
    return {split: experiment.recorded(split)["fingerprint"] for split in experiment.splits}
