"""The names that analysis hands on: its commands, with their help, and its public functions."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import analysis
from analysis.command_line import combined
from pipeline import SweepOptions
from pipeline.command_line import group as pipeline_group
from pipeline.command_options import GROUPS
from tests.programs import run_python

COMMANDS = combined().commands


def help_of(*command: str) -> str:
    """What --help prints, on a terminal of 80 columns."""
    done = CliRunner().invoke(combined(), [*command, "--help"], terminal_width=80)
    assert done.exit_code == 0
    return done.output


def test_patchdict_has_all_commands_and_pipeline_keeps_its_own() -> None:
    added = {"report", "reconstruct", "encode", "decode", "classify", "compare", "export"}
    assert set(COMMANDS) == pipeline_group.commands.keys() | added
    assert added.isdisjoint(pipeline_group.commands)


def test_no_module_hides_a_public_name() -> None:
    # `import analysis.gallery` would put the module where the function is looked up.
    modules = {path.stem for path in Path(analysis.__file__).parent.glob("*.py")}
    assert modules.isdisjoint(analysis.__all__)


def test_commands_are_summed_up_by_whole_sentences() -> None:
    told = " " + " ".join(help_of().split("Commands:")[1].split())
    assert "..." not in told
    for name, command in COMMANDS.items():
        first = " ".join((command.help or "").split("\n\n")[0].split())
        assert f" {name} {first.split('. ')[0].rstrip('.')}" in told


@pytest.mark.parametrize("command", [(), ("sweep",), ("classify",)], ids=" ".join)
def test_help_is_the_same_where_python_drops_docstrings(command: tuple[str, ...]) -> None:
    told, dropped = (
        run_python(*drops, "-m", "patchdict", *command, "--help").stdout for drops in ([], ["-OO"])
    )
    assert told == dropped
    assert "dictionar" in told


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_help_ends_with_an_example_that_is_taken(name: str) -> None:
    *_, heading, example = help_of(name).rstrip().splitlines()
    assert heading == "Example:"
    program, command, *arguments = shlex.split(example)
    assert (program, command) == ("patchdict", name)
    COMMANDS[name].make_context(name, arguments)  # raises where an option is none


def test_the_help_of_a_sweep_has_groups_and_k_first() -> None:
    told = help_of("sweep")
    headings = re.findall(r"^([A-Z][\w ]+):$", told, flags=re.MULTILINE)
    assert headings == ["Options", *GROUPS, "Other options", "Example"]
    assert re.findall(r"^  (-[\w-]+)", told, flags=re.MULTILINE)[0] == "--k"
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(set(grouped)) == len(grouped)
    assert {*grouped, "k"} == {*SweepOptions.model_fields, "experiment", "split"}
    for option in SweepOptions.model_fields:
        assert f"--{option.replace('_', '-')} " in told
    assert "--mode nested|full|minibatch" in told
    assert "--moves" not in told
