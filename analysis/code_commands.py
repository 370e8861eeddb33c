"""`encode`, `decode` and `classify` on the command line: dictionaries at work."""

from pathlib import Path
from typing import Any

import click

from analysis.command_options import (
    PlacePath,
    data_option,
    dataset_option,
    experiment_argument,
    k_option,
    labels_option,
    out_option,
    split_option,
    stride_option,
)
from pipeline import MemoryOptions, PatchOptions, SweepOptions
from pipeline.command_options import Command, given, json_option, options_of, show, watched
from storage import InputError
from storage.places.place import Place

FEATURE_KINDS = ("hard", "triangle", "soft")  # as in analysis.encoding.pooling

pool_option = click.option(
    "--pool",
    metavar="POOL",
    help="Parts of the image that features are pooled over: image, quadrants, or N for N × N.",
)


@click.command(
    cls=Command, example="encode runs/EXPERIMENT --k 500 --features triangle --pool quadrants"
)
@experiment_argument
@k_option
@click.option(
    "--stages", type=int, default=1, help="Dictionaries, each of what those before it leave."
)
@split_option
@click.option(
    "--dataset",
    help="Other images, a data set's name or a path; default: those of the experiment.",
)
@stride_option
@out_option("Write there, a name that ends in .zarr; default: beside the dictionaries.", PlacePath)
@click.option(
    "--features",
    type=click.Choice(FEATURE_KINDS),
    help="Write features of the images in place of codes: shares of each centroid (hard, soft), or"
    " sums of max(0, mean distance - distance) (triangle).",
)
@pool_option
@click.option(
    "--tf-idf", is_flag=True, help="Of hard features, weigh centroids by how rare they are."
)
@data_option
@options_of(
    PatchOptions,
    only=("layout", "white", "scheduler", "memory"),
    layout="Letters of the axes of other images, as in NCHW; default: as the experiment's.",
    white="Level of white of other images, where they have another unit than the experiment's.",
    scheduler="Where chunks are made: empty (this process), processes:N, or an address.",
)
@json_option
def encode(
    experiment: Place,
    k: int,
    as_json: bool,
    dataset: str | None,
    features: str | None,
    pool: str | None,
    tf_idf: bool,
    layout: str | None,
    white: str | None,
    scheduler: str | None,
    memory: str | None,
    **options: Any,
) -> None:
    """Write images as codes: at each position of a patch the number of its nearest centroid.

    Or as features: what the patches of an image say of each centroid, pooled over parts of it.
    EXPERIMENT is the folder of one experiment, or a sweep's OUT that holds one alone, or the URL of
    either. What is there already is reused; after Ctrl-C the same command goes on.
    """
    if features is None and (pool or tf_idf):
        raise InputError("--pool and --tf-idf are of features: say which (--features)")
    told = {"dataset": dataset, "layout": layout, "white": white, "memory": memory}
    checked = PatchOptions.checked(**given(told | {"scheduler": scheduler}))
    names = ("layout", "white", "scheduler", "memory")
    options |= {name: getattr(checked, name) for name in names}
    with watched() as progress:
        from analysis.encoding.code_set import encode_set, in_words
        from analysis.encoding.pooling import FeatureOptions

        if features is not None:
            options["features"] = FeatureOptions.of(features, pool or "image", tf_idf)
        other = None if dataset is None else checked.dataset
        result = encode_set(experiment, k, dataset=other, progress=progress, **options)
    show(result, as_json, in_words(result))


@click.command(
    cls=Command, example="decode runs/EXPERIMENT/codes-k00500-mnist-test-s1.zarr --out images.zarr"
)
@click.argument("codes", metavar="CODES.zarr", type=PlacePath(path_type=Path))
@click.option(
    "--experiment",
    type=PlacePath(path_type=Path),
    help="Folder of the dictionary, if it is no longer where the codes were made.",
)
@out_option("Write the images there: a name that ends in .zarr.")
@dataset_option
@data_option
@options_of(MemoryOptions)
@json_option
def decode(codes: Place, as_json: bool, memory: str | None, **options: Any) -> None:
    """Make images of codes again, as reconstruct would; tell bits per pixel, MSE and PSNR.

    CODES.zarr may be a URL; the images are written into a folder.
    """
    cap = MemoryOptions.checked(**given({"memory": memory})).memory
    with watched() as progress:
        from analysis.encoding.decoded_set import decode_set, in_words

        result = decode_set(codes, memory=cap, progress=progress, **options)
    show(result, as_json, in_words(result))


@click.command(cls=Command, example="classify runs/EXPERIMENT --k 100,500")
@experiment_argument
@click.argument("others", nargs=-1, metavar="[OTHER]...", type=PlacePath(path_type=Path))
@click.option("--k", help="Sizes of dictionaries, as in 400,1000; default: all that fit.")
@click.option(
    "--features",
    type=click.Choice(FEATURE_KINDS),
    default="triangle",
    show_default=True,
    help="What the patches of an image say of each centroid, as for encode.",
)
@pool_option
@click.option(
    "--tf-idf", is_flag=True, help="Of hard features, weigh centroids by how rare they are."
)
@click.option(
    "--shift",
    type=int,
    default=0,
    metavar="PIXELS",
    help="Learn from training images with their pools moved by so many pixels four ways, too.",
)
@stride_option
@dataset_option
@data_option
@labels_option
@options_of(MemoryOptions)
@json_option
def classify(
    experiment: Place,
    others: tuple[Place, ...],
    k: str | None,
    pool: str | None,
    as_json: bool,
    memory: str | None,
    **options: Any,
) -> None:
    """Tell the class of test images by their features: accuracy by K, and by labels per class.

    EXPERIMENT is the folder of one experiment, or a sweep's OUT that holds one alone, or the URL of
    either; OTHERs are of the same images, as of other patches: K centroids of each tell the class
    together. A linear classifier learns from the training images; results are kept with EXPERIMENT,
    and its next report shows them.
    """
    cap = MemoryOptions.checked(**given({"memory": memory})).memory
    sizes = None if k is None else SweepOptions.checked(k=k).k
    with watched() as progress:
        from analysis.classification.classify import classify as classify_experiment
        from analysis.classification.classify import in_words

        options |= {"pool": pool or "quadrants", "beside": others, "memory": cap}
        result = classify_experiment(experiment, sizes, progress=progress, **options)
    show(result, as_json, in_words(result))
