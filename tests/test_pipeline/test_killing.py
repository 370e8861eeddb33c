"""kill -9 at random moments: the same command goes on, and every stored number is the same."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pipeline import SweepOptions, sweep
from pipeline.runtime.progress import SilentProgress
from pipeline.upkeep.verify import verify
from tests.stored_numbers import numbers_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")

CHUNK_BYTES = 96 << 10  # so that the store of the digits has some chunks


def sweep_in_small_chunks(fields: dict[str, Any]) -> None:
    """What the killed processes do."""
    os.setsid()
    import storage.patch_spec

    storage.patch_spec.CHUNK_BYTES = CHUNK_BYTES
    sweep(SweepOptions.checked(**fields))


def kill_tree(process: int) -> None:
    """SIGKILL to a process and all that it started, at once."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(process)
        for each in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)


def kill_until_done(
    start: Callable[[], Any], out: Path, seconds: float, rng: np.random.Generator
) -> int:
    """Run, kill at a random moment, run again, until a run ends by itself; how many were killed.

    start: gives a process with `pid`, `wait` and `returncode`. seconds: of a whole run.
    """
    kills, finished = 0, dict[Path, int]()
    while True:
        process = start()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=rng.uniform(0, seconds))
        if process.returncode is not None:
            assert process.returncode == 0
            return kills
        kill_tree(process.pid)
        process.wait(timeout=60)
        kills += 1
        # A dictionary that was there is there, and was not written again.
        now = {path: path.stat().st_ino for path in out.glob("*/dictionaries.zarr/k*")}
        assert finished.items() <= now.items()
        finished = now


class Forked:
    """A process of the fork server's, seen like one of subprocess."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        process.start()
        self.pid = process.pid

    def wait(self, timeout: float) -> None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("forked", timeout)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode


@pytest.fixture
def forking() -> Callable[[dict[str, Any]], Forked]:
    """Starts sweeps in processes that have all modules loaded, in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    return lambda fields: Forked(context.Process(target=sweep_in_small_chunks, args=(fields,)))


def assert_whole(out: Path) -> None:
    """Nothing that is half lies under `out`, and all that is there is good."""
    assert [str(path) for path in out.rglob("*") if "partial" in path.name] == []
    assert list(out.rglob("*.unfinished*")) == []
    assert verify(out, SilentProgress())["ok"]


def killed_sweeps(
    fields: dict[str, Any],
    forking: Callable[[dict[str, Any]], Forked],
    tmp_path: Path,
    at_least: int,
) -> int:
    """Kill sweeps, at least so many times, and compare what each comes to with an unbroken one."""
    forking(fields | {"out": tmp_path / "warm-up"}).wait(timeout=120)
    whole, started = forking(fields | {"out": tmp_path / "whole"}), time.monotonic()
    whole.wait(timeout=120)
    seconds = time.monotonic() - started
    assert whole.returncode == 0
    (expected,) = (tmp_path / "whole").glob("digits*")
    rng, kills = np.random.default_rng(7), 0
    for number in range(1000):
        out = tmp_path / str(number)
        kills += kill_until_done(lambda: forking(fields | {"out": out}), out, seconds, rng)  # noqa: B023
        assert_whole(out)
        (found,) = out.glob("digits*")
        assert numbers_of(found) == numbers_of(expected)
        assert {path.name for path in found.iterdir()} == {".lock", "dictionaries.zarr"}
        if kills >= at_least:
            return kills
    raise AssertionError("no run was killed")


def test_four_kills(forking: Callable[[dict[str, Any]], Forked], tmp_path: Path) -> None:
    fields = {"k": "5,40", "breathing": 1, "max_iter": 8}
    assert killed_sweeps(fields, forking, tmp_path, at_least=4) >= 4


def command(out: Path, *arguments: str) -> Callable[[], subprocess.Popen[bytes]]:
    """The command line in a process of its own."""
    line = [sys.executable, "-m", "pipeline", *arguments, "--out", str(out)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return lambda: subprocess.Popen(line, **quiet, start_new_session=True)


@pytest.mark.slow
def test_three_hundred_kills(forking: Callable[[dict[str, Any]], Forked], tmp_path: Path) -> None:
    fields = {"k": "5,20,40", "breathing": 2, "max_iter": 20}
    assert killed_sweeps(fields, forking, tmp_path, at_least=300) >= 300


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["", "processes:2"])
def test_killed_commands_on_mnist(scheduler: str, mnist_dir: Path, tmp_path: Path) -> None:
    cut = ["--dataset", "mnist", "--data", str(mnist_dir), "--memory", "3GiB"]
    cut += ["--threshold", "0.3", "--scheduler", scheduler]
    fit = ["--k", "50,200,800", "--breathing", "2", "--max-iter", "40"]
    whole = command(tmp_path / "whole", "sweep", *cut, *fit)()
    started = time.monotonic()
    assert whole.wait(timeout=600) == 0
    seconds = time.monotonic() - started
    rng, kills, number = np.random.default_rng(5), 0, 0
    while kills < 30:
        out = tmp_path / str(number)
        kills += kill_until_done(command(out, "extract", *cut), out, 8, rng)
        kills += kill_until_done(command(out, "sweep", *cut, *fit), out, seconds, rng)
        assert_whole(out)
        for expected in (tmp_path / "whole").glob("mnist*"):
            assert numbers_of(out / expected.name) == numbers_of(expected)
        number += 1
