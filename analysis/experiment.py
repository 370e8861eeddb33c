"""An experiment that is open: its dictionaries, how they were learned, and what from."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray

from analysis.experiment_data import ExperimentData
from analysis.experiment_folders import only_experiment
from analysis.measures.codebook import pixel_centroids, preprocessing_of
from analysis.measures.mse_curve import mse_curve
from analysis.measures.pixel_scale import PixelScale
from pipeline import Preprocessing, SweepOptions, named_today
from storage import InputError, PatchSpec, open_dictionaries
from storage.dictionary_store import HISTORY
from storage.layout import ExperimentLayout, moved_places
from storage.places.place import Place, place_of
from storage.plain_attributes import parsed


@dataclass(frozen=True)
class Experiment(ExperimentData):
    """An experiment that is open: all that was made of some patches with some options.

    Attributes:
        folder: where it lies.
        dictionaries: an xarray tree, in which they are found by K: `dictionaries[50]`.
        data: the folder of downloads.
        dataset: where the images are, if they have moved.
    """

    @cached_property
    def curve(self) -> xarray.Dataset:
        """Scores over K, as `mse_curve` returns them."""
        return mse_curve(self.dictionaries)

    @cached_property
    def sizes(self) -> list[int]:
        """The K list, ascending."""
        return [int(k) for k in self.curve["k"].values]

    @cached_property
    def nodes(self) -> dict[int, xarray.Dataset]:
        """The dictionaries by K, ascending; arrays are read when they are used."""
        found = {k: node.to_dataset() for k, node in self.dictionaries.by_k.items()}
        for node in found.values():
            node.attrs = {"started_from": None} | parsed(node.attrs)
        return found

    def dictionary(self, k: int) -> xarray.DataTree:
        """The dictionary of k centroids, with its tree. Raises: InputError where there is none."""
        if k not in self.nodes:
            sizes = ", ".join(map(str, self.sizes))
            raise InputError(f"{self.folder} has no dictionary of K = {k}: use {sizes}")
        return self.dictionaries.by_k[k]

    def centroids(self, k: int) -> np.ndarray:
        """(k, rows, cols[, channels]) float32, pixel levels, also those of preprocessed patches."""
        return pixel_centroids(self.nodes[k])

    def codebook(self, k: int) -> tuple[np.ndarray, Preprocessing | None]:
        """Centroids as patches meet them, (k, *patch_shape), and how these are preprocessed."""
        values: np.ndarray = self.nodes[k]["centroids"].values
        return values, preprocessing_of(self.nodes[k])

    @property
    def spec(self) -> PatchSpec:
        """How the patches were cut."""
        return PatchSpec.from_dict(self.facts["spec"])

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """(rows, cols), or (rows, cols, channels) for colour."""
        return (self.spec.rows, self.spec.cols, *self.image_shape[2:])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width), or (height, width, channels) for colour."""
        return tuple(self.facts["source"]["image_shape"])

    @property
    def pixels(self) -> PixelScale:
        """Range and unit of the pixels."""
        return PixelScale.of_source(self.facts["source"])

    @property
    def pictures(self) -> PixelScale:
        """The scale on which pixels are shown; narrower, where they use little of their range."""
        return PixelScale.shown_of(self.facts["source"])

    @property
    def options(self) -> SweepOptions:
        """What the sweep was asked to do; `sweep(experiment.options)` finds all of it done.

        Where and how it ran, as device and memory, are those that are usual here.
        """
        facts, spec = self.facts, self.spec
        asked = {
            "dataset": facts["dataset"],
            "test": facts.get("test"),
            "data": self.data,
            "out": self.folder.resolve().parent,
            "patch": (spec.rows, spec.cols),
            "k": tuple(self.sizes),
        }
        cut = {name: getattr(spec, name) for name in ("stride", "threshold", "keep", "border")}
        sample = None if spec.sample is None else str(spec.sample)
        learned = named_today(facts["fit"])
        stated = facts["source"].get("stated", {})
        return SweepOptions.checked(**asked, **cut, sample=sample, **stated, **learned)

    @cached_property
    def history(self) -> xarray.Dataset:
        """Rows, mse, shift, live, redrawn and seconds of every pass, over (k, iteration).

        NaN where a fit had fewer passes. Units and names are in the attributes.
        """
        passes = [node[list(HISTORY)].astype(float) for node in self.nodes.values()]
        sizes = xarray.DataArray(self.sizes, dims="k", name="k", attrs=self.curve["k"].attrs)
        found = xarray.concat(passes, sizes, join="outer", combine_attrs="override")
        found.attrs = {}
        return found

    def __repr__(self) -> str:
        sizes = ", ".join(map(str, self.sizes))
        rows, dim = self.facts["n_rows"], self.facts["dim"]
        return f"<Experiment {self.folder.name}: {rows:,} patches of {dim} values, K = {sizes}>"


def open_experiment(
    folder: str | Place,
    data: str | Place | None = None,
    dataset: str | None = None,
    labels: str | Place | None = None,
) -> Experiment:
    """Open an experiment: its dictionaries, patches, images, options and history.

    Args:
        folder: of the experiment, or a sweep's OUT that holds only one; or its URL.
        data: where its downloads are now, if they have moved without it; a data set that has a
            name needs none.
        dataset: where its file or folder of images is now, the same.
        labels: a CSV file of the classes of its images, which it keeps.

    Returns:
        An `Experiment`; nothing large is read before it is used.

    Raises:
        InputError: there is none, there are several, or labels that do not fit.
        IntegrityError: it is damaged, or of another schema version.
    """
    found = ExperimentLayout(place_of(folder))
    tree = open_dictionaries(found.dictionaries) if found.dictionaries.exists() else None
    if tree is None or not tree.children:
        found = ExperimentLayout(only_experiment(found.folder))
        tree = open_dictionaries(found.dictionaries)
    usual = place_of(tree.attrs["data"])
    if data is None and isinstance(usual, Path) and not usual.exists():
        data = next(moved_places(str(usual), found.folder), None)
    experiment = Experiment(found.folder, tree, place_of(data or usual), dataset)
    if labels is not None:
        experiment.state_labels(place_of(labels))
    return experiment
