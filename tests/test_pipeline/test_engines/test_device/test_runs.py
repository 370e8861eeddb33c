"""Runs with the engine of devices as people start them: workers, caps, kills, what reads them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import report
from pipeline import SweepOptions, sweep
from pipeline.engines.device.engine import DeviceEngine
from pipeline.runtime.memory import in_words
from pipeline.runtime.progress import SilentProgress
from pipeline.upkeep.status import take_inventory
from pipeline.upkeep.verify import verify
from storage import MemoryBudgetError
from tests.device_sweeps import CHUNK_ROWS, CUDA, DIM, own_kernels, take_kernels, write_images
from tests.notes import Notes
from tests.stored_numbers import numbers_of

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
        for name, scheduler in (("here", ""), ("there", "processes:1"))
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

    def noting(self: DeviceEngine, *rest: Any, **more: Any) -> Any:
        found = run_pass(self, *rest, **more)
        taken.append(self._plan.fixed + sum(one.nbytes for one in self._caches))
        return found

    monkeypatch.setattr(DeviceEngine, "run_pass", noting)
    fields = {"k": "2", "mode": mode, "max_iter": 1} | take_kernels("plain")
    notes = Notes()
    sweep(SweepOptions.checked(out=tmp_path, device_memory=cap, **fields), notes)
    told = next(line for line in notes.lines if line.startswith("device memory: "))
    assert told.startswith(f"device memory: {in_words(max(taken))} at most, ")


@pytest.mark.usefixtures("undrawn")
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
