"""From an experiment on disk to its findings: the numbers behind the answers and the figures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray

from analysis.experiment import Experiment
from analysis.html_report.figures.plates import Quantised, RebuiltRow
from analysis.html_report.findings import Findings, ImageFindings, RebuiltFindings
from analysis.html_report.samples import draw_patches, quantise, sample_images, typical_image
from analysis.measures.elbow import elbow, elbow_interval, two_lines
from analysis.measures.kinds import shares_of
from analysis.measures.measuring import measure_coverage, measure_scores
from analysis.measures.mse_curve import power_law
from analysis.measures.patch_sample import evenly
from analysis.reconstruction.overlap import images_at_once
from analysis.reconstruction.reconstruct import Rebuilt, rebuild
from analysis.reconstruction.scores import by_class, overall
from analysis.text import SPLIT_NAMES
from pipeline import USUAL_MEMORY
from storage import PatchSpec

EPSILON = 0.1  # of the largest level: the root mean squared error up to which a patch is covered
SHOWN_SIZES = 24  # K whose patches and images are shown: a figure has no room for hundreds


@dataclass(frozen=True)
class Material:
    """What the figures show.

    samples: label -> images. patches: (m, *patch_shape), with their centroids by K.
    rebuilt: one row per split. Both by SHOWN_SIZES of the K at most. coverage: by every K, of
    held-out patches where there are any. scores: of rebuilt images, test images where there are
    any, at the smallest, the elbow's and the largest K; see `analysis.measures.measuring`.
    """

    samples: dict[str, list[np.ndarray]]
    patches: np.ndarray
    quantised: dict[int, Quantised]
    rebuilt: list[RebuiltRow]
    coverage: dict[int, xarray.Dataset]
    scores: dict[int, xarray.Dataset]


def investigate(experiment: Experiment, memory: int = USUAL_MEMORY) -> tuple[Findings, Material]:
    """Read what the report needs: some patches, the images, every dictionary.

    memory: cap in bytes on what is resident while images and patches are streamed.
    Raises: InputError where images or patches are gone; IntegrityError where they are others;
        MemoryBudgetError where one image does not fit under the cap.
    """
    stores = {split: experiment.store(split) for split in experiment.splits}
    patches = draw_patches(stores["train"])
    sizes = experiment.sizes
    shown = evenly(sizes, SHOWN_SIZES)
    knee = elbow(sizes, experiment.curve["mse"].values)
    told = knee or sizes[-1]
    samples, rebuilt = {}, []
    for split, store in stores.items():
        source = experiment.images(split)
        name = SPLIT_NAMES[split]
        samples[name] = sample_images(source, store)
        index = typical_image(store)
        image = source.read(slice(index, index + 1))[0]
        images_at_once(image.shape, image.dtype, experiment.spec, sizes[-1], memory)
        versions: dict[int, tuple[np.ndarray, float]] = {}
        for k in sorted({*shown, told}):
            version = rebuild(image, experiment.centroids(k), experiment.spec)
            if k == told:  # of the last split: unseen images if there are any
                composed = _image_findings(name, index, k, image, version, experiment.spec)
            if k in shown:
                versions[k] = version.image.astype(np.float32), version.image_mse
        rebuilt.append(RebuiltRow(f"{name} image {index:,}", image, versions))
    found = _findings(experiment, knee, composed)
    quantised = {k: quantise(patches, experiment.centroids(k)) for k in shown}
    coverage = measure_coverage(experiment, memory)
    scores = measure_scores(experiment, sorted({sizes[0], told, sizes[-1]}), memory)
    found = with_coverage(found, coverage)
    found = with_scores(found, scores[told], experiment.class_names)
    return found, Material(samples, patches, quantised, rebuilt, coverage, scores)


def with_coverage(found: Findings, coverage: Mapping[int, xarray.Dataset]) -> Findings:
    """The findings with the share of patches that have a centroid near.

    coverage: K -> as `coverage` returns it, of every K: of held-out patches where there are any. Of
        its levels the last up to EPSILON is told.
    """
    levels = coverage[found.sizes[0]]["epsilon"].values
    limit = EPSILON * found.pixels.largest
    at = int(np.searchsorted(levels, limit, side="right")) - 1
    return replace(
        found,
        within=[float(coverage[k]["within"].values[at]) for k in found.sizes],
        within_rows=int(coverage[found.sizes[0]]["rows"]),
        epsilon=float(levels[at]) / found.pixels.largest,
    )


def with_scores(
    found: Findings, scores: xarray.Dataset, names: tuple[str, ...] | None = None
) -> Findings:
    """The findings with how well many images are rebuilt.

    scores: as `measure_scores` returns them, of the dictionary at `place`. names: of the classes,
        in the order of their numbers, if known.
    """
    total = overall(scores)
    classes = None
    if "label" in scores.coords:
        each = by_class(scores, names)
        keys = each["name" if names else "label"].values
        classes = {str(key): float(mse) for key, mse in zip(keys, each["mse"].values, strict=True)}
    rebuilt = RebuiltFindings(
        split=SPLIT_NAMES[scores.attrs["split"]],
        images=scores.sizes["image"],
        mse=total["mse"],
        psnr=total["psnr"],
        classes=classes,
    )
    return replace(found, rebuilt=rebuilt)


def _findings(experiment: Experiment, knee: int | None, image: ImageFindings) -> Findings:
    curve, sizes = experiment.curve, experiment.sizes
    mse = curve["mse"].values
    ends = [
        shares_of(
            experiment.centroids(k), experiment.nodes[k]["count"].values, experiment.pixels.largest
        )
        for k in (sizes[0], sizes[-1])
    ]
    law = power_law(np.array(sizes, float), mse)
    columns = {name: curve[name].values.tolist() for name in curve.data_vars}
    return Findings(
        dataset=experiment.name,
        image_shape=experiment.image_shape,
        patch="×".join(map(str, experiment.patch_shape)),
        dim=experiment.facts["dim"],
        patches=experiment.facts["n_rows"],
        pixels=experiment.pixels,
        sizes=sizes,
        mse=columns["mse"],
        heldout=columns["heldout_mse"] if experiment.facts["test_store"] else None,
        live=columns["live"],
        perplexity=columns["perplexity"],
        half=columns["half"],
        largest_share=columns["largest_share"],
        elbow=knee,
        exponent=None if law is None else law[0],
        variance=experiment.nodes[sizes[0]].attrs["variance"],  # of the rows, so the same for all
        kinds=(ends[0].centroids, ends[1].centroids),
        kinds_by_use=(ends[0].patches, ends[1].patches),
        image=image,
        gini=columns["gini"],
        entropy=columns["entropy"],
        converged=columns["converged"],
        chord_elbow=elbow_interval(sizes, mse),
        lines_elbow=elbow_interval(sizes, mse, method="lines"),
        bend=two_lines(sizes, mse),
    )


def _image_findings(
    split: str, index: int, k: int, image: np.ndarray, version: Rebuilt, spec: PatchSpec
) -> ImageFindings:
    covered = version.cover > 0
    errors = (image - version.image)[covered]
    return ImageFindings(
        split=split,
        index=index,
        k=k,
        windows=math.prod(spec.grid(*image.shape[:2])),
        patches=len(version.labels),
        distinct=len(np.unique(version.labels)),
        overlap=float(version.cover[covered].mean()),
        image_mse=version.image_mse,
        covered_mse=float(np.mean(errors**2)),
        patch_mse=version.patch_mse,
    )
