"""How well images are rebuilt: a score for each, streamed, and what they come to by class."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray

from analysis.measures.pixel_scale import PixelUnit
from analysis.reconstruction.image_stack import ImageStack
from analysis.reconstruction.overlap import Rebuilder, RebuiltBlock, images_at_once
from analysis.reconstruction.reconstruct import check_fit, open_dictionary
from pipeline import USUAL_MEMORY, MemoryOptions, Progress, SilentProgress
from storage import ImageSource, InputError, PatchSpec

SCORE_UNITS = {
    "mse": ("mean squared error over all pixels", "squared pixel levels"),
    "psnr": ("peak signal-to-noise ratio of mse", "dB"),
    "covered_mse": ("mean squared error over pixels with a kept patch", "squared pixel levels"),
    "covered": ("share of the pixels with a kept patch", "1"),
    "cover": ("kept patches on a pixel that has one, mean", "1"),
    "patches": ("kept patches", "1"),
}


def reconstruction_scores(
    images: Any,
    dictionary: xarray.DataTree | xarray.Dataset,
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
        images: an ImageSource, or an array of numpy, xarray, dask or zarr, (image, row, col
            [, channel]), in the data set's own dtype; lazy ones are read a block at a time.
        dictionary: a node of the tree that `open_dictionaries` returns, or its Dataset.
        labels: the class of each image, (image,), if known.
        spec: as for `reconstruct`.
        stride: as for `reconstruct`.
        white: as for `reconstruct`; errors are in the dictionary's levels.
        memory: cap on the resident memory of the process, as in "1GiB"; blocks are sized by it.
        progress: an observer (see `pipeline.runtime.progress`), or None.
        on_block: is given the number of the first image and the block as it is rebuilt, in order.

    Returns:
        Over the dimension `image`: mse, psnr (dB, peak: from black to white in the dictionary's
        images; inf where mse is 0), covered_mse and cover (NaN where no patch is kept), covered,
        all float64; patches int64; and the coordinate `label` where labels are given. Attributes:
        k, stride, peak. Pixels that hold no data are left out.

    Raises:
        InputError: images or labels that do not fit.
        MemoryBudgetError: even one image does not fit under the cap.
    """
    centroids, geometry = open_dictionary(dictionary, spec, stride)
    stack = ImageStack.of(images, centroids.ndim)
    pixels = PixelUnit.of(stack.dtype, dictionary, white)
    check_fit(stack.shape, centroids)
    n = stack.shape[0]
    known = None if labels is None else _checked_labels(labels, n)
    cap = MemoryOptions.checked(memory=memory).memory
    shape, k = stack.shape[1:], len(centroids)
    size = images_at_once(shape, pixels.dtype, geometry, k, cap, chunk=stack.chunk)
    rebuilder = Rebuilder(centroids, geometry, pixels.dtype, pixels.levels)
    progress = progress or SilentProgress()
    progress.start(f"rebuilding, K={k}", n, "images")
    columns = _score_blocks(stack, size, rebuilder, pixels, progress, on_block)
    progress.finish()
    if not isinstance(images, ImageSource):
        pixels.check_reach()
    scores = xarray.Dataset(
        {name: ("image", values, _described(name)) for name, values in columns.items()},
        attrs={"k": k, "stride": geometry.stride, "peak": float(pixels.levels.span)},
    )
    named = stack.images if isinstance(stack.images, xarray.DataArray) else None
    if named is not None and "image" in named.dims and "image" in named.coords:
        scores = scores.assign_coords(image=named["image"])
    return scores if known is None else scores.assign_coords(label=("image", known))


def _score_blocks(
    stack: ImageStack,
    size: int,
    rebuilder: Rebuilder,
    pixels: PixelUnit,
    progress: Progress,
    on_block: Callable[[int, RebuiltBlock], None] | None,
) -> dict[str, np.ndarray]:
    """The scores of SCORE_UNITS for each image, found `size` images at a time."""
    n = stack.shape[0]
    columns = {name: np.empty(n, np.int64 if name == "patches" else float) for name in SCORE_UNITS}
    for start, read in stack.blocks(size):
        block = pixels.brought(read)
        rebuilt = rebuilder.rebuild(block)
        for name, values in _scores(block, rebuilt, pixels.levels.span).items():
            columns[name][start : start + len(block)] = values
        if on_block is not None:
            on_block(start, rebuilt)
        progress.advance(len(block))
        del rebuilt  # before the next takes as much
    return columns


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
    mse = np.bincount(member, scores["mse"].values) / images
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
        return found
    if not 0 <= classes[0] <= classes[-1] < len(names):
        raise InputError(f"classes {classes[0]} to {classes[-1]} have no names: give one for each")
    return found.assign_coords(name=("label", [names[label] for label in classes]))


def overall(scores: xarray.Dataset) -> dict[str, float]:
    """The mse and covered_mse over all pixels of all images, and psnr, dB, of that mse.

    covered_mse is NaN where no image has a kept patch.
    """
    mse = float(scores["mse"].mean())
    covered = scores["covered"].values
    total = covered.sum()
    errors = np.where(covered > 0, scores["covered_mse"].values, 0.0)
    return {
        "mse": mse,
        "psnr": float(psnr(np.float64(mse), scores.attrs["peak"])),
        "covered_mse": float(errors @ covered / total) if total else math.nan,
    }


def psnr(mse: np.ndarray | np.float64, peak: float) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, 10 · log10(peak² / mse); inf where mse is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(peak**2 / np.asarray(mse, np.float64)))


def _scores(images: np.ndarray, rebuilt: RebuiltBlock, peak: float) -> dict[str, np.ndarray]:
    """The scores of SCORE_UNITS for each image of a block."""
    errors = rebuilt.squared_errors(images)
    covered = rebuilt.cover > 0
    pixels = np.count_nonzero(covered, axis=(1, 2))
    mse = rebuilt.mean(errors)
    with np.errstate(invalid="ignore"):  # 0 / 0: no patch is kept
        covered_mse = errors.sum(axis=(1, 2), where=covered) / pixels
        cover = rebuilt.cover.sum(axis=(1, 2)) / pixels
    return {
        "mse": mse,
        "psnr": psnr(mse, peak),
        "covered_mse": covered_mse,
        "covered": pixels / covered[0].size,
        "cover": cover,
        "patches": np.count_nonzero(rebuilt.kept, axis=(1, 2)),
    }


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
