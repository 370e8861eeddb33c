"""The memory cap: projected in-process, measured by the operating system in fresh processes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pipeline.memory
from pipeline.config import FitOptions
from pipeline.fit import projected_bytes
from pipeline.memory import SLACK_BYTES, check_budget
from pipeline.streaming import ArraySource
from storage import MemoryBudgetError

MIB = 1 << 20

MEASURE = """
import json, resource, sys
from pipeline.command_line import group
group(sys.argv[1:], standalone_mode=False)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
"""


def test_the_projection_starts_from_what_is_resident() -> None:
    resident = pipeline.memory.resident()
    check_budget("step", 0, resident + SLACK_BYTES + 64 * MIB)
    with pytest.raises(MemoryBudgetError, match="step needs"):
        check_budget("step", 128 * MIB, resident + SLACK_BYTES + 64 * MIB)


def test_the_message_names_both_numbers_and_a_cap_that_would_do() -> None:
    with pytest.raises(MemoryBudgetError) as caught:
        check_budget("fitting", 10 << 30, 2 << 30)
    message = str(caught.value)
    assert "more than the cap of 2.0 GiB" in message
    enough = int(message.split("MEMORY=")[1].split("MiB")[0]) * MIB
    check_budget("fitting", 10 << 30, enough + 16 * MIB)


def test_the_number_of_rows_is_not_in_the_projection() -> None:
    small, large = (
        ArraySource(np.broadcast_to(np.zeros((1, 25), np.uint8), (n, 25))) for n in (10**8, 10**9)
    )
    cpu = torch.device("cpu")
    full, nested = (FitOptions.checked(mode=mode) for mode in ("full", "nested"))
    for engine in ("torch", "pruned"):
        for options in (full, nested):
            one = projected_bytes(small, 1000, engine, cpu, options)
            assert one == projected_bytes(large, 1000, engine, cpu, options)
            assert projected_bytes(small, 10_000, engine, cpu, options) > one
        without = projected_bytes(small, 10_000, engine, cpu, full)
        assert without < projected_bytes(small, 10_000, engine, cpu, nested)


def measured(out: Path, *arguments: str) -> int:
    """Peak resident bytes of one command in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments, "--out", str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux alone")
@pytest.mark.parametrize("k", [100, 10_000])
def test_a_sweep_of_mnist_stays_under_the_cap(mnist_dir: Path, tmp_path: Path, k: int) -> None:
    fit = ["fit", "--dataset", "mnist", "--data", str(mnist_dir), "--k", str(k)]
    options = ["--init", "random", "--mode", "minibatch", "--max-iter", "1", "--threshold", "0.6"]
    assert measured(tmp_path, *fit, *options, "--memory", "1GiB") <= 1 << 30
