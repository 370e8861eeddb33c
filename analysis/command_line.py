"""The command line: `report`, `reconstruct`, `compare`, `export`, and those of code_commands.

Alone as `python -m analysis`, and beside pipeline's commands in `patchdict`.

What is heavy loads when a command runs, so that --help answers at once.
"""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from analysis.code_commands import classify, decode, encode
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
from pipeline import MemoryOptions
from pipeline.command_line import group as pipeline_group
from pipeline.command_line import run
from pipeline.command_options import (
    LEAST_MEMORY,
    Group,
    check_least,
    given,
    json_option,
    options_of,
    read_runs,
    show,
    watched,
)
from storage.places.place import Place, place_of

# as in analysis.export.formats, which loads what writes them
FORMAT_NAMES = ("npz", "safetensors", "sklearn", "faiss", "torch", "parquet")


@click.group(cls=Group)
@click.version_option(package_name="patchdict", message="%(version)s")
def group() -> None:
    """Look at dictionaries of image patches."""


@group.command(example="report runs")
@click.argument("out", type=click.Path(), required=False)
@click.option(
    "--experiment", metavar="FILE.toml", help="Report on what a sweep made of this file of options."
)
@dataset_option
@data_option
@labels_option
@click.option(
    "--only-stale",
    is_flag=True,
    help="Skip an experiment whose report was made from exactly its present dictionaries.",
)
@click.option(
    "--swept",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Report on the experiments alone that a sweep with --swept FILE wrote there.",
)
@options_of(MemoryOptions)
@json_option
def report(
    out: str | None,
    experiment: str | None,
    dataset: str | None,
    data: Place | None,
    labels: Place | None,
    only_stale: bool,
    swept: Path | None,
    as_json: bool,
    **fields: str | None,
) -> None:
    """Write report.html and its figures.

    OUT is a sweep's OUT, all of whose experiments are reported, or the folder of one experiment, or
    the URL of either. Where it is left out, --experiment or --swept says it, or it is runs, as it
    is for sweep.
    """
    caps = _caps_of(None if out is None else place_of(out), experiment, swept, fields)
    check_least(min(caps.values(), default=LEAST_MEMORY))
    with watched() as progress:
        from analysis.html_report.build import report as write_reports

        results = [
            result
            for folder, memory in caps.items()
            for result in write_reports(
                folder,
                data=data,
                dataset=dataset,
                labels=labels,
                only_stale=only_stale,
                memory=memory,
                progress=progress,
            )
        ]
    lines = [
        f"{result['report']}: "
        + (f"written in {result['seconds']:.1f} s" if result["made"] else "up to date")
        for result in results
    ]
    show({"reports": results}, as_json, "\n".join(lines))


def _caps_of(
    out: Place | None,
    experiment: str | None,
    swept: Path | None,
    fields: Mapping[str, str | None],
) -> dict[Place, int]:
    """Folders to report on, each with its cap on the memory in bytes."""
    # where runs share a folder, the cap that is enough for each of them
    runs = [] if experiment is None else read_runs(experiment, fields)
    caps = {run.out: int(run.memory) for run in sorted(runs, key=lambda run: run.memory)}
    largest = max(caps.values(), default=0) or MemoryOptions.checked(**given(fields)).memory
    if swept is not None:
        folders = filter(None, swept.read_bytes().split(b"\0"))
        return {place_of(os.fsdecode(folder)): largest for folder in folders}
    if out is not None:
        return {out: largest}
    return caps if experiment is not None else {place_of("runs"): largest}


@group.command(example="reconstruct runs/EXPERIMENT --k 500 --out rebuilt.zarr")
@experiment_argument
@k_option
@split_option
@stride_option
@out_option("Write the rebuilt images there: a name that ends in .zarr.")
@dataset_option
@data_option
@labels_option
@options_of(MemoryOptions)
@json_option
def reconstruct(
    experiment: Place, k: int, as_json: bool, memory: str | None, **options: Any
) -> None:
    """Rebuild all images from one dictionary, and score them.

    EXPERIMENT is the folder of one experiment, or a sweep's OUT that holds one alone, or the URL of
    either; what is written lies in a folder.
    """
    cap = MemoryOptions.checked(**given({"memory": memory})).memory
    with watched() as progress:
        from analysis.reconstruction.image_set import in_words, rebuild_set

        result = rebuild_set(experiment, k, memory=cap, progress=progress, **options)
    show(result, as_json, in_words(result))


@group.command(example="compare runs --out figures")
@click.argument("folders", nargs=-1, required=True, metavar="OUT...")
@out_option(
    "Folder of mse.png, .svg, .pdf and .csv; default: the folder compare in the first OUT.",
    PlacePath,
)
@json_option
def compare(folders: tuple[str, ...], out: Place | None, as_json: bool) -> None:
    """Put the curves of several experiments into one table and one figure.

    OUT is a sweep's OUT, all of whose experiments are taken, or the folder of one experiment, or
    the URL of either.
    """
    from analysis.comparison import compare as compare_experiments
    from analysis.comparison import in_words

    result = compare_experiments(folders, out)
    show(result, as_json, in_words(result))


@group.command(example="export runs/EXPERIMENT --k 500 --format safetensors")
@experiment_argument
@k_option
@click.option(
    "--format",
    "format_name",
    required=True,
    type=click.Choice(FORMAT_NAMES),
    help="npz and safetensors hold all that is known of the dictionary, parquet is a table of its"
    " centroids, sklearn a fitted KMeans (a pickle), faiss an IndexFlatL2, torch a module.",
)
@out_option("Write this file; default: one in the experiment's folder exports.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
def export(
    experiment: Place, k: int, format_name: str, out: Path | None, force: bool, as_json: bool
) -> None:
    """Hand a dictionary on: write it as a file that other tools open.

    EXPERIMENT is the folder of one experiment, or a sweep's OUT that holds one alone, or the URL of
    either; what is written lies in a folder.
    """
    from analysis.export.export_dictionary import export_of_experiment, in_words

    result = export_of_experiment(experiment, k, format_name, out, force=force)
    if result["warning"]:
        click.echo(f"warning: {result['warning']}", err=True)
    show(result, as_json, in_words(result))


for command in (encode, decode, classify):
    group.add_command(command)


def combined() -> click.Group:
    """Pipeline's commands and those of this package, in a group of their own."""
    everything = copy.copy(pipeline_group)
    everything.commands = {**pipeline_group.commands, **group.commands}
    return everything


def main() -> NoReturn:
    """The installed `patchdict` command."""
    run(combined())
