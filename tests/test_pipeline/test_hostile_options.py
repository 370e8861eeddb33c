"""Options and command lines of every kind: valid, or one line of ours."""

import io
import json
import math
import os
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.command_line import group, run
from pipeline.config import SweepOptions
from storage import InputError
from storage.images import download as downloads
from tests.idx_files import idx_bytes, write_idx
from tests.npy_files import npy_bytes

QUICK = settings(
    max_examples=400,
    derandomize=True,
    deadline=None,
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


WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")


class Watch:
    """Paths that this process opens for writing, makes, renames or removes while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.touched: set[str] = set()
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and (arguments[2] or 0) & WRITES:
            self.note(arguments[0])
        elif event in CHANGES:
            self.note(arguments[0])
            if event == "os.rename":
                self.note(arguments[1])

    def note(self, path: Any) -> None:
        if isinstance(path, (str, bytes)):  # else a descriptor that is open already
            self.touched.add(os.path.abspath(os.fsdecode(path)))


WATCH = Watch()  # for good: a hook cannot be taken away


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder, and no way out of this machine."""
    folder = tmp_path_factory.mktemp("user")
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    write_idx(folder / "six", images)
    write_idx(folder / "six.gz", images)
    for name in ("a b.npy", "-x.npy", "..npy", "line\nbreak.npy", "\udcff.npy", "'q\"<.npy"):
        (folder / name).write_bytes(npy_bytes(images))
    (folder / "float.npy").write_bytes(npy_bytes(images.astype(np.float32)))
    (folder / "colour.npy").write_bytes(npy_bytes(images.reshape(2, 8, 8, 3)))
    (folder / "cut.npy").write_bytes(npy_bytes(images)[:-1])
    (folder / "blank").write_bytes(idx_bytes(np.zeros((3, 8, 8), np.uint8)))
    (folder / "folder").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(downloads, "_fetch_from", lambda *_: ("no network", True))
        yield folder


DATASETS = (
    *("six", "six.gz", "a b.npy", "-x.npy", "..npy", "line\nbreak.npy", "\udcff.npy", "'q\"<.npy"),
    *("float.npy", "colour.npy", "cut.npy", "blank", "folder", "absent", "../user/six", "mnist"),
)
FOLDERS = ("runs", "other", "a/b", "no\ttext\udcff", "x" * 300, "six", "six/below", "~nobody", "-o")
GOOD = {
    "dataset": st.sampled_from(DATASETS),
    "out": st.sampled_from(FOLDERS),
    "data": st.sampled_from(FOLDERS),
    "patch": st.sampled_from(["1", "3", "3x2", "8", "9"]),
    "stride": st.sampled_from(["1", "2", "7", str((1 << 63) - 1)]),
    "threshold": st.sampled_from(["0", "0.5", "0.999999", "1e-320"]),
    "memory": st.sampled_from(["1GiB", "3GB", "1MiB", str((1 << 63) - 1)]),
    "scheduler": st.sampled_from(["", "threads", "processes:0", "processes:9999"]),
    "mode": st.sampled_from(["nested", "full", "minibatch"]),
    "init": st.sampled_from(["warm", "k-means++", "random"]),
    "max_iter": st.sampled_from(["1", "2"]),
    "tol": st.sampled_from(["0", "0.5", "1e308", "5e-324"]),
    "min_gain": st.sampled_from(["0", "0.5", "5e-324"]),
    "breathing": st.sampled_from(["0", "1"]),
    "batch_size": st.sampled_from(["1", "100", str((1 << 63) - 1)]),
    "empty": st.sampled_from(["random", "split"]),
    "seed": st.sampled_from(["0", "7", str((1 << 63) - 1)]),
    "k": st.sampled_from(["1", "2", "2,3", "3:5:2", "500", str((1 << 63) - 1)]),
    "device": st.sampled_from(["auto", "cpu", "cuda", "cpu:7", "meta", "cuda:-1", "\udcff"]),
    "device_memory": st.sampled_from(["", "1GiB", "1MiB", str((1 << 63) - 1)]),
    "engine": st.sampled_from(["auto", "torch", "pruned", "fused"]),
}
NO_PATH = TEXTS.filter(lambda text: not {"/", "~"} & set(text) and text.strip("."))


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command, most of its options good, now and then something out of place."""
    command = draw(
        st.sampled_from(["sweep", "sweep", "fit", "extract", "status", "verify", "help"])
    )
    words = ["--dataset", "six", "--k", "2", "--max-iter", "1", "--breathing", "0", "--patch", "3"]
    if command == "extract":
        words = words[:2] + words[-2:]
    elif command not in ("sweep", "fit"):
        words = []
    for name in draw(st.lists(st.sampled_from(sorted(GOOD)), max_size=4)):
        good = draw(st.integers(0, 9))
        value = draw(GOOD[name] if good else NO_PATH)
        words += [f"--{name.replace('_', '-')}", value]
    if command == "verify":
        words = [draw(st.sampled_from([*FOLDERS, "runs/patches", ".", *DATASETS]))]
    if draw(st.integers(0, 9)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(NO_PATH))
    return [command, *words, *["--json"] * draw(st.booleans())]


def folders_of(words: list[str]) -> list[str]:
    """OUT and DATA of a command line, absolute."""
    given_ = [words[i + 1] for i in range(len(words) - 1) if words[i] in ("--out", "--data")]
    return [
        os.path.abspath(os.path.expanduser(name))
        for name in ("runs", "data", *given_)
        if "\0" not in name
    ]


def run_here(words: list[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error, of streams that take text alone."""
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    errors.reconfigure(errors="backslashreplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["patchdict", *words])
        patch.setattr(sys, "stdout", output)
        patch.setattr(sys, "stderr", errors)
        with pytest.raises(SystemExit) as ended:
            run(group)
    texts = []
    for stream in (output, errors):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    return int(ended.value.code or 0), texts[0], texts[1]


def snapshot(folder: Path, without: list[str]) -> dict[str, tuple[int, int]]:
    """Size and time of each file, but those below some folders."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and not str(path).startswith(tuple(f"{name}/" for name in without))
    }


def check_command_line(user: Path, words: list[str]) -> None:
    ours = folders_of(words)
    before = snapshot(user, ours)
    WATCH.touched, WATCH.on = set(), True
    try:
        code, output, errors = run_here(words)
    finally:
        WATCH.on = False
    assert code in (0, 1, 2, 130)
    assert "Traceback" not in errors
    if code == 2:
        *_, line = errors.splitlines()
        assert line.startswith("error: ")
        assert line.isprintable()
        assert len(line) < 1000
        assert output == ""
    elif "--json" in words and code == 0:
        assert isinstance(json.loads(output.splitlines()[-1]), dict)
    assert snapshot(user, ours) == before
    outside = {
        path
        for path in WATCH.touched
        if not (path + "/").startswith(tuple(f"{name}/" for name in ours))
        and not any((name + "/").startswith(path + "/") for name in ours)  # a folder above OUT
        and "__pycache__" not in path
        and path != os.devnull
    }
    assert outside == set()


COMMAND_LINES = settings(
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@settings(COMMAND_LINES, max_examples=60)
@given(words=command_lines())
def test_command_lines_end_in_order(user: Path, words: list[str]) -> None:
    check_command_line(user, words)


@pytest.mark.slow
@settings(COMMAND_LINES, max_examples=1500)
@given(words=command_lines())
def test_many_command_lines_end_in_order(user: Path, words: list[str]) -> None:
    check_command_line(user, words)


def test_the_watch_sees_what_is_written(tmp_path: Path) -> None:
    WATCH.touched, WATCH.on = set(), True
    try:
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "file").write_text("x")
        (tmp_path / "made" / "file").rename(tmp_path / "moved")
    finally:
        WATCH.on = False
    names = {str(tmp_path / name) for name in ("made", "made/file", "moved")}
    assert names == WATCH.touched


def test_names_that_are_no_text_are_printed(user: Path) -> None:
    code, output, _ = run_here(["status", "--out", "absent\udcff"])
    assert (code, output) == (0, "nothing under absent\\udcff yet: run sweep\n")


@pytest.mark.parametrize("address", ["tls://127.0.0.1:9", "ucx://x", "foo://x", "tcp://x:y", "://"])
def test_addresses_of_no_scheduler_are_refused(user: Path, address: str) -> None:
    code, _, errors = run_here(
        ["extract", "--dataset", "six", "--patch", "2", "--scheduler", address]
    )
    assert (code, errors.splitlines()[-1]) == (
        2,
        f"error: no Dask scheduler answers at {address}: start it, or leave SCHEDULER empty",
    )
