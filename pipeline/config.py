"""What a run is asked to do: frozen, validated, written into what it produced.

One field is one option of the command line and one variable of make; its docstring is its help.
"""

import hashlib
import json
import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from pipeline.option_values import (
    DIGITS,
    FORMER_NAMES,
    STUDY,
    Address,
    Count,
    Dataset,
    DictionarySizes,
    Folder,
    Natural,
    Numbers,
    OptionalSize,
    PatchSize,
    Size,
    Source,
    renamed,
    wrong_option,
)
from storage.errors import InputError
from storage.images.axes import check_layout
from storage.images.datasets import DATASETS, class_names, splits_of
from storage.images.options import ImageOptions
from storage.patch_spec import PatchSpec, check_rule, check_sample

STATED = [field for field in fields(ImageOptions) if field.name not in ("black", "labels")]
MAX_ITER = {"nested": 300, "full": 100, "minibatch": 10}
MIN_GAIN = {"nested": 1e-4, "full": 0.0, "minibatch": 0.0}
# Caps on the memory where none is given. Torch built for CUDA loads libraries of 512 MiB (not
# measured), on a GPU of 1 GiB and more.
USUAL_MEMORY = ByteSize(1 << 30)
TORCH_MEMORY = ByteSize(3 << 29)
GPU_MEMORY = ByteSize(4 << 30)
_WITHOUT_TORCH = {("cpu", "auto"), ("cpu", "pruned")}  # device, engine


class Options(BaseModel):
    """Base of the option groups; an unknown key is an error, None is as if nothing were given."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,  # default folders are made absolute too
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_none(cls, fields: Any) -> Any:
        known = cls.model_fields
        return {k: value for k, value in fields.items() if value is not None or k not in known}

    @classmethod
    def checked(cls, **fields: Any) -> Self:
        """Like the constructor, but raises InputError with one line."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise InputError(wrong_option(error, list(cls.model_fields))) from None


class MemoryOptions(Options):
    """What every step that takes much memory is told."""

    memory: Size = USUAL_MEMORY
    """Cap on the resident memory of the process tree, as in 1GiB or 800MB; where none is given, a
    sweep on a GPU, whose drivers take part of it, is allowed 4GiB, engine torch on a CPU 1.5GiB."""


class PatchOptions(MemoryOptions):
    """Which patches, and where they are kept."""

    dataset: Dataset = "digits"
    """digits, photos, mnist, fashion-mnist, cifar10, or a path: an image, a folder or glob of them,
    IDX, .npy; zarr, HDF5, NetCDF, .npz, as PATH::NAME where they hold several arrays; or a URL."""
    data: Folder = Path("data")
    """Folder of downloads, or its URL; right files that are already there are used."""
    out: Folder = Path("runs")
    """Folder of everything that is made, or its URL (s3://BUCKET/…, gs://, az://)."""
    patch: PatchSize = (5, 5)
    """Size of a patch in pixels: 5, or rows x columns as in 5x7."""
    stride: Count = 1
    """Step between patches in pixels."""
    border: Literal["valid", "reflect"] = "valid"
    """valid: patches lie within the image; reflect: it is mirrored at its border, the edge not
    repeated, so that every pixel, or every stride-th, is the centre of a patch."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Keep a patch whose mean is above this share of the way from black to white; 0: not blank."""
    layout: Annotated[str, AfterValidator(check_layout)] | None = None
    """Letters of the images' axes in their order: N (images), H (rows), W (columns), C (channels);
    NHWC or NHW where none are given."""
    white: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Level of white, as 4095 for 12 bits in 16; default: of 16 bits the fewest that hold all
    pixels, signed ones as far as the pixels reach, else the type's largest, 1 for floats."""
    nodata: float | None = None
    """Value of pixels that hold no data, as -9999 or nan; patches with such pixels are left out."""
    channels: Numbers | None = None
    """Channels that are taken, from 0 on, as in 0,2; default: all."""
    heldout: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of a file's images that dictionaries are scored on, not learned from: images drawn at
    random, or of a few images the lower rows; data sets with a name have test images."""
    test: Dataset | None = None
    """Path of test images, in place of a share that is held out."""
    mask: Source | None = None
    """Path of images, or of one for all, that are not 0 where patches are kept; where test names
    images of its own, one for all of both."""
    mask_by: Literal["all", "centre"] = "all"
    """Whether all pixels of a patch must be set in the mask, or its centre."""
    on_error: Literal["refuse", "skip"] = "refuse"
    """refuse a folder with an image that cannot be read, by its name, or skip such images."""
    keep: Annotated[str, AfterValidator(check_rule)] = "nonblank"
    """Patches that are kept: nonblank (see threshold), all, or those whose standard deviation or
    range is above a share of the way from black to white, as in std>0.02 and range>0.1."""
    sample: Annotated[str, BeforeValidator(check_sample)] | None = None
    """Number of patches, as in 1e6, or share of them, as in 5%, drawn at random; default: all."""
    scheduler: Address = ""
    """Where patches are cut and passes run: empty (this process), processes:N, or an address."""

    @property
    def stated(self) -> ImageOptions:
        """What is stated of the images."""
        return ImageOptions(**{field.name: getattr(self, field.name) for field in STATED})

    @property
    def splits(self) -> dict[str, tuple[str, ImageOptions]]:
        """By split the data set, and what is stated of its images."""
        found = dict.fromkeys(splits_of(self.dataset), (self.dataset, self.stated))
        if self.test is not None:
            found["test"] = self.test, replace(self.stated, heldout=1.0)
        elif self.heldout is not None:
            found["test"] = self.dataset, self.stated
        return found

    @model_validator(mode="after")
    def _one_test_set(self) -> Self:
        given = [name for name in ("heldout", "test") if getattr(self, name) is not None]
        if given and "test" in splits_of(self.dataset):
            raise InputError(f"{self.dataset} has test images of its own: leave {given[0]} out")
        if len(given) > 1:
            raise InputError("heldout and test both say what is scored on: give one of them")
        if self.test in DATASETS:
            raise InputError(
                f"test {self.test} is a data set with a name: give the path of test images, a file"
                f" or folder that is called so as ./{self.test}"
            )
        if self.threshold and self.keep != "nonblank":
            raise InputError(f"threshold is no part of keep={self.keep}: leave one of them out")
        return self

    @property
    def spec(self) -> PatchSpec:
        """The patch geometry."""
        return PatchSpec(
            *self.patch,
            self.stride,
            self.threshold,
            keep=self.keep,
            sample=self.sample,
            border=self.border,
        )


class FitOptions(Options):
    """How a dictionary is learned; everything that its numbers depend on."""

    mode: Literal["nested", "full", "minibatch"] = "nested"
    """nested: Lloyd on growing prefixes; full: on all rows; minibatch: Sculley's mini-batches."""
    init: Literal["warm", "k-means++", "random"] = "k-means++"
    """First centroids: rows of a sample that are far apart, or any rows (random, the study's)."""
    max_iter: Count | None = None
    """Most steps that move the centroids: 100 for full, 10 for minibatch; 300 on each prefix."""
    tol: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    """Stop when the centroids' squared shift is at most tol times the columns' mean variance."""
    min_gain: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Stop when a pass gains less than this share of the MSE; 1e-4 for nested, else 0. In nested
    rows × K / 3·10^10 times it, 0.5 to 6: a pass that takes longer has to gain more."""
    breathing: Natural | None = None
    """nested: rounds of adding centroids where error is large and removing the least missed, while
    steps (max_iter) are left; from 60 for small K to 8 for large ones; 0: none."""
    batch_size: Count = 65536
    """Rows of a mini-batch."""
    preprocess: Literal["none", "contrast", "zca"] = "none"
    """What is done to patches: nothing; contrast: their mean is taken away, and they are divided by
    √(variance + contrast_floor); zca: they are whitened, too."""
    contrast_floor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0
    """Added to the variance of a patch before contrast divides by its root, for pixels of 0…255."""
    zca_epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    """Added to the eigenvalues of the covariance before zca divides by their roots."""
    distance: Literal["euclidean", "cosine"] = "euclidean"
    """euclidean, or cosine: patches and centroids are of length 1 (spherical K-means)."""
    empty: Literal["random", "split"] = "random"
    """An empty centroid gets a row drawn at random (the study's), or half of the worst cluster."""
    seed: Natural = 0
    """Seed of the fit; same seed, same result."""

    @property
    def passes(self) -> int:
        """Most passes that move the centroids."""
        return self.max_iter or MAX_ITER[self.mode]

    @property
    def least_gain(self) -> float:
        """Share of the MSE that a pass must gain for another to follow."""
        return MIN_GAIN[self.mode] if self.min_gain is None else self.min_gain

    @model_validator(mode="before")
    @classmethod
    def _take_former_names(cls, fields: Any) -> Any:
        fields, notes = renamed(fields)
        for note in notes:
            warnings.warn(note, FutureWarning, stacklevel=2)
        return fields

    def in_use(self) -> dict[str, Any]:
        """What the numbers of a dictionary depend on, beside K: plain JSON, its keys as stored."""
        # By FitOptions' own fields: a subclass adds where and how it runs, not what comes out.
        fields = {name: getattr(self, name) for name in FitOptions.model_fields}
        fields |= {"max_iter": self.passes, "min_gain": self.least_gain}
        decide = {  # whether they have a part in them
            "batch_size": self.mode == "minibatch",
            "breathing": self.mode == "nested",
            "preprocess": self.preprocess != "none",
            "contrast_floor": self.preprocess != "none",
            "zca_epsilon": self.preprocess == "zca",
            "distance": self.distance != "euclidean",
        }
        stored = {new: old for old, new in FORMER_NAMES.items()}
        used = {name: value for name, value in fields.items() if decide.get(name, True)}
        return {stored.get(name, name): value for name, value in used.items()}

    def digest(self, *stores: str) -> str:
        """Hash of all that a dictionary's numbers depend on, beside K and, with warm starts, the
        smaller dictionary that it started from; stores: names.
        """
        made_of = json.dumps([self.in_use(), stores], sort_keys=True)
        return hashlib.sha256(made_of.encode()).hexdigest()[:8]


class SweepOptions(FitOptions, PatchOptions):
    """Everything of `make sweep`."""

    k: DictionarySizes = ()
    """Dictionary sizes: 100,200,300 or 100:1000:100 or study; default: study, digits: 10 … 1000."""
    init: Literal["warm", "k-means++", "random"] = "warm"
    """First centroids: those of the next smaller K of the experiment and new ones where error is
    largest (warm), or independent of them: rows of a sample that are far apart (k-means++), or any
    rows (random, the study's)."""
    device: str = "auto"
    """cpu, cuda, mps, or auto: the first of cuda, mps, cpu that is there."""
    device_memory: OptionalSize = None
    """Cap on the memory of the device that is taken, as in 8GiB; default: 80 % of what is free."""
    engine: Literal["auto", "torch", "pruned", "fused"] = "auto"
    """pruned (CPU) meets the centroids that may be nearest, torch all of them, fused (CUDA) all of
    them without their distances in memory; auto: pruned on a CPU, else fused or torch."""

    def on(self, device: str) -> Self:
        """These options on a type of device, with the memory usual there where none was given."""
        if "memory" in self.model_fields_set or (device, self.engine) in _WITHOUT_TORCH:
            return self
        memory = TORCH_MEMORY if device == "cpu" else GPU_MEMORY
        return self.model_copy(update={"memory": memory})

    labels: Source | None = None
    """CSV file of the images' classes for the report, with lines of name,class; of arrays
    index,class, or the class of each image in order. It is kept with the experiment."""

    @model_validator(mode="after")
    def _labels_are_of_the_dataset(self) -> Self:
        if self.labels is not None and class_names(self.dataset):
            raise InputError(f"{self.dataset} has classes of its own: leave labels out")
        if self.labels is not None and self.test is not None:
            raise InputError("labels are of the training images: hold some out in place of test")
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """The K list, ascending."""
        return self.k or (DIGITS if self.dataset == "digits" else STUDY)
