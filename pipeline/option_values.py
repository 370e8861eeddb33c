"""Values of options as people write them: sizes in bytes, lists of K, patches, addresses, paths.

A type stands below the function that reads it.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)

from storage.errors import InputError, shortened
from storage.images.datasets import DATASETS
from storage.layout import source_parts
from storage.places.place import Place, is_url, place_of, writable
from storage.places.remote import RemotePlace

STUDY = (*range(100, 1001, 100), *range(2000, 10001, 1000))
DIGITS = (10, 20, 50, 100, 200, 500, 1000)
PRESETS = {"study": STUDY, "digits": DIGITS}
FORMER_NAMES = {"moves": "breathing", "target": "min_gain"}  # taken for one version more
MOST_SIZES = 10_000  # dictionaries of one sweep
MOST_UNSAID = 20  # of a range without a step, which may have been forgotten; the study has 19
Count = Annotated[int, Field(ge=1, le=(1 << 63) - 1)]  # numpy's integers end there
Natural = Annotated[int, Field(ge=0, le=(1 << 63) - 1)]
SIZES = "use a size such as 1GiB or 800MB"
_paths_from = ContextVar("folder of relative paths", default="")  # empty: the working folder
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # Path makes one slash of two; C: is a drive
_DASHED = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)
_APART = re.compile(r"(\d{1,9})\s*[,;:/ -]\s*(\d{1,9})", re.ASCII)
_POWER = re.compile(r"(\d{1,18})[eE]\+?(\d{1,2})", re.ASCII)
# No two parts of it take the same characters, lest long texts take for ever.
_WHOLE_SIZE = re.compile(r"\s*(\d+(\.\d+)?|\.\d+)\s*([^\W\d]\w*\s*)?", re.ASCII)


def renamed(fields: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Options under their names of today, and a note on each that came under a former one."""
    found, notes = dict(fields), []
    for old, new in FORMER_NAMES.items():
        if old in found and new not in found:  # given both, the old one is an unknown option
            found[new] = found.pop(old)
            notes.append(f"option {old} is called {new} now")
    return found, notes


def named_today(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a fit by their names of today.

    Args:
        stored: the attribute `fit` of a store of dictionaries, which keeps their former names.
    """
    return {FORMER_NAMES.get(name, name): value for name, value in stored.items()}


def check_size(size: Any) -> Any:
    """The size as it is; raises ValueError for texts that pydantic does not take whole.

    It reads 8,5GiB and 80% as 8 and 80 bytes, and overflows at hundreds of digits.
    """
    if isinstance(size, str) and (len(size) > 99 or not _WHOLE_SIZE.fullmatch(size)):
        raise ValueError(SIZES)
    return size


Size = Annotated[ByteSize, Field(gt=0, lt=1 << 63), BeforeValidator(check_size)]

OptionalSize = Annotated[Size | None, BeforeValidator(lambda size: None if size == "" else size)]


def parse_k(text: Any) -> Any:
    """The K list of "100,200,300", "100:1000:100" (both ends included), a mixture, or a preset.

    Spaces part numbers as commas do, and 1e3 is 1000. A range without a step has few numbers.

    Returns: tuple of distinct integers; what is no text, as it is. Raises: ValueError.
    """
    if not isinstance(text, str):
        return text
    numbers: set[int] = set()
    for part in re.split(r"\s*,\s*|\s+", text.strip()):
        if part in PRESETS:
            numbers.update(PRESETS[part])
            continue
        numbers.update(_sizes_of(part))
        if len(numbers) > MOST_SIZES:
            raise ValueError(f"a sweep has at most {MOST_SIZES} dictionaries")
    if not numbers:
        raise ValueError("the list is empty")
    if min(numbers) < 1:
        raise ValueError("a dictionary has at least one centroid")
    return tuple(numbers)


def _sizes_of(part: str) -> range:
    """The K of a number or a range; raises ValueError, which says how it is written."""
    found = _DASHED.fullmatch(part)
    if found and int(found[1]) < int(found[2]):
        raise ValueError(f"use first:last:step: {_thinned(int(found[1]), int(found[2]))}")
    try:
        bounds = [_whole(bound) for bound in part.split(":")]
    except ValueError:
        bounds = []
    if not 1 <= len(bounds) <= 3 or (len(bounds) == 3 and bounds[2] < 1):
        raise ValueError(f"use numbers, first:last:step, or {' or '.join(PRESETS)}")
    first, last, step = bounds[0], bounds[min(1, len(bounds) - 1)], ([*bounds, 1, 1])[2]
    if last - first >= MOST_SIZES * step:
        raise ValueError(f"a sweep has at most {MOST_SIZES} dictionaries: use a larger step")
    if len(bounds) == 2 and last - first >= MOST_UNSAID:
        many, few = last - first + 1, _thinned(first, last)
        raise ValueError(f"that is {many} dictionaries: {few}, {first}:{last}:1 for all")
    return range(first, last + 1, step)


def _whole(text: str) -> int:
    """The integer that is written so, or as in 1e3; raises ValueError."""
    if found := _POWER.fullmatch(text):
        return int(found[1]) * 10 ** int(found[2])
    return int(text)


def _thinned(first: int, last: int) -> str:
    """A range with a round step, and how many numbers it has: ten or a few less."""
    least = max(1, -(-(last - first) // 9))
    power = 10 ** (len(str(least)) - 1)
    step = next(round_ for round_ in (power, 2 * power, 5 * power, 10 * power) if round_ >= least)
    many = len(range(first, last + 1, step))
    return f"{first}:{last}:{step} for {'ten' if many == 10 else many} of them"


DictionarySizes = Annotated[
    tuple[Count, ...],
    BeforeValidator(parse_k),
    AfterValidator(lambda sizes: tuple(sorted(set(sizes)))),
]


def parse_patch(text: Any) -> Any:
    """Rows and columns of 5, "5" or "5x7", also as in 5×7."""
    if isinstance(text, int):
        return text, text
    if not isinstance(text, str):
        return text
    sizes = [size.strip() for size in re.split("[x×*]", text.lower())]
    if 1 <= len(sizes) <= 2 and all(size.isdecimal() for size in sizes):
        return int(sizes[0]), int(sizes[-1])
    if several := _APART.fullmatch(text.strip()):  # rows and columns, or two runs
        runs = f", a file of options with patch = [{', '.join(several.groups())}] for a run of each"
        differ = several[1] != several[2]
        raise ValueError(f"use {'x'.join(several.groups())} for rows x columns{runs * differ}")
    raise ValueError("use a number of pixels, or rows x columns as in 5x7")


PatchSize = Annotated[tuple[Count, Count], BeforeValidator(parse_patch)]


def parse_numbers(text: Any) -> Any:
    """The numbers of "0,2", as a tuple; what is no text, as it is. Raises: ValueError."""
    if isinstance(text, int):
        return (text,)
    if not isinstance(text, str):
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise ValueError("use numbers from 0 on, as in 0,2")
    return tuple(int(part) for part in parts)


Numbers = Annotated[tuple[Natural, ...], BeforeValidator(parse_numbers)]


def check_address(scheduler: str) -> str:
    """Returns the scheduler's address if it is well-formed; raises InputError otherwise."""
    kind, _, number = scheduler.partition(":")
    # isdecimal is of digits that int takes; more than 4 of them are no number of processes
    workers = kind == "processes" and number.isdecimal() and 0 < int(number[:5]) < 10_000
    if scheduler and not workers and "://" not in scheduler:
        raise InputError(
            f"no scheduler {shortened(scheduler)}: use nothing, processes:N, or an address such as"
            " tcp://host:8786"
        )
    return scheduler


Address = Annotated[str, AfterValidator(check_address)]


def check_local(path: str | Path) -> str | Path:
    """Returns the path; raises InputError for a URL, which would become a folder of that name."""
    if _URL.match(os.fspath(path)):
        raise InputError("a URL is a text: give it as one, as Path makes one slash of its two")
    return path


def absolute_path(path: str | Path) -> str:
    """Absolute, with ~ for a home, relative ones from the folder of `paths_from`.

    Raises ValueError for what no file can be called.
    """
    if not os.fspath(path):  # as of a variable that is not set, not the working folder
        raise ValueError("it is empty: give a path")
    if b"\0" in os.fsencode(path):
        raise ValueError("a path has no NUL bytes")
    # not Path.expanduser, which raises RuntimeError where a home is not known
    return os.path.abspath(os.path.join(_paths_from.get(), os.path.expanduser(path)))


def absolute_place(text: Any) -> Place:
    """As `absolute_path`, and places behind URLs as they are, where something can be written."""
    if isinstance(text, RemotePlace) or (isinstance(text, str) and is_url(text)):
        return writable(place_of(text))
    if not isinstance(text, str | Path):
        raise ValueError("give the path of a folder, or a URL")
    return Path(absolute_path(check_local(text)))


# Tasks on other workers have other working folders.
Folder = Annotated[
    Path | RemotePlace, PlainValidator(absolute_place), PlainSerializer(lambda place: place)
]


def absolute_source(text: str) -> str:
    """As `absolute_path` where images may lie: at a file, PATH::NAME or a glob; else the text."""
    path = absolute_path(text)
    return path if os.path.exists(source_parts(path)[0]) else text


Source = Annotated[str, AfterValidator(absolute_source)]
Dataset = Annotated[
    str, AfterValidator(lambda name: name if name in DATASETS else absolute_source(name))
]


@contextmanager
def paths_from(folder: Path) -> Iterator[None]:
    """Relative paths of options that are checked inside start from a folder."""
    token = _paths_from.set(str(folder))
    try:
        yield
    finally:
        _paths_from.reset(token)


def parse_size(name: str, size: str | int | None) -> int | None:
    """Bytes of a size as in "1GiB"; None for none. Raises InputError, which names the option."""
    if size is None or size == "":
        return None
    try:
        return int(TypeAdapter(Size).validate_python(size))
    except ValidationError:
        raise InputError(f"{name}={size!r} is not a size: use one such as '1GiB'") from None


def wrong_option(error: ValidationError, valid: list[str]) -> str:
    """Line that says which option is wrong and what to do; valid: the options that there are."""
    first = error.errors()[0]
    if not first["loc"]:  # of options that do not go together
        return first["msg"].removeprefix("Value error, ")
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"no option {shortened(name)}: use one of {', '.join(valid)}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"].startswith("byte_size"):
        message = SIZES
    return f"{name} {shortened(first['input'])} is not valid: {message[0].lower()}{message[1:]}"
