"""What a report tells of classes: what `classify` found, or finds at once where that is little."""

import math
from functools import cached_property
from typing import Any

from analysis.classification.classify import kept, written
from analysis.classification.known_images import KnownImages
from analysis.classification.study import Study
from analysis.encoding.pooling import FeatureOptions
from analysis.experiment import Experiment
from pipeline import Progress, SilentProgress
from storage import ImageSource, InputError, MemoryBudgetError

PRODUCTS = 1 << 31  # of a patch's pixel and a centroid's, up to which a report does it by itself


class MeasuredClasses:
    """A part of `Measured`.

    Attributes:
        experiment: whose classes they are.
        memory: cap in bytes on the resident memory of the process.
        progress: is told of what takes long.
    """

    experiment: Experiment
    memory: int
    progress: Progress = SilentProgress()

    @property
    def held_out(self) -> bool:
        """Whether there are patches, and images, that were not learned from."""
        return len(self.experiment.splits) > 1

    @cached_property
    def sources(self) -> dict[str, ImageSource]:
        """The images of each split, opened once."""
        return {split: self.experiment.images(split) for split in self.experiment.splits}

    @cached_property
    def classes_known(self) -> bool:
        """Whether there are training and test images of known class, all of one size."""
        experiment = self.experiment
        return (
            self.held_out
            and all(experiment.labels(split) is not None for split in experiment.splits)
            and all(source.uniform for source in self.sources.values())
        )

    @cached_property
    def classification(self) -> dict[str, Any] | None:
        """What `classify` returns, of the dictionaries as they are; None: it was not called."""
        found = kept(self.experiment)
        if not self.classes_known or (found is not None and found["asked"] is not None):
            return found
        told = [] if found is None else [row["k"] for row in found["by_k"]] + found["left_out"]
        if sorted(told) == self.experiment.sizes or self._products > PRODUCTS:
            return found
        options = FeatureOptions.of("triangle", "quadrants")
        images = KnownImages(self.experiment, self.sources)
        study = Study(images, options, None, self.memory, self.progress)
        try:
            return written(study, None)
        except (InputError, MemoryBudgetError):  # the command that is told says why
            return found

    @property
    def _products(self) -> int:
        """Of all distances of all patches to all centroids."""
        experiment = self.experiment
        positions = [
            len(source) * math.prod(experiment.spec.grid(*source.image_shape[:2]))
            for source in self.sources.values()
        ]
        return sum(positions) * sum(experiment.centroids(k).size for k in experiment.sizes)
