"""How well images are rebuilt: a score for each, streamed, and what they come to by class."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray

from analysis.measures.codebook import AnyDictionary, node_of, preprocessing_of
from analysis.measures.pixel_scale import PixelUnit
from analysis.reconstruction.image_stack import ImageStack, Step
from analysis.reconstruction.overlap import Rebuilder, RebuiltBlock
from analysis.reconstruction.reconstruct import check_fit, open_dictionary
from pipeline import USUAL_MEMORY, MemoryOptions, Progress, SilentProgress
from storage import ImageSource, InputError, PatchSpec
from storage.plain_attributes import OF_IMAGES, describe

SCORE_UNITS = {
    "mse": ("mean squared error over all pixels", "squared pixel levels"),
    "psnr": ("peak signal-to-noise ratio of mse", "dB"),
    "covered_mse": ("mean squared error over pixels with a kept patch", "squared pixel levels"),
    "covered": ("share of the pixels with a kept patch", "1"),
    "cover": ("kept patches on a pixel that has one, mean", "1"),
    "patches": ("kept patches", "1"),
    "pixels": ("pixels", "1"),
}


class ImageSums:
    """Sums over the pixels of each image, whole or part by part, of which scores are made."""

    def __init__(self, sizes: np.ndarray) -> None:
        """sizes: (n, 2) rows and columns."""
        n, self._pixels = len(sizes), sizes.prod(axis=1)
        self._squares, self._covered_squares = np.zeros((2, n))
        self._held, self._covered, self._cover, self._patches = np.zeros((4, n), np.int64)

    def add(self, start: int, images: np.ndarray, rebuilt: RebuiltBlock) -> None:
        """Take images, or a part of one, with what they are rebuilt as; start: of the first."""
        errors, covered = rebuilt.squared_errors(images), rebuilt.cover > 0
        of, pixels = slice(start, start + len(images)), (1, 2)
        self._squares[of] += errors.sum(axis=pixels)
        self._covered_squares[of] += errors.sum(axis=pixels, where=covered)
        self._covered[of] += np.count_nonzero(covered, axis=pixels)
        self._cover[of] += rebuilt.cover.sum(axis=pixels)
        self._patches[of] += np.count_nonzero(rebuilt.kept, axis=pixels)
        if rebuilt.missing is None:
            self._held[of] += errors[0].size
        else:
            self._held[of] += np.count_nonzero(~rebuilt.missing, axis=pixels)

    def scores(self, peak: float) -> dict[str, np.ndarray]:
        """The scores of SCORE_UNITS for each image."""
        with np.errstate(invalid="ignore"):  # 0 / 0: no patch is kept, no pixel holds data
            mse = self._squares / self._held
            covered_mse = self._covered_squares / self._covered
            cover = self._cover / self._covered
        return {
            "mse": mse,
            "psnr": psnr(mse, peak),
            "covered_mse": covered_mse,
            "covered": self._covered / self._pixels,
            "cover": cover,
            "patches": self._patches,
            "pixels": self._pixels,
        }


def reconstruction_scores(
    images: Any,
    dictionary: AnyDictionary,
    *,
    labels: Any = None,
    spec: PatchSpec | dict[str, Any] | str | None = None,
    stride: int | None = None,
    white: float | None = None,
    memory: int | str = USUAL_MEMORY,
    progress: Progress | None = None,
    on_block: Callable[[int, RebuiltBlock], None] | None = None,
) -> xarray.Dataset:
    """Score the rebuilding of every image of a stack, block after block.

    Args:
        images: an ImageSource, or an array of numpy, xarray, dask or zarr, (image, row, col[,
            channel]), in the data set's own dtype; lazy ones are read a block at a time, large ones
            and those of several sizes part by part.
        dictionary: as for `reconstruct`.
        labels: the class of each image, (image,), if known.
        spec: as for `reconstruct`.
        stride: as for `reconstruct`.
        white: as for `reconstruct`; errors are in its levels.
        memory: cap on the resident memory of the process, as in "1GiB"; blocks are sized by it.
        progress: an observer (see `pipeline.runtime.progress`), or None.
        on_block: is given the number of the first image and the block as it is rebuilt, in order;
            of large images, and of unequal ones, part by part.

    Returns:
        Over the dimension `image`: mse, psnr (dB, peak: from black to white in the dictionary's
        images; inf where mse is 0), covered_mse and cover (NaN where no patch is kept), covered,
        all float64; patches, pixels int64; and the coordinate `label` where labels are given.
        Attributes: k, stride, peak. Pixels that hold no data are left out.

    Raises:
        InputError: images or labels that do not fit.
        MemoryBudgetError: no part of an image fits under the cap.
    """
    dictionary = node_of(dictionary)
    centroids, geometry = open_dictionary(dictionary, spec, stride)
    stack = ImageStack.of(images, centroids.ndim)
    pixels = PixelUnit.of(stack.dtype, dictionary, white)
    check_fit(stack.shape, centroids)
    known = None if labels is None else _checked_labels(labels, stack.shape[0])
    k, progress = len(centroids), progress or SilentProgress()
    levels, made = pixels.levels, preprocessing_of(dictionary)
    step = _step(stack, pixels.dtype, geometry, k, memory, preprocessed=made is not None)
    rebuilder = Rebuilder(centroids, geometry, pixels.dtype, levels, made)
    progress.start(f"rebuilding, K={k}", *stack.amount(step))
    sums = _sum_up(stack, step, rebuilder, pixels, progress, on_block)
    columns = sums.scores(levels.span)
    if not isinstance(images, ImageSource):
        pixels.check_reach()
    scores = xarray.Dataset(
        {name: ("image", values, _described(name)) for name, values in columns.items()},
        attrs={"k": k, "stride": geometry.stride, "peak": float(levels.span)},
    )
    return _with_coordinates(scores, stack.images, known)


def _with_coordinates(scores: xarray.Dataset, images: Any, labels: Any) -> xarray.Dataset:
    """Scores with the images' own numbers, where they have any, and their classes."""
    if isinstance(images, xarray.DataArray) and "image" in images.indexes:
        scores = scores.assign_coords(image=images["image"])
    if labels is not None:
        scores.coords["label"] = "image", labels
    describe(scores, OF_IMAGES)
    return scores


def _step(
    stack: ImageStack,
    dtype: np.dtype,
    spec: PatchSpec,
    k: int,
    memory: int | str,
    *,
    preprocessed: bool,
) -> Step:
    """See `ImageStack.step_within`; memory: as people write it."""
    cap = MemoryOptions.checked(memory=memory).memory
    return stack.step_within(dtype, spec, k, cap, preprocessed=preprocessed)


def _sum_up(
    stack: ImageStack,
    step: Step,
    rebuilder: Rebuilder,
    pixels: PixelUnit,
    progress: Progress,
    on_block: Callable[[int, RebuiltBlock], None] | None,
) -> ImageSums:
    """Sums of all images, found one step after the other."""
    sums = ImageSums(stack.sizes)
    for start, images, rebuilt in stack.rebuilt(rebuilder, pixels, step):
        sums.add(start, images, rebuilt)
        if on_block is not None:
            on_block(start, rebuilt)
        progress.advance(len(images) if step.side is None else rebuilt.cover.size)
        del rebuilt  # before the next takes as much
    progress.finish()
    return sums


def by_class(scores: xarray.Dataset, names: tuple[str, ...] | None = None) -> xarray.Dataset:
    """The scores of each class that is there.

    Args:
        scores: as `reconstruction_scores` returns them, with labels.
        names: of the classes, in the order of their numbers, if known.

    Returns:
        Over the dimension `label`, ascending: images int64; mse, over all pixels of the class's
        images, and psnr, dB, of that mse; mean_image_psnr, dB, the mean of the images' own, inf
        where one has no error; with names the coordinate `name`.

    Raises:
        InputError: scores without labels, and classes without a name.
    """
    if "label" not in scores.coords:
        raise InputError("the scores have no classes: give labels to reconstruction_scores")
    classes, member, images = np.unique(
        scores["label"].values, return_inverse=True, return_counts=True
    )
    weights = _weights(scores)
    mse = np.bincount(member, scores["mse"].values * weights) / np.bincount(member, weights)
    own = np.bincount(member, scores["psnr"].values) / images
    found = xarray.Dataset(
        {
            "images": ("label", images),
            "mse": ("label", mse, _described("mse")),
            "psnr": ("label", psnr(mse, scores.attrs["peak"]), _described("psnr")),
            "mean_image_psnr": ("label", own, {"long_name": "mean of images", "units": "dB"}),
        },
        coords={"label": classes},
        attrs=scores.attrs,
    )
    if names is None:
        describe(found, OF_IMAGES)
        return found
    if not 0 <= classes[0] <= classes[-1] < len(names):
        raise InputError(f"classes {classes[0]} to {classes[-1]} have no names: give one for each")
    found = found.assign_coords(name=("label", [names[label] for label in classes]))
    describe(found, OF_IMAGES)
    return found


def overall(scores: xarray.Dataset) -> dict[str, float]:
    """The mse and covered_mse over all pixels of all images, and psnr, dB, of that mse.

    covered_mse is NaN where no image has a kept patch.
    """
    weights, errors = _weights(scores), scores["mse"].values
    scored = ~np.isnan(errors)  # some pixel holds data
    with np.errstate(invalid="ignore"):
        mse = float(np.nansum(errors * weights) / weights[scored].sum())
    covered = scores["covered"].values * weights
    total = covered.sum()
    within = np.where(covered > 0, scores["covered_mse"].values, 0.0)
    return {
        "mse": mse,
        "psnr": float(psnr(np.float64(mse), scores.attrs["peak"])),
        "covered_mse": float(within @ covered / total) if total else math.nan,
    }


def _weights(scores: xarray.Dataset) -> np.ndarray:
    """Pixels of each image as a share of those of the largest: 1 where all have one size."""
    pixels = scores["pixels"].values
    return np.asarray(pixels / pixels.max())


def psnr(mse: np.ndarray | np.float64, peak: float) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, 10 · log10(peak² / mse); inf where mse is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(peak**2 / np.asarray(mse, np.float64)))


def _described(name: str) -> dict[str, str]:
    text, unit = SCORE_UNITS[name]
    return {"long_name": text, "units": unit}


def _checked_labels(labels: Any, n: int) -> np.ndarray:
    found = np.asarray(labels)
    if found.shape != (n,) or found.dtype.kind not in "ui":
        raise InputError(
            f"labels of type {found.dtype} and shape {found.shape} do not fit {n} images: give a"
            " whole number for each"
        )
    return found.astype(np.int64)
