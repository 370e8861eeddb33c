"""An experiment as a file: options in TOML, and the runs that their lists make.

dataset = ["a.npy", "b.npy"]   # relative paths start from the file's folder
patch = [3, 5, "8x8"]          # every data set with every patch: six runs
k = "100:1000:100"             # a list by itself: [100, 200] are two dictionaries of a run

[[run]]                        # where there are such tables, each makes runs of its own:
mode = "full"                  # of the options above, and of its own, which come first
"""

import difflib
import itertools
import math
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.config import Options, SweepOptions
from pipeline.option_values import FORMER_NAMES, absolute_path, paths_from
from pipeline.runtime.progress import Progress
from storage.errors import InputError, PatchDictError, one_line, shortened
from storage.images.datasets import DATASETS, meant
from storage.layout import source_parts

MOST_RUNS = 1000
_MOST_BYTES = 1 << 20  # of a file that people wrote
_TABLES = "run"
_WRITTEN_AS_TEXT = ("k", "patch")  # options whose text says more than a number
# options that are paths of what must be there
_FILES = {"dataset": "data set", "test": "test images", "mask": "mask", "labels": "file of classes"}
_Run = TypeVar("_Run", bound=Options)


def read_experiment_file(
    path: str | Path, given: Mapping[str, Any] | None = None
) -> list[SweepOptions]:
    """The runs of an experiment that a TOML file describes, in order, each of them once.

    Args:
        path: of the file. Its keys are the names of `SweepOptions`; a list makes a run of each of
            its values, several lists a run of each combination, the last key's values changing
            first. Tables [[run]] override the options above them.
        given: options that win over those of the file, as on the command line.

    Returns:
        Options, as `sweep` takes them.

    Raises:
        InputError: there is no such file, or it holds no options; the message names file and key.
    """
    try:
        place = Path(absolute_path(path))
    except ValueError as error:
        raise InputError(f"no experiment file {shortened(str(path))}: {error}") from None
    found = runs_of(_read(place), place)
    over = dict(given or {})
    runs = [
        SweepOptions.checked(**({name: getattr(run, name) for name in run.model_fields_set} | over))
        for run in found
    ]
    return list(dict.fromkeys(runs))


def runs_of(content: Mapping[str, Any], place: Path) -> list[SweepOptions]:
    """The runs of what a file holds; place: of the file. Raises InputError, which names it."""
    above = {name: value for name, value in content.items() if name != _TABLES}
    tables = content.get(_TABLES, [{}])
    if not (tables and isinstance(tables, list) and all(isinstance(t, dict) for t in tables)):
        raise InputError(f"{place}: {_TABLES} is no list of tables: begin each with [[{_TABLES}]]")
    runs: list[SweepOptions] = []
    with paths_from(place.parent):
        for number, table in enumerate(tables, 1):
            where = f"{place}, [[{_TABLES}]] {number}" if _TABLES in content else str(place)
            try:
                for name in (*above, *table):
                    _check_name(name)
                combinations = _combined(above | table, MOST_RUNS - len(runs))
                runs += [_checked(fields, place.parent) for fields in combinations]
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
    return runs


def each_run(
    runs: Sequence[_Run],
    work: Callable[[_Run, Progress], dict[str, Any]],
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    """What the work on each run returns, one after the other.

    A run that fails does not keep the others from it. Raises: of several, an error of the first
    one's kind after the last, with what befell each; else the error as it is.
    """
    failures: list[PatchDictError] = []
    for number, (options, name) in enumerate(zip(runs, _names_of(runs), strict=True), 1):
        if len(runs) > 1:
            progress.note(f"run {number} of {len(runs)}: {name}")
        try:
            result = work(options, progress)
        except PatchDictError as error:
            if len(runs) == 1:
                raise
            progress.note(f"run {number} failed: {error}")
            failures.append(type(error)(f"run {number} ({name}): {error}"))
        else:
            yield result
    if failures:
        raise type(failures[0])("; ".join(map(str, failures)))


def _names_of(runs: Sequence[Options]) -> list[str]:
    """What tells each run from the others, as in "dataset b.npy, patch 3x3"; empty for one."""
    told = [{name: _text(name, value) for name, value in run} for run in runs]
    differing = [name for name in told[0] if len({one[name] for one in told}) > 1]
    return [", ".join(f"{name} {one[name]}" for name in differing) for one in told]


def _text(name: str, value: Any) -> str:
    if name == "k":
        return f"{value[0]}…{value[-1]} ({len(value)})" if value else "as usual"
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return "as usual" if value is None else one_line(str(value))


def _read(place: Path) -> dict[str, Any]:
    """The tables of a file."""
    if not os.path.isfile(place):  # a pipe would be waited for
        raise InputError(f"no experiment file {shortened(str(place))}: give one of options in TOML")
    with place.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise InputError(f"{place} is larger than 1 MiB: give a file of options in TOML")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(f"{place} is no text in UTF-8: give a file of options in TOML") from None
    except (ValueError, RecursionError) as error:  # ValueError: also of numbers without end
        reason = shortened(str(error))[1:-1] or "too deep"
        raise InputError(
            f'{place} is not valid TOML: {reason}: write name = value, texts in "quotes"'
        ) from None


def _check_name(name: str) -> None:
    valid = list(SweepOptions.model_fields)
    if name in valid:
        return
    plain = name[:40].lower().replace("-", "_")
    closest = FORMER_NAMES.get(plain) or next(iter(difflib.get_close_matches(plain, valid, 1)), "")
    remedy = f"did you mean {closest}?" if closest else f"use one of {', '.join(valid)}"
    raise InputError(f"no option {shortened(name)}: {remedy}")


def _combined(fields: Mapping[str, Any], most: int) -> Iterator[dict[str, Any]]:
    """Each combination of the values of lists; raises InputError where they are too many."""
    choices = {name: _choices(name, value) for name, value in fields.items()}
    number = math.prod(map(len, choices.values()))
    if number > most:
        raise InputError(f"the lists make more than {MOST_RUNS} runs: use several files")
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def _choices(name: str, value: Any) -> list[Any]:
    """The values of an option, one for each run; those of K are one."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise InputError(f"{name} is an empty list: give a value, or leave it out")
    checked = [_plain(name, one) for one in values]
    return [",".join(checked)] if name == "k" else checked


def _plain(name: str, value: Any) -> Any:
    """A value as the command line has it, or as TOML has it where that means the same."""
    if isinstance(value, list):
        raise InputError(
            f"{name} {shortened(value)} is a list in a list: write each value by itself"
            + ', a rectangle as "5x7"' * (name == "patch")
        )
    if isinstance(value, int) and abs(value) >> 63:
        raise InputError(f"{name} is a number beyond 64 bits: use a smaller one")
    if name in _WRITTEN_AS_TEXT:
        return str(value)
    if isinstance(value, bool) and SweepOptions.model_fields[name].annotation is not bool:
        raise InputError(f"{name} {str(value).lower()} is not valid: use a number or a text")
    return value


def _checked(fields: dict[str, Any], folder: Path) -> SweepOptions:
    """The options of a run, its files among what there is."""
    options = SweepOptions.checked(**fields)
    for name, what in _FILES.items():
        path = getattr(options, name)
        if name not in fields or path is None or path in DATASETS or "://" in path:
            continue
        if not os.path.exists(source_parts(path)[0]):  # it would have been made absolute
            named = name == "dataset"
            sets, other = f"{', '.join(DATASETS)}, or " * named, meant(path) * named
            raise InputError(
                f"no {what} {shortened(path)}: {other}use {sets}a path as seen from {folder}"
            )
    return options
