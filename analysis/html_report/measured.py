"""Every measure of an experiment that its report tells of, made when first asked for, and once."""

import math
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import xarray

from analysis.experiment import Experiment
from analysis.html_report.classes import MeasuredClasses
from analysis.html_report.samples import (
    SHOWN_IMAGES,
    Composition,
    Quantised,
    TypicalImage,
    draw_patches,
    middles,
    quantise,
    typical_image,
)
from analysis.measures.coverage import coverage
from analysis.measures.elbow import METHODS, Bend, ElbowInterval, elbow, elbow_interval, two_lines
from analysis.measures.kinds import kinds_of, shares_of_kinds
from analysis.measures.mse_curve import power_law
from analysis.measures.patch_sample import evenly, sample_patches
from analysis.measures.pixel_scale import PixelScale
from analysis.measures.usage import usage
from analysis.reconstruction.overlap import Rebuilder, images_at_once
from analysis.reconstruction.scores import reconstruction_scores
from analysis.text import SPLIT_NAMES, size_range
from pipeline import USUAL_MEMORY, Progress, SilentProgress
from storage import PatchStore, group_name
from storage.images.views import SelectedRows

SHOWN_SIZES = 24  # K whose patches and images are shown: a figure has no room for hundreds
COVERED_ROWS = 1 << 15  # of a store, at most
COVERED_VALUES = 1 << 23  # of these rows together, at most
MIDDLE_VALUES = 1 << 20  # of an image that is shown or scored: of larger ones the middle
SCORED_VALUES = 1 << 23  # of images that are scored; 10,699 of 28×28 pixels


@dataclass(frozen=True)
class Measured(MeasuredClasses):
    """An experiment, and what is measured of it. What is by K runs over all K, ascending.

    memory: cap in bytes on the resident memory of the process while patches and images are read.
    progress: is told of what takes long.
    Raises, where a measure is asked for: InputError where images or patches are gone;
        IntegrityError where they are others; MemoryBudgetError where it does not fit under the cap.
    """

    experiment: Experiment
    memory: int = USUAL_MEMORY
    progress: Progress = field(default_factory=SilentProgress)

    @property
    def sizes(self) -> list[int]:
        return self.experiment.sizes

    @property
    def pixels(self) -> PixelScale:
        """Range and unit of the pixels."""
        return self.experiment.pixels

    @property
    def pictures(self) -> PixelScale:
        """The scale on which pixels are shown, and kinds and coverage told."""
        return self.experiment.pictures

    @property
    def patch(self) -> str:
        """A patch's shape, as in 5×5."""
        return "×".join(map(str, self.experiment.patch_shape))

    @property
    def rows(self) -> int:
        """Patches learned from."""
        return int(self.experiment.facts["n_rows"])

    @property
    def split(self) -> str:
        """The split that stands for what was not learned from: the last."""
        return self.experiment.splits[-1]

    @property
    def unseen(self) -> str:
        """What the patches of `split` are called."""
        return "held-out" if self.held_out else "training"

    @cached_property
    def held_out_parts(self) -> str:
        """What was held out: images, or of a few images some rows."""
        rows = self.held_out and isinstance(self.sources[self.split].reader, SelectedRows)
        return "rows of images" if rows else "images"

    # Scores over K

    @cached_property
    def curve(self) -> xarray.Dataset:
        """Scores over K, as `mse_curve` returns them."""
        return self.experiment.curve

    def score(self, name: str, k: int) -> float:
        """One score of the dictionary of K centroids."""
        return float(self.curve[name].sel(k=k))

    def scores(self, name: str) -> list[float]:
        """One score of every dictionary."""
        values: list[float] = self.curve[name].values.tolist()
        return values

    @cached_property
    def variance(self) -> float:
        """Of the rows about their mean, per pixel, squared pixel levels."""
        return float(self.curve.attrs["variance"])

    @cached_property
    def exponent(self) -> float | None:
        """Of the power law fitted to the training curve; None where there is none."""
        law = power_law(np.array(self.sizes, float), self.curve["mse"].values)
        return None if law is None else law[0]

    @cached_property
    def elbow(self) -> int | None:
        """Of the training curve, by its chord."""
        return elbow(self.sizes, self.curve["mse"].values)

    @property
    def told(self) -> int:
        """The K that is told of alone: the elbow, or the largest where there is none."""
        return self.elbow or self.sizes[-1]

    @cached_property
    def elbows(self) -> dict[str, ElbowInterval | None]:
        """By each of METHODS the elbow with its uncertainty."""
        mse = self.curve["mse"].values
        return {method: elbow_interval(self.sizes, mse, method=method) for method in METHODS}

    @property
    def elbow_limits(self) -> tuple[int, int] | None:
        """Of the elbow, where other choices of K would put it elsewhere."""
        found = self.elbows["chord"]
        return None if found is None or found.low == found.high else (found.low, found.high)

    @cached_property
    def bend(self) -> Bend | None:
        """Where two straight lines on logarithmic axes part."""
        return two_lines(self.sizes, self.curve["mse"].values)

    # Centroids

    @cached_property
    def counts(self) -> dict[int, np.ndarray]:
        """By K the rows of each centroid."""
        return {k: node["count"].values for k, node in self.experiment.nodes.items()}

    @cached_property
    def usage(self) -> dict[int, xarray.Dataset]:
        """By K what `usage` tells."""
        return {k: usage(node) for k, node in self.experiment.nodes.items()}

    @cached_property
    def kinds(self) -> dict[int, np.ndarray]:
        """By K the kind of each centroid, (k,) indices into KINDS."""
        span = self.pictures.span
        return {k: kinds_of(self.experiment.centroids(k), span) for k in self.sizes}

    @cached_property
    def kind_shares(self) -> xarray.Dataset:
        """Shares of each kind over (k, kind), of_centroids and of_patches."""
        return shares_of_kinds(self.kinds, self.counts)

    # Patches and images

    @cached_property
    def stores(self) -> dict[str, PatchStore]:
        """The patches of each split, opened once."""
        return {split: self.experiment.patches(split) for split in self.experiment.splits}

    @cached_property
    def shown(self) -> list[int]:
        """The K whose patches and images are shown."""
        return evenly(self.sizes, SHOWN_SIZES)

    @cached_property
    def patches(self) -> np.ndarray:
        """Some training patches, (m, *patch_shape)."""
        return draw_patches(self.stores["train"])

    @cached_property
    def quantised(self) -> dict[int, Quantised]:
        """By each K that is shown the nearest centroids of `patches`."""
        return {k: quantise(self.patches, *self.experiment.codebook(k)) for k in self.shown}

    @cached_property
    def samples(self) -> dict[str, list[np.ndarray]]:
        """By the name of the split some of its images, in the store's own random order.

        Of large and of unequal ones the middle.
        """
        return {
            SPLIT_NAMES[split]: list(self.middles(split, self.drawn(split), MIDDLE_VALUES)[0])
            for split in self.sources
        }

    def drawn(self, split: str) -> np.ndarray:
        """Numbers of the images in `samples`."""
        return self.stores[split].image_order[:SHOWN_IMAGES]

    def middles(self, split: str, which: np.ndarray, most: int) -> tuple[np.ndarray, bool]:
        """Some images, or the middle of each, see `samples.middles`."""
        return middles(self.sources[split], which, most, self.experiment.spec)

    def image_sizes(self, split: str) -> str:
        """Rows and columns of the images of a split, as in 28×28, or 20–64×40–64."""
        sizes = self.sources[split].sizes
        return size_range([sizes.min(axis=0).tolist(), sizes.max(axis=0).tolist()])

    @property
    def typical(self) -> list[TypicalImage]:
        """An image of each split, rebuilt at each K that is shown."""
        return self._rebuilt[0]

    @property
    def composition(self) -> Composition:
        """Of the last typical image, which is of unseen ones if there are any, at `told`."""
        return self._rebuilt[1]

    @cached_property
    def _rebuilt(self) -> tuple[list[TypicalImage], Composition]:
        cut, levels, found = self.experiment.spec, self.pixels.levels, []
        for split, source in self.sources.items():
            index = typical_image(self.stores[split])
            (image,), is_whole = self.middles(split, np.array([index]), MIDDLE_VALUES)
            spec = cut if is_whole else cut.within
            k, met = self.sizes[-1], self.experiment.codebook(self.sizes[-1])[1] is not None
            images_at_once(image.shape, image.dtype, spec, k, self.memory, preprocessed=met)
            versions: dict[int, tuple[np.ndarray, float]] = {}
            for k in sorted({*self.shown, self.told}):
                centroids, preprocessing = self.experiment.codebook(k)
                rebuilder = Rebuilder(centroids, spec, image.dtype, levels, preprocessing)
                version = rebuilder.rebuild(image[np.newaxis])
                made = Composition.of(image, version, centroids, spec, preprocessing)
                if k == self.told:
                    composition = made
                if k in self.shown:
                    versions[k] = version.images[0].astype(np.float32), made.image_mse
            size = None if is_whole else tuple(source.sizes[index].tolist())
            found.append(TypicalImage(SPLIT_NAMES[split], index, image, versions, size))
        return found, composition

    @cached_property
    def coverage(self) -> dict[int, xarray.Dataset]:
        """By K the `coverage` of random patches of `split`, the same for all."""
        store = self.stores[self.split]
        most = max(1, min(COVERED_ROWS, COVERED_VALUES // store.dim))
        sample = sample_patches(store, most)
        nodes = self.experiment.dictionaries.children
        return {k: coverage(nodes[group_name(k)], sample, memory=self.memory) for k in self.sizes}

    @property
    def image_scores(self) -> dict[int, xarray.Dataset]:
        """The `reconstruction_scores` of test images, at the smallest, the told, the largest K.

        Of all of them, or of as many in the store's order as have SCORED_VALUES pixel values
        together, of large ones the middles; where there are none, of training images. The
        coordinate `image` says which, and `label` is there where classes are known.
        """
        return self._scored[0]

    @property
    def scored_middle(self) -> tuple[int, int] | None:
        """Rows and columns of the middles that `image_scores` is of; None: of whole images."""
        return self._scored[1]

    @cached_property
    def _scored(self) -> tuple[dict[int, xarray.Dataset], tuple[int, int] | None]:
        source, labels = self.sources[self.split], self.experiment.labels(self.split)
        which, values = np.arange(len(source)), math.prod(source.image_shape)
        images: Any = source
        middle = None
        all_of_them = values <= MIDDLE_VALUES and values * len(which) <= SCORED_VALUES
        if not (all_of_them and (self.held_out or not source.uniform)):
            most = max(1, SCORED_VALUES // min(values, MIDDLE_VALUES))
            which = np.sort(self.stores[self.split].image_order[:most])
            images, whole = self.middles(self.split, which, MIDDLE_VALUES)
            middle = None if whole else images.shape[1:3]
        chosen = None if labels is None else labels[which]
        score = partial(reconstruction_scores, images, labels=chosen, memory=self.memory)
        spec = self.experiment.spec.within if middle else None
        nodes = self.experiment.dictionaries.children
        found = {}
        for k in sorted({self.sizes[0], self.told, self.sizes[-1]}):
            found[k] = score(nodes[group_name(k)], spec=spec).assign_coords(image=which)
        return found, middle
