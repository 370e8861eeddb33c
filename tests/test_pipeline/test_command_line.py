"""The command line as a user meets it: in a process of its own."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from pipeline import command_line
from storage.errors import refusal
from tests.programs import run_python
from tests.test_pipeline.test_hostile_command_lines import run_here

SWEEP = ["sweep", "--k", "2,4", "--max-iter", "2"]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # the first of a fresh installation compiles the kernels
    return run_python("-m", "pipeline", *arguments, cwd=cwd, timeout=600)


def last_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def json_of(arguments: list[str]) -> dict[str, Any]:
    """The last line of a command run in this process."""
    code, output, errors = run_here(arguments)
    assert code == 0, errors
    found = json.loads(output.splitlines()[-1])
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a small sweep has been run."""
    folder = tmp_path_factory.mktemp("user")
    first = last_json(run(*SWEEP, "--json", cwd=folder))
    assert [entry["reused"] for entry in first["dictionaries"]] == [False, False]
    return folder


def test_json_has_the_promised_keys(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    swept = json_of([*SWEEP, "--json"])
    promised = {"k", "mse", "sse", "heldout_mse", "passes", "rows_seen", "seconds", "live", "path"}
    assert all(promised <= set(entry) for entry in swept["dictionaries"])
    assert all(entry["reused"] for entry in swept["dictionaries"])
    extracted = json_of(["extract", "--json"])
    keys = {"store", "rows", "dim", "bytes", "codec", "seconds", "reused", "repaired"}
    assert keys <= set(extracted)
    assert extracted["reused"] is True
    assert (extracted["rows"], extracted["dim"]) == (24_000, 25)
    test = json_of(["extract", "--split", "test", "--json"])
    assert test["rows"] == 4752
    fitted = json_of(["fit", "--k", "4", "--max-iter", "2", "--json"])
    assert fitted == swept["dictionaries"][1]
    checked = json_of(["verify", extracted["store"], "--json"])
    assert checked == {"ok": True, "chunks": 1, "bad": []}
    listed = json_of(["status", "--json"])
    assert [store["rows"] for store in listed["stores"]] == [4752, 24_000]
    assert [entry["k"] for entry in listed["experiments"][0]["dictionaries"]] == [2, 4]


def test_people_get_a_table(runs: Path) -> None:
    done = run(*SWEEP, cwd=runs)
    assert done.returncode == 0
    header, two, four = done.stdout.splitlines()[-3:]
    assert header.split() == ["K", "MSE", "held-out", "live", "passes", "seconds"]
    assert (two.split()[0], four.split()[0], four.split()[-1]) == ("2", "4", "reused")
    assert "K = 2, 4" in run("status", cwd=runs).stdout
    assert "nothing under" in run("status", "--out", "elsewhere", cwd=runs).stdout


@pytest.mark.parametrize("memory", ["1", "100MB"])
@pytest.mark.parametrize(
    "command", [["pipeline", *SWEEP], ["analysis", "report", "--only-stale", "runs"]]
)
def test_a_cap_that_is_too_low_is_refused_where_nothing_is_left_to_do(
    runs: Path, memory: str, command: list[str]
) -> None:
    done = run_python("-m", *command, "--memory", memory, cwd=runs)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "more than the cap of" in line
    assert "raise it (MEMORY=" in line


def test_status_shows_what_is_damaged(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    shutil.copytree(runs / "runs", out)
    (out / "patches" / "stray.zarr").mkdir()
    store = next((out / "patches").glob("*train*.zarr"))
    (store / "offsets" / "zarr.json").unlink()
    (next(out.glob("*/dictionaries.zarr")) / "zarr.json").write_text("{")
    done = run("status", cwd=tmp_path)
    assert done.returncode == 0
    damaged = [line for line in done.stdout.splitlines() if line.strip().startswith("damaged")]
    assert len(damaged) == 3


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bad inputs."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "cut-idx3-ubyte").write_bytes(b"\0\0\x08\3" + b"\0\0\0\x09" * 3 + b"pixels")
    (folder / "text.gz").write_text("not gzip")
    np.save(folder / "flat.npy", np.zeros((4, 4), np.uint8))
    (folder / "file").touch()
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "--dataset", "minst"], "no data set 'minst': did you mean mnist? Or use"),
        (["sweep", "--dataset", "MNIST"], "no data set 'MNIST': did you mean mnist? Or use"),
        (["sweep", "--dataset", "Fashion_MNIST"], "did you mean fashion-mnist?"),
        (["sweep", "--dataset", "absent.npy"], "no data set 'absent.npy': use"),
        (["sweep", "--dataset", "cut-idx3-ubyte"], "has 22 bytes where its header says 745"),
        (["sweep", "--dataset", "text.gz"], "not an IDX file"),
        (["sweep", "--dataset", "flat.npy"], "has the shape (4, 4)"),
        (["sweep", "--k", "0"], "k '0' is not valid"),
        (["sweep", "--k", "24001"], "K = 24001 is more than the 24000 rows there are"),
        (["sweep", "--patch", "9"], "patch 9x9 is larger than the images (8x8)"),
        (["sweep", "--threshold", "0.99"], "keeps none of the 24000 patches"),
        (["sweep", "--out", "file/runs"], "Not a directory; a folder is needed there"),
        (
            ["sweep", "--out", "ftp://host/x"],
            "out 'ftp://host/x' is not valid: no place 'ftp://host/x': use a folder, s3://",
        ),
        (["sweep", "--out", "x" * 300], "File name too long; choose a shorter name"),
        (["sweep", "--memory", "1MiB"], "more than the cap of 1.0 MiB: raise it (MEMORY="),
        (["fit", "--k", "2", "--memory", "100MB"], "MiB of memory, more than the cap of 95.4 MiB"),
        (["sweep", "--device", "cuda:99"], "device cuda:99"),
        (["sweep", "--bogus"], "No such option"),
        (["sweep", "extra"], "unexpected extra argument"),
        (["fit", "--k", "2,3"], "fit learns one dictionary"),
        (["fit"], "fit learns one dictionary"),
        (["extract", "--split", "both"], "'both' is not one of"),
        (["extract", "--patch", "3", "--scheduler", "foo://x"], "no Dask scheduler"),
        (["verify", "absent.zarr"], "no patch store at absent.zarr"),
        (["frobnicate"], "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_exit_code_2(
    inputs: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path.name for path in inputs.iterdir() if path.name != "runs")
    monkeypatch.chdir(inputs)
    code, _, errors = run_here(arguments)
    assert code == 2, errors
    *_, line = errors.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert "Traceback" not in errors
    # patches that were asked for and are whole may stay, nothing else
    after = sorted(path.name for path in inputs.iterdir() if path.name != "runs")
    assert after == before
    assert not list(inputs.rglob("dictionaries.zarr"))
    assert not list(inputs.rglob("*.partial"))


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "the disk of OUT is full: make room, and run the same command again"),
        (errno.EDQUOT, "the disk of OUT is full: make room, and run the same command again"),
        (errno.EACCES, "cannot use f: Permission denied; get the right to use it"),
        (errno.EPERM, "cannot use f: Operation not permitted; get the right to use it"),
        (errno.EROFS, "cannot use f: Read-only file system; choose a folder that can be written"),
        (errno.ENOENT, "cannot use f: No such file or directory; check the name"),
        (errno.ENAMETOOLONG, "cannot use f: File name too long; choose a shorter name"),
        (errno.EISDIR, "cannot use f: Is a directory; a file is needed there"),
        (errno.ENOTDIR, "cannot use f: Not a directory; a folder is needed there"),
        (errno.EMFILE, "cannot use f: Too many open files; close other programs, or raise"),
        (errno.EIO, "cannot use f: Input/output error; the disk, or the connection to it, fails"),
        (errno.EXDEV, "cannot use f: Invalid cross-device link"),
    ],
)
def test_what_the_system_refuses_is_told_as_it_is(
    number: int, remedy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.group()
    def group() -> None: ...

    @group.command()
    def work() -> None:
        with command_line._writing_into(Path("OUT")):
            raise OSError(number, os.strerror(number), "f")

    monkeypatch.setattr(sys, "argv", ["patchdict", "work"])
    with pytest.raises(SystemExit) as ended:
        command_line.run(group)
    (line,) = capsys.readouterr().err.splitlines()
    assert (ended.value.code, line.startswith(f"error: {remedy}")) == (2, True)
    assert ("make room" in line) == (number in (errno.ENOSPC, errno.EDQUOT))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EIO, "Input/output error"), "cannot use OUT: Input/output error; the disk"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (TimeoutError("no answer in 3 s"), "no answer in 3 s"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_without_a_file_is_told_where_it_belongs(error: OSError, told: str) -> None:
    with pytest.raises(OSError) as caught, command_line._writing_into(Path("OUT")):  # noqa: PT011
        raise error
    assert refusal(caught.value).startswith(told)


def test_unwritable_out_is_named(inputs: Path) -> None:
    locked = inputs.parent / "locked"
    locked.mkdir(mode=0o500, exist_ok=True)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write anywhere")
    done = run("sweep", "--out", str(locked), cwd=inputs)
    assert (done.returncode, "Permission denied" in done.stderr) == (2, True)


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")


@pytest.mark.parametrize("lost", [pytest.param("/dev/full", marks=FULL), ">(:)"])
def test_notes_that_cannot_be_written_end_no_run(runs: Path, lost: str) -> None:
    words = [sys.executable, "-m", "pipeline", "sweep", "--max-iter", "2", "--out", f"{len(lost)}"]
    shell = ["bash", "-c", f'exec "$@" 2> {lost}', "bash", *words]
    done = subprocess.run([*shell, "--k", "3"], cwd=runs, check=True, stdout=subprocess.PIPE)
    assert done.stdout.splitlines()[-1].split()[0] == b"3"
    assert subprocess.run([*shell, "--k", "0"], cwd=runs, check=False).returncode == 2


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(runs: Path, closed: str) -> None:
    words = [sys.executable, "-m", "pipeline", "extract", "--patch", "4", "--out", closed.strip()]
    shell = ["bash", "-c", f'exec "$@" {closed}', "bash", *words]  # as of a daemon
    assert subprocess.run(shell, cwd=runs, check=False).returncode == 0
    assert list((runs / closed / "patches").glob("digits-*.zarr"))


def test_a_signal_ends_with_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    arguments = ["sweep", "--k", "2,600", "--max-iter", "40", "--breathing", "0"]
    before: list[int] = []  # when states of K = 600 were written
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            deadline = time.monotonic() + 240
            while states(tmp_path) in ([], before) and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
        assert process.returncode == 128 + number
        assert "run the same command again" in errors.splitlines()[-1]
        assert "Traceback" not in errors
        assert ("K=600 goes on after pass" in errors) == bool(before)
        before = states(tmp_path)
    listed = last_json(run("status", "--json", cwd=tmp_path))["experiments"][0]
    assert [entry["k"] for entry in listed["dictionaries"]] == [2]
    assert [fit["k"] for fit in listed["unfinished"]] == [600]
    assert "K = 600 after" in run("status", cwd=tmp_path).stdout
    again = run(*arguments, cwd=tmp_path)
    assert "K=600 goes on after pass" in again.stderr
    assert "reused" in again.stdout.splitlines()[-2]


def states(folder: Path) -> list[int]:
    with suppress(FileNotFoundError):
        found = folder.glob("runs/*/k00600*.unfinished.npz")
        return sorted(path.stat().st_mtime_ns for path in found)
    return []


def test_former_names_of_options_are_taken_with_a_note(tmp_path: Path) -> None:
    done = run("sweep", "--moves", "x", cwd=tmp_path)
    assert done.stderr.splitlines()[0] == "note: option moves is called breathing now"
    assert "breathing 'x' is not valid" in done.stderr
    assert "--moves" not in run("sweep", "--help", cwd=tmp_path).stdout
