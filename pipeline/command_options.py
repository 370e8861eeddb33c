"""What commands have in common: options, which are the fields of `pipeline.config`, and help."""

import ast
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

import click
from pydantic import ByteSize
from pydantic.fields import FieldInfo

from pipeline.config import Options, SweepOptions
from pipeline.option_values import FORMER_NAMES, renamed
from storage.errors import MemoryBudgetError

if TYPE_CHECKING:
    from pipeline.runtime.progress import TerminalProgress

LEAST_MEMORY = 400 << 20  # bytes that a sweep takes at least, of up to 10,000 small patches


# Of the options' help, by the names of the fields; the first of all is --k.
GROUPS = {
    "Data": (
        *("dataset", "data", "out", "experiment", "layout", "channels", "white", "nodata", "mask"),
        *("mask_by", "heldout", "test", "labels", "on_error", "split"),
    ),
    "Patches": ("patch", "stride", "border", "threshold", "keep", "sample"),
    "Dictionaries": (
        *("mode", "init", "max_iter", "tol", "min_gain", "breathing", "batch_size", "empty"),
        *("preprocess", "contrast_floor", "zca_epsilon", "distance", "seed"),
    ),
    "Machine": ("memory", "device", "device_memory", "engine", "scheduler"),
}
OTHERS = ("dry_run", "swept", "as_json")  # last of all, with --help
GROUPED = 12  # options; the help of a command with fewer is one list


class Command(click.Command):
    """A command whose help has its options by what they are of, and an example.

    example: a call, without the name of the program.
    """

    def __init__(self, *args: Any, example: str = "", **named: Any) -> None:
        super().__init__(*args, **_with_help(named))
        self.example = example

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        rows = {option.name: option.get_help_record(ctx) for option in options}
        shown = {name: row for name, row in rows.items() if name and row}
        own = self.get_help_option(ctx)
        others = (*OTHERS, own.name if own else None)
        last = {name: shown.pop(name) for name in others if name in shown}
        groups = GROUPS if len(shown) >= GROUPED else {}
        named = [name for names in groups.values() for name in names]
        first = sorted(
            set(shown) - set(named), key=lambda name: (name != "k", list(shown).index(name))
        )
        found = {"Options": first} | groups
        for heading, names in found.items():
            mine = [shown[name] for name in names if name in shown]
            mine += [] if groups else last.values()
            if mine:
                with formatter.section(heading):
                    formatter.write_dl(mine)
        if groups:
            with formatter.section("Other options"):
                formatter.write_dl([*last.values()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        if self.example:
            with formatter.section("Example"):
                formatter.write(f"{'':{formatter.current_indent}}patchdict {self.example}\n")


class Group(click.Group):
    """Commands that are summed up by whole sentences."""

    command_class = Command

    def __init__(self, *args: Any, **named: Any) -> None:
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        super().__init__(*args, context_settings=settings, **_with_help(named))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands."""
        found = [
            (name, self.commands[name].get_short_help_str(999)) for name in sorted(self.commands)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(found)


def _with_help(named: dict[str, Any]) -> dict[str, Any]:
    """What a command is made of, its help read from the source where python -OO has dropped it."""
    function = named.get("callback")
    if named.get("help") or function is None:
        return named
    with suppress(OSError):  # there may be no source
        (read,) = ast.parse(inspect.getsource(function)).body
        named["help"] = ast.get_docstring(cast(ast.FunctionDef, read))
    return named


def options_of(
    model: type[Options], *, only: Sequence[str] = (), **extra_help: str
) -> Callable[[Any], Any]:
    """Decorator: one option per field of `model`, or of `only` these, its docstring as help."""

    def decorate(command: Any) -> Any:
        for name, field in reversed(model.model_fields.items()):
            if only and name not in only:
                continue
            help_text = extra_help.get(name, field.description or "")
            default = _shown(field.default)
            if default:
                help_text += f"  [default: {default}]"
            command = click.option(
                f"--{name.replace('_', '-')}", name, help=help_text, metavar=_kind(field)
            )(command)
        for old, new in FORMER_NAMES.items():
            if new in model.model_fields and not only:
                command = click.option(f"--{old}", old, hidden=True)(command)
        return command

    return decorate


def _kind(field: FieldInfo) -> str:
    """What an option takes, as help shows it: one of some words, or what kind of value."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if get_origin(kind) is Literal:
            return "|".join(get_args(kind))
    told = str(field.annotation)
    kinds = {"tuple": "NUMBERS", "ByteSize": "SIZE", "Path": "FOLDER", "int": "NUMBER"}
    kinds["float"] = "NUMBER"
    return next((kinds[kind] for kind in kinds if kind in told), "TEXT")


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return "x".join(map(str, default))
    if isinstance(default, int) and hasattr(default, "human_readable"):
        return str(default.human_readable())
    return "" if default in (None, "") else str(default)


def given(fields: Mapping[str, str | None]) -> dict[str, str]:
    """The options that were given, under their names of today; the others take their defaults."""
    found, notes = renamed({name: value for name, value in fields.items() if value is not None})
    for note in notes:
        click.echo(f"note: {note}", err=True)
    return found


def read_runs(experiment: str | None, fields: Mapping[str, str | None]) -> list[SweepOptions]:
    """The runs of an experiment's file, or one, with the options that were given beside it."""
    options = given(fields)
    if experiment is None:
        return [SweepOptions.checked(**options)]
    from pipeline.experiment_file import read_experiment_file

    return read_experiment_file(experiment, options)


def check_least(memory: int) -> None:
    """Refuse at once a cap under which a sweep could not end.

    memory: in bytes. Raises: MemoryBudgetError.
    """
    if memory < LEAST_MEMORY:
        raise MemoryBudgetError(
            f"a sweep or a report needs {LEAST_MEMORY >> 20} MiB of memory, more than the cap of"
            f" {ByteSize(memory).human_readable(separator=' ')}: raise it"
            f" (MEMORY={LEAST_MEMORY >> 20}MiB or more)"
        )


experiment_option = click.option(
    "--experiment",
    metavar="FILE.toml",
    help="File of options: their names in lower case, with _ for -; a list makes a run of each of"
    " its values, each table [[run]] runs of its own. Options given beside it win over its own.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object last on standard output."
)


@contextmanager
def watched() -> Iterator["TerminalProgress"]:
    """Lines of a command's progress, the first at once: what it needs takes seconds to load."""
    from pipeline.runtime.memory import spare_the_heap
    from pipeline.runtime.progress import TerminalProgress

    spare_the_heap()
    with TerminalProgress() as progress:
        progress.start("starting", 0, "")
        yield progress


def show(result: dict[str, Any], as_json: bool, text: str) -> None:
    """Print the result for people or for programs."""
    click.echo(json.dumps(result) if as_json else text)
