"""All images of an experiment rebuilt from one dictionary: scored, and written where asked for."""

import math
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from analysis.experiment import Experiment, open_experiment
from analysis.reconstruction.overlap import RebuiltBlock
from analysis.reconstruction.scores import by_class, overall, reconstruction_scores
from analysis.text import SPLIT_NAMES, count, number
from pipeline import USUAL_MEMORY, Progress
from storage import write_images
from storage.images.writer import ImageWriter, check_target
from storage.places.place import Place

VARIABLE = "rebuilt"  # of the zarr store


def rebuild_set(
    folder: Place,
    k: int,
    *,
    split: str | None = None,
    stride: int | None = None,
    out: Path | None = None,
    data: Place | None = None,
    dataset: str | None = None,
    labels: Place | None = None,
    memory: int = USUAL_MEMORY,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rebuild all images of a split block after block, score them, and write them.

    Large images, and those of several sizes, go part by part: memory does not grow with them.

    Args:
        folder: of the experiment, or a sweep's OUT that holds only one.
        k: size of the dictionary.
        split: "train" or "test"; None: test images where there are any.
        stride: step between patches in pixels; None: the dictionary's own.
        out: zarr store that the images are written to as float32, see `storage.write_images`;
            None: they are not written.
        data: folder of downloads; None: the one that the sweep used.
        dataset: file of the images, where it is no longer the one that the sweep used.
        labels: CSV file of the images' classes, which the experiment keeps.
        memory: cap in bytes on the resident memory of the process.
        progress: an observer, or None.

    Returns:
        Plain JSON: images, k, split, stride, peak (the span of levels that psnr goes by), mse,
        psnr, covered_mse over all pixels, classes (label, name, images, mse, psnr each), unlabelled
        (why there are none, or null), path. What is infinite or unknown is null.

    Raises: InputError: something is not there, or `out` is there already; IntegrityError: images or
        dictionaries are damaged, or not those of the experiment; MemoryBudgetError: no part of an
        image fits under the cap.
    """
    if out is not None:
        check_target(out)
    experiment = open_experiment(folder, data, dataset, labels)
    experiment.dictionary(k)
    split = experiment.checked_split(split)
    scores = _scores(experiment, k, split, stride, out, memory=memory, progress=progress)
    return {
        "images": scores.sizes["image"],
        "k": k,
        "split": split,
        "stride": scores.attrs["stride"],
        "peak": scores.attrs["peak"],
        **{name: finite(value) for name, value in overall(scores).items()},
        "classes": _classes(scores, experiment.class_names),
        "unlabelled": experiment.why_unlabelled(split),
        "path": None if out is None else str(out),
    }


def _scores(
    experiment: Experiment, k: int, split: str, stride: int | None, out: Path | None, **given: Any
) -> xarray.Dataset:
    """Scores of all images, which are written on the way; see `rebuild_set`."""
    images, node = experiment.images(split), experiment.dictionary(k)
    with ExitStack() as stack:
        write = None
        if out is not None:
            step = experiment.spec.stride if stride is None else stride
            facts = {"k": k, "dataset": images.name, "split": split, "stride": step}
            shape, sizes = (len(images), *images.image_shape), images.sizes
            store = write_images(out, shape, VARIABLE, facts, None if images.uniform else sizes)
            write = partial(write_block, stack.enter_context(store))
        return reconstruction_scores(
            images,
            node,
            labels=experiment.labels(split),
            stride=stride,
            on_block=write,
            **given,
        )


def _classes(scores: xarray.Dataset, names: tuple[str, ...] | None) -> list[dict[str, Any]]:
    """The scores of each class as plain JSON; none where classes are not known."""
    if "label" not in scores.coords:
        return []
    found = by_class(scores, names)
    return [
        {
            "label": int(label),
            "name": str(one["name"].item()),
            "images": int(one["images"]),
            "mse": float(one["mse"]),
            "psnr": finite(float(one["psnr"])),
        }
        for label, one in ((label, found.sel(label=label)) for label in found["label"].values)
    ]


def in_words(result: dict[str, Any]) -> str:
    """The result of `rebuild_set` as a table for people."""
    images = count(result["images"], f"{SPLIT_NAMES[result['split']]} image")
    lines = [
        f"{images}, K = {result['k']}, stride {result['stride']}",
        f"{'':>12} {'images':>8} {'MSE':>10} {'PSNR in dB':>11}",
        _line("all", result),
        *(_line(one["name"], one) for one in result["classes"]),
    ]
    lines.append(f"PSNR by the span from black to white, {result['peak']:g} levels")
    if result["covered_mse"] is not None:
        lines.append(f"MSE where patches lie: {number(result['covered_mse'])}")
    if result["unlabelled"]:
        lines.append(f"no classes: {result['unlabelled']}")
    if result["path"]:
        lines.append(f"written to {result['path']}")
    return "\n".join(lines)


def _line(name: str, scores: dict[str, Any]) -> str:
    """A row of the table."""
    psnr = "∞" if scores["psnr"] is None else f"{scores['psnr']:.2f}"
    return f"{name:>12} {scores['images']:>8,} {number(scores['mse'], 5):>10} {psnr:>11}"


def write_block(writer: ImageWriter, first: int, block: RebuiltBlock) -> None:
    """Hand on a block as float32."""
    writer.write(block.images.astype(np.float32), first, block.rows, block.cols)


def finite(value: float) -> float | None:
    """The value, None in place of what JSON does not know."""
    return value if math.isfinite(value) else None
