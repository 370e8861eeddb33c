"""Options of every kind, also those of a file: valid, or one line of ours."""

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.config import SweepOptions
from pipeline.experiment_file import MOST_RUNS, read_experiment_file, runs_of
from storage import InputError

QUICK = settings(
    max_examples=100,  # test_fuzzing.py tries many more
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],  # of a busy machine
)
FIELDS = sorted(SweepOptions.model_fields)
# what options are made of, and what merely looks like it
NUMBERS = (
    "0",
    "1",
    "5",
    "25",
    "-3",
    "1_000",
    "١٢",
    "²",
    "9" * 30,
    "9" * 5000,
    "0x1f",
    "True",
    "\x1c7",
)
FLOATS = ("nan", "inf", "-inf", "1e400", "-0.0", "0.5", "1e-320")
LISTS = (
    "7x",
    "x",
    "5x7",
    ":",
    "1:9:2",
    ",",
    " ",
    "study",
    "1:1000000000000",
    f"1:{'9' * 20}:{'8' * 20}",
)
UNITS = ("GiB", "MB", "kb", "processes:", "tcp://", "://")
PATHS = ("~", "~nobody", "/", "..", "\0", "\n", "\udcff", "\ud800", "\u2028", "x" * 5000)
CHOICES = ("warm", "nested", "k-means++", "auto", "cpu", "digits", "mnist")
WORDS = st.sampled_from([*NUMBERS, *FLOATS, *LISTS, *UNITS, *PATHS, *CHOICES])
TEXTS = st.lists(WORDS, max_size=3).map("".join) | st.text(max_size=20)
VALUES = (
    TEXTS
    | st.integers()
    | st.floats()
    | st.none()
    | st.booleans()
    | st.binary(max_size=5)
    | st.lists(st.integers(-1, 1 << 70), max_size=4)
)


def as_text(value: Any) -> str:
    """An option's value as it is typed."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(int(value)) if isinstance(value, int) else str(value)


def command_line_of(options: SweepOptions) -> dict[str, str]:
    fields = {name: as_text(value) for name, value in options if value is not None and name != "k"}
    return fields | ({"k": ",".join(map(str, options.k))} if options.k else {})


@QUICK
@given(fields=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3))
@example(fields={"k": "1:1000000000000"})
@example(fields={"k": "1:10000," * 300})
@example(fields={"k": (3, 1, 1)})
@example(fields={"patch": "²"})
@example(fields={"scheduler": "processes:" + "9" * 5000})
@example(fields={"out": "~nobody/x"})
@example(fields={"out": "\ud800"})
@example(fields={"data": "a\0b"})
@example(fields={"dataset": "x" * 5000})
@example(fields={"dataset": "~nobody/x"})
@example(fields={"memory": math.inf})
@example(fields={"memory": "9" * 400 + "GB"})
@example(fields={"memory": "9" * 20_000 + "€"})  # took minutes
@example(fields={"tol": "1e400"})
@example(fields={"threshold": "-0.0"})
@example(fields={"stride": 1 << 70})
def test_options_are_valid_or_refused_in_one_line(fields: dict[str, Any]) -> None:
    tracemalloc.start()
    try:
        options = SweepOptions.checked(**fields)
    except InputError as error:
        message = str(error)
        options = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 << 20
    if options is None:
        assert message.isprintable()
        assert len(message) < 400
        return
    assert SweepOptions.checked(**command_line_of(options)).model_dump() == options.model_dump()
    assert list(options.sizes) == sorted(set(options.sizes))
    assert min(options.sizes) >= 1
    assert all(number < 1 << 63 for number in (*options.sizes, options.seed, options.memory))
    assert math.isfinite(options.tol)
    assert options.out.is_absolute()
    assert options.spec.label == SweepOptions.checked(**command_line_of(options)).spec.label
    assert not options.spec.label.endswith("-0")
    assert len(options.digest("train", "test")) == 8


@given(name=st.text(max_size=200))
@settings(QUICK, max_examples=50)
@example(name="a\nb")
@example(name="x" * 5000)
def test_unknown_options_are_refused_in_one_line(name: str) -> None:
    if name in FIELDS:
        return
    with pytest.raises(InputError) as caught:
        SweepOptions.checked(**{name: 1})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_a_home_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.npy").touch()
    assert SweepOptions.checked(out="~/runs").out == tmp_path / "runs"
    assert SweepOptions.checked(dataset="~/x.npy").dataset == str(tmp_path / "x.npy")


def runs_or_message(read: Callable[[], list[SweepOptions]]) -> tuple[list[SweepOptions], str]:
    """What is read, or the one line that refuses it."""
    try:
        return read(), ""
    except InputError as error:
        message = str(error)
    assert message.isprintable()
    assert 0 < len(message) < 700
    return [], message


TEXTS_OF_TOML = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = VALUES | st.dates() | st.times() | st.datetimes()
CONTENTS = st.dictionaries(
    st.sampled_from([*FIELDS, "run", "moves", "Patch"]) | TEXTS_OF_TOML,
    SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXTS_OF_TOML, SCALARS, max_size=2),
    max_size=4,
)
FEW = st.sampled_from(["3", "4x5", 3, 5, "digits", "full", "1GiB", "nested", 0.5, 100])
LIKELY = st.dictionaries(st.sampled_from(FIELDS), FEW | st.lists(FEW, max_size=3), max_size=3)


@settings(QUICK, max_examples=200)
@given(
    content=(CONTENTS | LIKELY).flatmap(
        lambda above: (
            st.just(above)
            | st.lists(LIKELY, max_size=3).map(lambda tables: above | {"run": tables})
        )
    )
)
@example(content={"nodata": math.nan, "seed": [1, 1]})
@example(content={"k": [1 << 64]})
def test_any_mapping_is_runs_or_one_line(content: dict[str, Any]) -> None:
    place = Path("/no/my.toml")
    runs, message = runs_or_message(lambda: runs_of(content, place))
    if message:
        assert message.startswith(str(place))
        return
    assert 1 <= len(runs) <= MOST_RUNS
    tables = content.get("run", [{}])
    lists = [
        [
            len(value)
            for name, value in (content | table).items()
            if isinstance(value, list) and name not in ("k", "run")
        ]
        for table in tables
    ]
    assert len(runs) == sum(math.prod(lengths) for lengths in lists)
    assert set().union(*(run.model_fields_set for run in runs)) <= set(content) | set().union(
        *map(set, tables)
    )


@settings(QUICK, max_examples=300)
@given(
    text=st.text(max_size=60)
    | st.lists(
        st.sampled_from([*FIELDS, "run", "=", "[", "]", "[[", "]]", "\n", '"', "3", ",", "x", "{"]),
        max_size=12,
    ).map("".join)
)
def test_any_text_is_runs_or_one_line(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    runs, message = runs_or_message(lambda: read_experiment_file(path))
    assert bool(runs) != bool(message)
    assert not message or str(path) in message
