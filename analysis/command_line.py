"""The command line: `report`, alone as `python -m analysis` and beside pipeline's in `patchdict`.

What is heavy loads when a command runs, so that --help answers at once.
"""

import copy
from pathlib import Path
from typing import NoReturn

import click

from pipeline.command_line import group as pipeline_group
from pipeline.command_line import json_option, run, show


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="patchdict", message="%(version)s")
def group() -> None:
    """Look at dictionaries of image patches."""


@group.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of downloads, if it is another one than the sweep's.",
)
@click.option(
    "--only-stale",
    is_flag=True,
    help="Skip an experiment whose report was made from exactly its present dictionaries.",
)
@json_option
def report(out: Path, data: Path | None, only_stale: bool, as_json: bool) -> None:
    """Write report.html and its figures.

    OUT is a sweep's OUT, all of whose experiments are reported, or the folder of one experiment.
    """
    from analysis.reporting import report as write_reports

    results = write_reports(out, data=data, only_stale=only_stale)
    lines = [
        f"{result['report']}: "
        + (f"written in {result['seconds']:.1f} s" if result["made"] else "up to date")
        for result in results
    ]
    show({"reports": results}, as_json, "\n".join(lines))


def combined() -> click.Group:
    """Pipeline's commands and `report`, in a group of their own."""
    everything = copy.copy(pipeline_group)
    everything.commands = {**pipeline_group.commands, "report": report}
    return everything


def main() -> NoReturn:
    """The installed `patchdict` command."""
    run(combined())
