"""Runs with the engine of devices as people start them: workers, caps, kills, what reads them."""

import multiprocessing
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import report
from pipeline import SweepOptions, sweep
from pipeline.engines.device.engine import DeviceEngine
from pipeline.engines.device.spec import FusedSpec
from pipeline.runtime.devices import CPU
from pipeline.runtime.memory import in_words
from pipeline.runtime.progress import SilentProgress
from pipeline.status import take_inventory, verify
from storage import MemoryBudgetError
from tests.device_sweeps import CHUNK_ROWS, CUDA, DIM, own_kernels, take_kernels, write_images
from tests.notes import Notes
from tests.stored_numbers import numbers_of
from tests.test_pipeline.test_killing import PRELOADED, Forked, killed_sweeps, sweep_in_small_chunks

DEVICE = "cuda" if CUDA else "cpu"
FUSED = {"engine": "fused", "device": DEVICE}
MEMORY = "3GiB"


@pytest.fixture(autouse=True)
def with_triton() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")


@pytest.fixture
def stand_ins() -> Iterator[None]:
    with own_kernels():
        yield


def options(folder: Path, **fields: Any) -> SweepOptions:
    few = {"k": "4,9", "mode": "full", "max_iter": 2, "patch": "3", "memory": MEMORY}
    dataset = str(write_images(folder))
    return SweepOptions.checked(**({"dataset": dataset, "out": folder / "runs"} | few | fields))


def test_workers_learn_what_this_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", CHUNK_ROWS * DIM)
    notes = Notes()
    here, there = (
        sweep(options(tmp_path, k="4", **FUSED, scheduler=scheduler, out=tmp_path / name), notes)
        for name, scheduler in (("here", ""), ("there", "processes:2"))
    )
    assert numbers_of(there["experiment"]) == numbers_of(here["experiment"])
    assert sum(line.endswith("; all rows stay there") for line in notes.lines) == 2


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("mode", ["nested", "full", "minibatch"])
@pytest.mark.parametrize("kernels", ["plain", "torch", "fused"])
def test_a_cap_that_is_too_small_is_refused_and_the_named_one_suffices(
    kernels: str, mode: str, tmp_path: Path
) -> None:
    fields = {"mode": mode, "breathing": 1, "max_iter": 1, "k": "4"} | take_kernels(kernels)
    with pytest.raises(MemoryBudgetError) as caught:
        sweep(options(tmp_path, **fields, device_memory="900"))
    told = re.fullmatch(
        r"fitting K = 4 needs [\d.]+ [KM]iB of device memory, more than the cap of 900 B:"
        r" raise it \(DEVICE_MEMORY=(\d+MiB)\), end other processes on the device, or ask for less",
        str(caught.value),
    )
    assert told, str(caught.value)
    assert not list(tmp_path.rglob("dictionaries.zarr"))
    (entry,) = sweep(options(tmp_path, **fields, device_memory=told[1]))["dictionaries"]
    assert not entry["reused"]


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("mode", ["full", "minibatch"])
@pytest.mark.parametrize("cap", [None, "2MiB", "1600KiB"])
def test_what_is_taken_of_a_device_is_told_with_held_out_rows(
    mode: str, cap: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, run_pass = [], DeviceEngine.run_pass

    def noting(self: DeviceEngine, *rest: Any) -> Any:
        found = run_pass(self, *rest)
        taken.append(self._plan.fixed + sum(one.nbytes for one in self._caches))
        return found

    monkeypatch.setattr(DeviceEngine, "run_pass", noting)
    fields = {"k": "2", "mode": mode, "max_iter": 1} | take_kernels("plain")
    notes = Notes()
    sweep(SweepOptions.checked(out=tmp_path, device_memory=cap, **fields), notes)
    told = next(line for line in notes.lines if line.startswith("device memory: "))
    assert told.startswith(f"device memory: {in_words(max(taken))} at most, ")


def test_all_that_reads_dictionaries_takes_them(tmp_path: Path) -> None:
    notes = Notes()
    result = sweep(options(tmp_path, **FUSED), notes)
    out = tmp_path / "runs"
    assert any(line.endswith(", engine fused") for line in notes.lines)
    for node in numbers_of(result["experiment"]).values():
        assert (node["engine"], node["device"][: len(DEVICE)]) == ("fused", DEVICE)
    (listed,) = take_inventory(out)["experiments"]
    assert [entry["k"] for entry in listed["dictionaries"]] == [4, 9]
    assert listed["unfinished"] == []
    assert verify(out, SilentProgress())["ok"]
    (written,) = report(out)
    page = Path(written["report"]).read_text()
    assert f"on {DEVICE}" in page
    # Another engine finds them finished.
    again = sweep(options(tmp_path, engine="pruned", device="cpu"))
    assert [entry["reused"] for entry in again["dictionaries"]] == [True, True]


def sweep_on_torch_kernels(fields: dict[str, Any]) -> None:
    """What the killed processes do."""
    sweep_in_small_chunks(fields | take_kernels("torch"))


@pytest.mark.slow
@pytest.mark.usefixtures("stand_ins")
def test_kills(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, __name__, "pipeline.engines.device.dense_kernels"])

    def forking(fields: dict[str, Any]) -> Forked:
        return Forked(context.Process(target=sweep_on_torch_kernels, args=(fields,)))

    take_kernels("torch")
    kernels = FusedSpec("fused", CPU, 25, np.dtype("u1")).kernels()
    half = kernels.device_bytes(60) + (1 << 20)  # 60: with those on trial
    fields = {"k": "5,40", "breathing": 2, "max_iter": 30, "device_memory": half}
    assert killed_sweeps(fields, forking, tmp_path, at_least=30) >= 30


@pytest.mark.slow
def test_ctrl_c_ends_with_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "pipeline", "sweep", "--dataset", str(write_images(tmp_path))]
    line += ["--patch", "3", "--k", "9", "--mode", "full", "--tol", "0", "--max-iter", "30"]
    line += ["--engine", "fused", "--device", DEVICE, "--memory", MEMORY, "--out", str(tmp_path)]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("*/k00009*.unfinished.npz")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert "run the same command again" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    again = subprocess.run(line, capture_output=True, text=True, check=False, timeout=240)
    assert again.returncode == 0, again.stderr
    assert "goes on after pass" in again.stderr
    (found,) = tmp_path.glob("*/dictionaries.zarr")
    fields = {"k": "9", "tol": 0, "max_iter": 30, "engine": "torch", "device": "cpu"}
    expected = sweep(options(tmp_path, **fields, out=tmp_path / "whole"))
    for name, node in numbers_of(expected["experiment"]).items():
        mine = numbers_of(found.parent)[name]
        assert all(mine[key] == node[key] for key in node if key not in ("engine", "device"))
