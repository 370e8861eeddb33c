"""Codes, or features, of images of an experiment, or of others: built once, resumed, reused."""

import time
from typing import Any

import numpy as np

from analysis.encoding.build import CodeBuild, target
from analysis.encoding.encoding import Encoding
from analysis.encoding.pooling import FeatureOptions, Features
from analysis.encoding.staged_codes import StagedCodes
from analysis.encoding.stages import completed_stages, scores_in_words, stage_scores
from analysis.encoding.work import Work
from analysis.experiment import Experiment, open_experiment
from analysis.measures.codebook import Node
from analysis.text import count
from pipeline import USUAL_MEMORY, PatchOptions, Progress, SilentProgress
from storage import ImageOptions, ImageSource, InputError, open_images
from storage.codes.code_store import CodeStore
from storage.images.datasets import splits_of
from storage.images.formats.registry import has_layout
from storage.places.place import Place


def encode_set(
    folder: Place,
    k: int,
    *,
    stages: int = 1,
    split: str | None = None,
    dataset: str | None = None,
    layout: str | None = None,
    white: float | None = None,
    stride: int | None = None,
    features: FeatureOptions | None = None,
    out: Place | None = None,
    data: Place | None = None,
    scheduler: str = "",
    memory: int = USUAL_MEMORY,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write codes, or features, of all images of a split or of others, or what is missing of them.

    Args:
        folder: of the experiment, or a sweep's OUT that holds only one.
        k: size of the dictionary.
        stages: dictionaries, each of what those before leave, see `open_stages`.
        split: "train" or "test"; None: test images where there are any.
        dataset: name or path of other images; None: those of the experiment.
        layout: axes of other images, as in "NCHW"; None: as those of the experiment, or usual.
        white: their level of white, where they have another unit, see `encode`; None: the same.
        stride: step between patches in pixels; None: the dictionary's own.
        features: which are written; None: codes.
        out: where the codes are written, a name that ends in .zarr; None: beside the dictionaries.
        data: folder of downloads; None: the one that the sweep used.
        scheduler: where chunks are made: "" (threads), "processes:N", or an address of Dask.
        memory: cap in bytes on the resident memory of the process tree.
        progress: an observer, or None.

    Returns: plain JSON: codes (path), k, stages (how many), scores (see `stage_scores`), dataset,
        split, images, rows and cols (positions of each), stride, dtype, no_code, bytes (on disk, of
        the codes), chunks (written now), seconds, reused. Of features: features (path), kind, pool,
        tf_idf and width (of an image) in place of codes, stages, scores, rows, cols and no_code.

    Raises: InputError: something is not there, or does not fit, or `out` holds something else;
        IntegrityError: images or dictionaries are damaged; MemoryBudgetError: no part of an image
        fits under the cap; BusyError: another process is making the same codes.
    """
    started, progress = time.perf_counter(), progress or SilentProgress()
    experiment = open_experiment(folder, data)
    node = experiment.dictionary(k)
    images, place = _images(experiment, split, dataset, layout, white)
    encoding = Encoding.of(images, node, stride=stride, white=white)
    if dataset is not None and white is None:
        _check_reach(images, encoding)
    out = None if out is None else target(out)
    if features is None:
        work, scores = _in_stages(experiment, encoding, stages, memory, progress)
    else:
        work, scores = _features(encoding, node, features, stages)
    build = CodeBuild(experiment, images, place, work, features, progress, white)
    store, written = build.done_at(target(out or build.usual_place), scheduler, memory)
    made = {"chunks": written, "seconds": time.perf_counter() - started, "reused": not written}
    return _told(images, work, store) | scores | made


def _in_stages(
    experiment: Experiment, encoding: Encoding, stages: int, memory: int, progress: Progress
) -> tuple[Work, dict[str, Any]]:
    """Codes of so many stages, which are learned if need be, and what is told of these."""
    nodes = completed_stages(experiment, encoding.k, stages, memory=memory, progress=progress)
    told = {"stages": stages, "scores": stage_scores(nodes)}
    return (StagedCodes.of(encoding, nodes[1:]) if stages > 1 else encoding), told


def _features(
    encoding: Encoding, node: Node, features: FeatureOptions, stages: int
) -> tuple[Work, dict[str, Any]]:
    """Features, of which nothing more is told. Raises: InputError for those of stages."""
    if stages != 1:
        raise InputError("features are of one stage: leave --stages out")
    return Features.of(encoding, node, features), {}


def _told(images: ImageSource, work: Work, store: CodeStore) -> dict[str, Any]:
    """What `encode_set` tells of what is there."""
    encoding = work.encoding
    found: dict[str, Any] = {
        work.name: str(store.path),
        "k": encoding.k,
        "dataset": images.name,
        "split": images.split,
        "images": encoding.shape[0],
    }
    if isinstance(work, Features):
        options = work.options
        found |= {"kind": options.kind, "pool": options.pool, "tf_idf": options.tf_idf}
        found |= {"width": work.shape[1]}
    else:
        found |= {"rows": encoding.shape[1], "cols": encoding.shape[2]}
        found |= {"no_code": work.facts["no_code"]}
    return found | {
        "stride": encoding.spec.stride,
        "dtype": work.dtype.name,
        "bytes": store.stored_bytes,
    }


def _images(
    experiment: Experiment,
    split: str | None,
    dataset: str | None,
    layout: str | None,
    white: float | None,
) -> tuple[ImageSource, str]:
    """The images, and where they are."""
    if dataset is None:
        if (layout, white) != (None, None):
            raise InputError("layout and white are of other images: say which (--dataset)")
        split = experiment.checked_split(split)
        return experiment.images(split), experiment.place(split)
    stated = ImageOptions.of_source(experiment.facts["source"])
    place = PatchOptions.checked(dataset=dataset).dataset  # as a sweep finds it
    usual = stated.layout  # one of single images tells nothing of stacks
    fits = usual is not None and "N" in usual and has_layout(place)
    plain = ImageOptions(
        layout=layout or (usual if fits else None),
        white=stated.white if white is None else white,
        nodata=stated.nodata,
        channels=stated.channels,
    )
    return open_images(place, split or splits_of(place)[-1], experiment.data, plain), place


def _check_reach(images: ImageSource, encoding: Encoding) -> None:
    """Raise InputError where the pixels have another range than the dictionary's images."""

    def seen(_first: int, _top: int, block: np.ndarray) -> None:
        encoding.unit.brought(block)  # which only looks at them

    images.examine(seen)
    encoding.unit.check_reach()


def in_words(result: dict[str, Any]) -> str:
    """The result of `encode_set` for people."""
    done = "are there already" if result["reused"] else f"made in {result['seconds']:.1f} s"
    end = f" at stride {result['stride']}, K = {result['k']}: {result['bytes']:,} bytes, {done}"
    images = count(result["images"], "image")
    if "codes" in result:
        positions = result["images"] * result["rows"] * result["cols"]
        told = f"{result['codes']}\n{images}, {positions:,} positions{end}"
        return "\n".join([told, *scores_in_words(result["scores"])])
    words = f"{'tf-idf of ' if result['tf_idf'] else ''}{result['kind']} features"
    return f"{result['features']}\n{images}, {result['width']:,} {words} each{end}"
