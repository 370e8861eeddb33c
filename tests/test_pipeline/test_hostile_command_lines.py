"""Command lines that nobody should type: an answer or one line, and nothing written elsewhere."""

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.command_line import group, run
from storage.images import download as downloads
from tests.idx_files import idx_bytes, write_idx
from tests.npy_files import npy_bytes
from tests.test_pipeline.test_hostile_options import TEXTS

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
    (folder / "two.toml").write_text('dataset = "six"\npatch = [2, 9]\nmax_iter = [1, 2]\nk = 2')
    (folder / "bad.toml").write_text("patch = [2, 'x\\ny']\n[[run]]\n[[run]]\nseed = -1")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(downloads, "_fetch_from", lambda *_: "no network")
        patch.setattr(downloads, "BACKOFF_SECONDS", 0)
        # compiled kernels are told from what a command writes by their folder
        patch.setenv("TRITON_CACHE_DIR", str(folder.parent / "__pycache__"))
        yield folder


DATASETS = (
    *("six", "six.gz", "a b.npy", "-x.npy", "..npy", "line\nbreak.npy", "\udcff.npy", "'q\"<.npy"),
    *("float.npy", "colour.npy", "cut.npy", "blank", "folder", "absent", "../user/six", "mnist"),
)
FOLDERS = ("runs", "other", "a/b", "no\ttext\udcff", "x" * 300, "six", "six/below", "~nobody", "-o")
GOOD = {
    "experiment": st.sampled_from(["two.toml", "bad.toml", "six", "folder", "absent", "a\nb"]),
    "dataset": st.sampled_from(DATASETS),
    "out": st.sampled_from(FOLDERS),
    "data": st.sampled_from(FOLDERS),
    "patch": st.sampled_from(["1", "3", "3x2", "8", "9"]),
    "stride": st.sampled_from(["1", "2", "7", str((1 << 63) - 1)]),
    "threshold": st.sampled_from(["0", "0.5", "0.999999", "1e-320"]),
    "border": st.sampled_from(["valid", "reflect"]),
    "keep": st.sampled_from(["all", "nonblank", "std>0.1", "range>0.999", "std>0"]),
    "sample": st.sampled_from(["1", "50%", "1e6", "0.001%", str(1 << 61)]),
    "layout": st.sampled_from(["NHW", "hwn", "NHWC", "HW", "NCHW"]),
    "channels": st.sampled_from(["0", "0,1", "2", "999999999"]),
    "white": st.sampled_from(["255", "16", "0.5", "1e308", "5e-324"]),
    "nodata": st.sampled_from(["0", "255", "nan", "inf", "-9999"]),
    "heldout": st.sampled_from(["0.5", "0.2", "1e-320", "0.999"]),
    "test": st.sampled_from(DATASETS),
    "mask": st.sampled_from(DATASETS),
    "mask_by": st.sampled_from(["all", "centre"]),
    "on_error": st.sampled_from(["skip", "refuse"]),
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
        # no argument of a process can hold a NUL, and click asks the system about a path itself
        words.insert(draw(st.integers(0, len(words))), draw(NO_PATH).replace("\0", ""))
    if command == "extract":
        words += ["--dry-run"] * draw(st.booleans())
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
