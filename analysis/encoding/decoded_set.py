"""Codes on disk made images again: scored where the originals are at hand, and written."""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from analysis.encoding.decoding import Decoding, check_decodable
from analysis.encoding.stages import stages_of_codes
from analysis.experiment import Experiment, open_experiment
from analysis.measures.pixel_scale import PixelUnit
from analysis.reconstruction.image_set import VARIABLE, finite, write_block
from analysis.reconstruction.overlap import RebuiltBlock
from analysis.reconstruction.scores import ImageSums, overall
from analysis.text import count, number
from pipeline import USUAL_MEMORY, Progress, SilentProgress
from storage import (
    ImageOptions,
    ImageSource,
    InputError,
    IntegrityError,
    PatchDictError,
    open_images,
    write_images,
)
from storage.codes.code_store import CodeStore, open_codes
from storage.dictionary_store import dictionary_sum
from storage.images.pixel_range import PixelRange
from storage.images.writer import check_target
from storage.layout import ExperimentLayout, moved_places
from storage.places.place import Place, place_of


def decode_set(
    path: Place,
    *,
    experiment: Place | None = None,
    out: Path | None = None,
    dataset: str | None = None,
    data: Place | None = None,
    memory: int = USUAL_MEMORY,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Decode all codes of a store, score the images, and write them.

    Args:
        path: of the code store.
        experiment: folder of its dictionary; None: where the codes lie, or where it was.
        out: zarr store that the images are written to as float32, as `reconstruct` writes them;
            None: they are not written.
        dataset: path of the originals, where they have moved; None: where they were.
        data: folder of downloads; None: the one that the sweep used.
        memory: cap in bytes on the resident memory of the process.
        progress: an observer, or None.

    Returns:
        Plain JSON: images, k, stages (how many), dataset, split, stride, positions, coded
        (positions with a code), bits_per_pixel (fixed: log2 of K, or of K + 1 where some positions
        have no code; entropy: zeroth-order, of the codes; both of all stages together; stored: on
        disk; each times positions, over the pixels of all images; dictionaries are not counted),
        bytes (on disk), peak (the span of levels that psnr goes by), mse, psnr (null where the
        originals are not at hand, or infinite), unscored (why there are none, or null), path.

    Raises: InputError: no codes, no dictionary, preprocessed patches, or `out` is there already;
        IntegrityError: one is damaged, or the dictionary is another; MemoryBudgetError.
    """
    if out is not None:
        check_target(out)
    store, progress = open_codes(path), progress or SilentProgress()
    found = _experiment(store, experiment, data)
    check_decodable(found.codebook(store.decoding["k"])[1])
    stages = stages_of_codes(found, store.decoding)
    decoding = Decoding.of(store.read, store.array.shape, store.decoding, stages)
    originals, unscored = _originals(store, found, dataset)
    unit = _unit(store, found, originals)
    step = decoding.images_within(memory)
    levels = found.pixels.levels
    sums = ImageSums(np.broadcast_to(decoding.image_shape[:2], (decoding.shape[0], 2)))
    told = _told(store, decoding)
    facts = {name: told[name] for name in ("k", "dataset", "split", "stride")}
    with ExitStack() as stack:
        writer = None
        if out is not None:
            shape = (decoding.shape[0], *decoding.image_shape)
            writer = stack.enter_context(write_images(out, shape, VARIABLE, facts))
        for first, block in _blocks(decoding, step, progress):
            if writer is not None:
                write_block(writer, first, block)
            if originals is not None:
                _score(sums, originals, levels, unit, first, block)
    quality = _quality(sums, levels, scored=originals is not None)
    path_out = {"path": None if out is None else str(out)}
    return told | _bits(decoding, store) | quality | {"unscored": unscored} | path_out


def _told(store: CodeStore, decoding: Decoding) -> dict[str, Any]:
    """What is known of codes before they are read."""
    return {
        "images": decoding.shape[0],
        "k": len(decoding.centroids),
        "stages": len(decoding.stages),
        "dataset": store.attributes["source"]["name"],
        "split": store.attributes["source"]["split"],
        "stride": decoding.spec.stride,
    }


def _experiment(store: CodeStore, folder: Place | None, data: Place | None) -> Experiment:
    """The experiment whose dictionary the codes are of, or, if need be, another one of this K."""
    k, was = store.decoding["k"], store.attributes["experiment"]
    if folder is not None:
        found = open_experiment(folder, data)
        found.dictionary(k)
        return found
    others = list[Experiment]()
    moved = map(Path, moved_places(was, store.path))
    for place in (store.path.absolute().parent, place_of(was), *moved):
        if ExperimentLayout(place).dictionaries.exists():
            found = open_experiment(place, data)
            if k in found.nodes:
                if dictionary_sum(found.codebook(k)[0]) == store.decoding["dictionary"]:
                    return found
                others.append(found)
    if others:
        return others[0]
    raise InputError(
        f"the dictionary of K = {k} that {store.path} is of is not in {was} any more: say where its"
        " experiment is (--experiment)"
    )


def _originals(
    store: CodeStore, experiment: Experiment, dataset: str | None
) -> tuple[ImageSource | None, str | None]:
    """The images that were encoded; or why there are none.

    Raises: the error where a data set was asked for.
    """
    source = store.attributes["source"]
    stated = ImageOptions.of_source(source)
    was = store.attributes["dataset"]
    places = [dataset] if dataset else [was, *moved_places(was, store.path.absolute())]
    problems = list[PatchDictError]()
    for place in places:
        try:
            images = open_images(place, source["split"], experiment.data, stated)
            if images.fingerprint == source["fingerprint"]:
                return images, None
            problems.append(IntegrityError(f"{place} holds other images than those encoded"))
        except PatchDictError as error:
            problems.append(error)
    if dataset:
        raise problems[0]
    return None, f"the originals are not at hand: {problems[0]}"


def _blocks(
    decoding: Decoding, step: int, progress: Progress
) -> Iterator[tuple[int, RebuiltBlock]]:
    """Blocks, of which the progress is told."""
    pixels = decoding.shape[0] * math.prod(decoding.image_shape[:2])
    progress.start(f"decoding, K={len(decoding.centroids)}", pixels, "pixels")
    for first, block in decoding.blocks(step):
        yield first, block
        progress.advance(block.cover.size)
        del block  # before the next takes as much
    progress.finish()


def _unit(
    store: CodeStore, experiment: Experiment, originals: ImageSource | None
) -> PixelUnit | None:
    """What brings the originals to the dictionary's unit; None: they have it."""
    white = store.attributes.get("white")
    if white is None or originals is None:
        return None
    return PixelUnit.of(originals.dtype, experiment.dictionary(store.decoding["k"]), white)


def _score(
    sums: ImageSums,
    originals: ImageSource,
    levels: PixelRange,
    unit: PixelUnit | None,
    first: int,
    block: RebuiltBlock,
) -> None:
    """Add the errors of a block."""
    if block.rows == slice(None):
        images = originals.read(slice(first, first + len(block.images)))
    else:
        images = originals.reader.read(first, block.rows, block.cols)[np.newaxis]
    images = images if unit is None else unit.brought(images)
    sums.add(first, images, replace(block, missing=levels.nodata_pixels(images)))


def _quality(sums: ImageSums, levels: PixelRange, *, scored: bool) -> dict[str, float | None]:
    """peak; mse and psnr over all pixels."""
    peak = float(levels.span)
    if not scored:
        return {"peak": peak, "mse": None, "psnr": None}
    columns = {name: ("image", values) for name, values in sums.scores(peak).items()}
    found = overall(xarray.Dataset(columns, attrs={"peak": peak}))
    return {"peak": peak} | {name: finite(found[name]) for name in ("mse", "psnr")}


def _bits(decoding: Decoding, store: CodeStore) -> dict[str, Any]:
    """Positions, and what their codes take: bits for each pixel of the images, bytes on disk."""
    counts, stored = decoding.counts, store.stored_bytes
    pixels = decoding.shape[0] * math.prod(decoding.image_shape[:2])
    each = counts.positions / pixels
    bits = {"fixed": each * counts.fixed_bits, "entropy": each * counts.entropy_bits}
    return {
        "positions": counts.positions,
        "coded": counts.coded,
        "bits_per_pixel": bits | {"stored": 8 * stored / pixels},
        "bytes": stored,
    }


def in_words(result: dict[str, Any]) -> str:
    """The result of `decode_set` for people."""
    bits = result["bits_per_pixel"]
    lines = [
        f"{count(result['images'], 'image')}, K = {result['k']}"
        + (f" in {result['stages']} stages" if result["stages"] > 1 else "")
        + f", stride {result['stride']}:"
        f" {result['coded']:,} of {result['positions']:,} positions have a code",
        f"bits per pixel: {number(bits['fixed'])} of fixed length, {number(bits['entropy'])} by the"
        f" entropy of the codes, {number(bits['stored'])} on disk ({result['bytes']:,} bytes)",
    ]
    if result["unscored"]:
        lines.append(f"no MSE: {result['unscored']}")
    else:
        psnr = "∞" if result["psnr"] is None else f"{result['psnr']:.2f}"
        lines.append(
            f"MSE {number(result['mse'], 5)}, PSNR {psnr} dB by the span from black to white,"
            f" {result['peak']:g} levels"
        )
    if result["path"]:
        lines.append(f"written to {result['path']}")
    return "\n".join(lines)
