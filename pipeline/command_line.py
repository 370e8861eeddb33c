"""The command line. Options come from the fields of `pipeline.config`; nothing is said twice.

Commands import what they need when they run, so that --help answers at once.
"""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pipeline.command_options import (
    Group,
    check_least,
    experiment_option,
    json_option,
    options_of,
    read_runs,
    show,
    watched,
)
from pipeline.config import PatchOptions, SweepOptions
from pipeline.runtime.interrupts import Interrupted, asked_to_end, end, ending_promptly
from storage.errors import InputError, PatchDictError, one_line, refusal
from storage.places.place import Place, place_of

if TYPE_CHECKING:
    from pipeline.runtime.progress import Progress

LONGEST_LINE = 900  # letters of an error
INTERRUPTED = 130  # exit code, as shells have it
LONGEST_TOLD = 500  # letters of a message of click's


@click.group(cls=Group)
@click.version_option(package_name="patchdict", message="%(version)s")
def group() -> None:
    """Learn K-means dictionaries of image patches, out of core."""


@group.command(example="extract --dataset mnist --patch 7 --dry-run")
@experiment_option
@options_of(PatchOptions)
@click.option("--split", type=click.Choice(["train", "test"]), default="train", show_default=True)
@click.option("--dry-run", is_flag=True, help="Tell rows, bytes and memory; write nothing.")
@json_option
def extract(
    experiment: str | None, split: str, dry_run: bool, as_json: bool, **fields: str | None
) -> None:
    """Cut the images into a patch store, unless it is there already."""
    mine = set(PatchOptions.model_fields)  # a file may hold those of a fit, too
    runs = [PatchOptions(**run.model_dump(include=mine)) for run in read_runs(experiment, fields)]
    with watched() as progress:
        from pipeline.extraction.summary import extracted, forecast, in_words

        work = partial(forecast if dry_run else extracted, split=split)
        _each(list(dict.fromkeys(runs)), "stores", work, in_words, as_json, progress)


@group.command(example="fit --dataset mnist --k 500")
@experiment_option
@options_of(SweepOptions, k="Size of the dictionary.")
@json_option
def fit(experiment: str | None, as_json: bool, **fields: str | None) -> None:
    """Learn one dictionary, in the experiment that a sweep with the same options has."""
    runs = read_runs(experiment, fields)
    wanted = sum(len(options.k) for options in runs)
    if (len(runs), wanted) != (1, 1):
        raise InputError(f"fit learns one dictionary, not {wanted}: give one --k, or sweep")
    check_least(runs[0].memory)
    with _writing_into(runs[0].out), watched() as progress:
        from pipeline.k_sweep import sweep as run_sweep
        from pipeline.upkeep.sweep_result import in_words

        (result,) = run_sweep(runs[0], progress)["dictionaries"]
    show(result, as_json, in_words([result]))


@group.command(example="sweep --dataset photos.npy --k 100:1000:100 --heldout 0.1")
@experiment_option
@options_of(SweepOptions)
@click.option(
    "--swept",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the names of the experiments' folders there, for report --swept.",
)
@json_option
def sweep(experiment: str | None, swept: Path | None, as_json: bool, **fields: str | None) -> None:
    """Extract the patches and learn a dictionary for every K; finished ones are kept."""
    runs = read_runs(experiment, fields)
    check_least(min(options.memory for options in runs))

    with watched() as progress:
        from pipeline.k_sweep import sweep as run_sweep
        from pipeline.upkeep.sweep_result import in_words

        def told(result: dict[str, Any]) -> str:
            return f"{result['experiment']}\n{in_words(result['dictionaries'])}"

        results = _each(runs, "experiments", run_sweep, told, as_json, progress)
    if swept is not None:
        swept.write_bytes(b"\0".join(os.fsencode(result["experiment"]) for result in results))


def _each(
    runs: Sequence[Any],
    plural: str,
    work: Callable[[Any, "Progress"], dict[str, Any]],
    told: Callable[[dict[str, Any]], str],
    as_json: bool,
    progress: "Progress",
) -> list[dict[str, Any]]:
    """Do the work of each run, show what came of it, and return that.

    plural: key of the list of results; a single one's own keys stand beside it.
    """
    from pipeline.experiment_file import each_run

    def in_its_out(options: Any, progress: "Progress") -> dict[str, Any]:
        with _writing_into(options.out):
            return work(options, progress)

    results: list[dict[str, Any]] = []
    for result in each_run(runs, in_its_out, progress):
        progress.finish()  # of what was there already, that it is being looked for
        results.append(result)
        if not as_json:
            click.echo(told(result))
    if as_json:
        show((results[0] if len(runs) == 1 else {}) | {plural: results}, as_json, "")
    return results


@contextmanager
def _writing_into(out: Place) -> Iterator[None]:
    """Names OUT in an error of the system that would name no file, or one of ours inside it."""
    try:
        yield
    except OSError as error:
        nameless = error.filename is None and not isinstance(error, ConnectionError | TimeoutError)
        if nameless or error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = str(out)
        raise


@group.command(example="status runs")
@click.argument("folder", metavar="[OUT]", type=click.Path(), required=False)
@click.option("--out", type=click.Path(), help="The same, as for sweep.  [default: runs]")
@json_option
def status(folder: str | None, out: str | None, as_json: bool) -> None:
    """List the patch stores and experiments under OUT."""
    if None not in (folder, out) and folder != out:
        raise InputError(f"OUT is {folder} and --out {out}: give one of them")
    out = folder or out or "runs"
    from pipeline.upkeep.status import in_words, take_inventory

    result = take_inventory(place_of(out))
    show(result, as_json, in_words(result) or f"nothing under {out} yet: run sweep")


@group.command(example="verify runs")
@click.argument("store", type=click.Path())
@json_option
def verify(store: str, as_json: bool) -> None:
    """Read all of STORE and name what is damaged (exit code 1).

    STORE is a patch store, a dictionaries.zarr, or a folder, or the URL of one: all stores in it
    are verified.
    """
    with watched() as progress:
        from pipeline.upkeep.verify import verify as verify_all

        result = verify_all(place_of(store), progress)
    lines = [bad["reason"] for bad in result["bad"]]
    show(result, as_json, "\n".join([*lines, f"{result['chunks']} chunks, {len(lines)} bad"]))
    if not result["ok"]:
        raise SystemExit(1)


@group.command(example="drop runs/EXPERIMENT --k 100,200")
@click.argument("experiment", type=click.Path())
@click.option("--k", required=True, help="Sizes of the dictionaries, as in 100,200.")
@click.option("--dry-run", is_flag=True, help="Tell what would go; remove nothing.")
@json_option
def drop(experiment: str, k: str, dry_run: bool, as_json: bool) -> None:
    """Remove dictionaries, and the later stages, codes, features and unfinished fits of their K.

    EXPERIMENT is the folder of one experiment, or a sweep's OUT that holds one alone, or the URL of
    either. Other dictionaries stay as they are, those that started from a dropped one, too; so do
    exported files. A sweep that is asked for a dropped K learns it anew.
    """
    sizes = SweepOptions.checked(k=k).k
    from pipeline.upkeep.drop import drop as drop_dictionaries
    from pipeline.upkeep.drop import in_words

    result = drop_dictionaries(place_of(experiment), sizes, dry_run=dry_run)
    show(result, as_json, in_words(result, dry_run=dry_run))


def run(command: click.Group) -> NoReturn:
    """Run a command group; what the user can mend is one line and exit code 2."""
    for stream in range(3):  # a closed one: the next file would get what libraries print there
        with suppress(OSError):
            if not _is_open(stream):
                os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    if sys.stderr is None or (sys.stderr is sys.__stderr__ and os.name == "posix"):
        notes = io.BufferedWriter(_Notes(2, "w", closefd=False))
        encoding = getattr(sys.stderr, "encoding", None)
        sys.stderr = io.TextIOWrapper(notes, encoding, "backslashreplace", line_buffering=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files are bytes: a terminal may lack their letters, or they may be no text.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with ending_promptly():
            command.main(prog_name=_program_name(), standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        told, half = error.format_message(), LONGEST_TOLD // 2  # it repeats what was typed
        _fail(told if len(told) <= LONGEST_TOLD else f"{told[:half]} … {told[-half:]}")
    except PatchDictError as error:
        _fail(str(error))
    except OSError as error:
        if code := asked_to_end():  # what the signal broke
            end(code)
        _fail(refusal(error))
    except (KeyboardInterrupt, click.Abort) as error:
        cause = error.__cause__ or error  # click raises Abort for it
        end(cause.code if isinstance(cause, Interrupted) else INTERRUPTED)
    sys.exit(0)


class _Notes(io.FileIO):
    """Standard error: what cannot be written there, as on a full disk, ends no run."""

    def write(self, line: Any, /) -> int:
        """The bytes that were written, or were lost."""
        try:
            return super().write(line)
        except OSError:
            return len(line)


def _is_open(stream: int) -> bool:
    try:
        return bool(os.fstat(stream))
    except OSError:
        return False


def _fail(message: str) -> NoReturn:
    text = one_line(" ".join(message.split()))
    if len(text) > LONGEST_LINE:  # names of files may be long; what to do stands at the end
        text = f"{text[: LONGEST_LINE // 2]} … {text[-LONGEST_LINE // 2 :]}"
    click.echo(f"error: {text}", err=True)
    sys.exit(2)


def _program_name() -> str:
    program = Path(sys.argv[0])
    return f"python -m {program.parent.name}" if program.name == "__main__.py" else program.name
