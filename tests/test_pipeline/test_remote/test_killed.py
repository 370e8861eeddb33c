"""Real processes that sweep into a bucket: killed at random moments, and on workers."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.runtime.progress import SilentProgress
from pipeline.upkeep.status import take_inventory
from pipeline.upkeep.verify import verify
from storage.places.remote import RemotePlace
from tests.stored_numbers import numbers_of
from tests.test_pipeline.test_killing import kill_tree

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]
FIT = ["--k", "5,40", "--breathing", "1", "--max-iter", "8", "--device", "cpu"]


def command(out: object, *more: str) -> Callable[[], subprocess.Popen[bytes]]:
    """A sweep in a process of its own, with the environment of this one."""
    line = [sys.executable, "-m", "pipeline", "sweep", "--out", str(out), *FIT, *more]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return lambda: subprocess.Popen(line, **quiet, start_new_session=True, env=dict(os.environ))


def finished(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it ends by itself, as it should, before it is killed."""
    try:
        told = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        kill_tree(process.pid)
        process.communicate(timeout=60)
        return False
    assert process.returncode == 0, told.decode()
    return True


def test_a_sweep_that_is_killed_goes_on_where_it_was(bucket: RemotePlace, tmp_path: Path) -> None:
    assert finished(command(tmp_path)(), 600)
    started = time.monotonic()
    assert finished(command(bucket / "whole")(), 600)
    seconds = time.monotonic() - started  # there: it takes twice as long as in a folder
    (expected,) = tmp_path.glob("digits*")
    rng, kills = np.random.default_rng(11), 0
    for number in range(100):
        out = bucket / str(number)
        while not finished(command(out)(), float(rng.uniform(0, 1.5 * seconds))):
            kills += 1
        (found,) = out.glob("digits*")
        assert numbers_of(found) == numbers_of(expected)
        assert verify(out, SilentProgress())["ok"]
        inventory = take_inventory(out)
        assert inventory["unfinished"] == inventory["damaged"] == []
        assert inventory["experiments"][0]["unfinished"] == []
        if kills >= 8:
            return
    raise AssertionError("no run was killed")


def test_workers_read_and_write_the_bucket_themselves(bucket: RemotePlace, tmp_path: Path) -> None:
    assert finished(command(tmp_path)(), 600)
    assert finished(command(bucket, "--scheduler", "processes:2", "--memory", "3GiB")(), 600)
    (expected,), (found,) = tmp_path.glob("digits*"), bucket.glob("digits*")
    assert numbers_of(found) == numbers_of(expected)
    assert verify(bucket, SilentProgress())["ok"]
