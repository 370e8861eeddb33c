"""What devices raise, and devices that are not there: one clear line each."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import pipeline.runtime.memory
from pipeline import StreamingKMeans, SweepOptions, assign, sweep
from pipeline.config import FitOptions
from pipeline.engines import EngineSpec
from pipeline.execution.scheduler import Scheduler
from pipeline.kmeans import checkpoint
from pipeline.kmeans.plan import FitPlan
from pipeline.rows.source import ArraySource
from pipeline.runtime import devices
from pipeline.runtime.devices import CPU, Device, device_budget, device_errors, resolve_device
from storage import DeviceError, InputError, MemoryBudgetError
from tests.device_kernels import PlainKernels
from tests.device_sweeps import own_kernels, take_fused
from tests.stored_numbers import numbers_of

CUDA = Device("cuda", 0)
ROOT = Path(__file__).parents[4]
LOST = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryBudgetError, "lower DEVICE_ME"),
        (RuntimeError("MPS backend out of memory (MPS"), MemoryBudgetError, "end other processes"),
        (torch.AcceleratorError(LOST), DeviceError, r"failed \(CUDA error: an illegal memory acc"),
        (torch.AcceleratorError("CUDA error: out of memory"), MemoryBudgetError, "out of memory"),
        (RuntimeError("Triton Error [CUDA]: device-side"), DeviceError, "goes on from its last"),
        (RuntimeError(LOST), DeviceError, "run the same command again"),
    ],
)
def test_what_a_device_raises_is_one_line(
    raised: BaseException, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught, device_errors(CUDA):
        raise raised
    assert "\n" not in str(caught.value)
    assert "cuda:0" in str(caught.value)
    assert caught.value.__cause__ is raised


def test_what_triton_raises_is_one_line() -> None:
    errors = pytest.importorskip("triton.runtime.errors", reason="Triton is not installed")
    message = r"^Triton has no kernel for cuda:0 \(out of resource: shared memory.*ENGINE=torch$"
    with pytest.raises(DeviceError, match=message), device_errors(CUDA):
        raise errors.OutOfResources(300_000, 200_000, "shared memory")


def test_auto_passes_over_a_triton_that_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = pytest.importorskip(
        "pipeline.engines.device.fused_sums", reason="Triton is not installed"
    )
    monkeypatch.setattr(fused, "triton_problem", lambda device: "Triton finds no C compiler")
    found = EngineSpec.resolve("auto", CUDA, 25, np.dtype(np.uint8))
    assert found.name == "torch"
    assert found.why == "as Triton finds no C compiler"
    with pytest.raises(InputError, match="cannot be used, as Triton finds no C compiler"):
        EngineSpec.resolve("fused", CUDA, 25, np.dtype(np.uint8))
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert (
        EngineSpec.resolve("auto", CUDA, 25, np.dtype(np.uint8)).why
        == "as its kernels are for NVIDIA's GPUs"
    )


@pytest.mark.parametrize(
    "raised", [RuntimeError("of our own"), ValueError("CUDA error"), OSError()]
)
def test_other_errors_pass_through(raised: Exception) -> None:
    with pytest.raises(type(raised)) as caught, device_errors(CUDA):
        raise raised
    assert caught.value is raised


def pretend(
    monkeypatch: pytest.MonkeyPatch, *, gpus: int = 0, cuda: str | None = None, mps: bool = False
) -> None:
    """A torch that was built for this CUDA, or for none, and sees so many GPUs, or Metal."""
    monkeypatch.setattr(devices, "gpu_possible", lambda: gpus > 0 or mps)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None, raising=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("name", "torch_of", "message"),
    [
        ("gpu", {}, "no device 'gpu': use auto, cpu, cuda, mps"),
        ("cuda:one", {}, "no device 'cuda:one'"),
        ("cuda:-1", {}, "no device 'cuda:-1'"),
        ("cuda", {}, r"a build for the CPU alone; install .*--force-reinstall torch==2[.0-9]+,"),
        ("cuda:3", {}, "a build for the CPU alone"),
        ("cuda", {"cuda": "12.8"}, "built for CUDA 12.8, finds no GPU or no driver"),
        ("cuda:9", {"cuda": "12.8", "gpus": 1}, "this machine has cuda:0 alone"),
        ("cuda:9", {"cuda": "12.8", "gpus": 4}, "this machine has cuda:0 to cuda:3"),
        ("cuda:0", {"cuda": "12.8", "gpus": 1}, "cannot be used .*; use cpu"),
        ("mps", {}, "no Mac with a Metal GPU"),
    ],
)
def test_a_device_that_is_not_there(
    name: str, torch_of: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("of the driver\nand more")

    pretend(monkeypatch, **torch_of)
    monkeypatch.setattr(torch, "zeros", fails)
    with pytest.raises(InputError, match=message) as caught:
        resolve_device(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("system", "processor", "build", "driver", "possible"),
    [
        ("linux", "x86_64", "2.13.0+cpu", True, False),
        ("linux", "x86_64", "2.13.0", True, True),
        ("linux", "x86_64", "2.13.0+cu128", False, False),
        ("linux", "x86_64", "2.13.0+rocm6.4", False, True),
        ("win32", "AMD64", "2.13.0+cu128", True, True),
        ("darwin", "arm64", "2.13.0", False, True),
        ("darwin", "x86_64", "2.2.2", False, False),
    ],
)
def test_whether_there_can_be_a_gpu_is_known_without_torch(
    system: str, processor: str, build: str, driver: bool, possible: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def load(name: str) -> None:
        assert name == ("nvcuda.dll" if system == "win32" else "libcuda.so.1")
        if not driver:
            raise OSError

    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: processor)
    monkeypatch.setattr(devices, "version", lambda package: build)
    monkeypatch.setattr("ctypes.CDLL", load)
    assert devices.gpu_possible.__wrapped__() is possible


def test_a_run_on_a_cpu_does_not_load_torch() -> None:
    program = """
import sys
import numpy as np
from pipeline.engines import EngineSpec
from pipeline.engines.nearest import assign
from pipeline.runtime import devices, machine
devices.gpu_possible = lambda: False
rows = np.arange(40, dtype=np.uint8).reshape(20, 2)
assert assign(rows, rows[::5].astype(np.float32)).tolist()[-1] == 3
spec = EngineSpec.resolve("auto", devices.resolve_device("auto"), 2, rows.dtype)
assert machine.place("auto", spec) == "on cpu: no CUDA GPU or Metal found; engine pruned"
print("torch" in sys.modules)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n"


def test_auto_takes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def zeros(*_: Any, device: torch.device) -> Any:
        started.append(str(device))
        return SimpleNamespace(cpu=lambda: None)

    monkeypatch.setattr(torch, "zeros", zeros)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    pretend(monkeypatch, gpus=2, cuda="12.8", mps=True)
    assert str(resolve_device("auto")) == "cuda:1"
    assert str(resolve_device("cuda:0")) == "cuda:0"
    pretend(monkeypatch, mps=True)
    assert resolve_device("auto", np.dtype(np.uint8)).type == "mps"
    assert resolve_device("auto", np.dtype(np.float64)).type == "cpu"
    pretend(monkeypatch)
    assert resolve_device("auto").type == "cpu"
    # its drivers' share of the host's memory is there before anything is projected
    assert started == ["cuda:1", "cuda:0", "mps"]


def test_the_budget_is_the_cap_or_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    assert device_budget(CUDA, None) == 800
    assert device_budget(CUDA, 500) == 500
    assert device_budget(CUDA, 1500) == 1000
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 700)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 200)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: None)
    assert device_budget(Device("mps"), None) == 400
    assert device_budget(CPU, 123) == 123


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_memory_that_an_earlier_engine_left_is_free(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = 600

    def empty_cache() -> None:
        nonlocal kept
        kept = 0

    monkeypatch.setattr(getattr(torch, kind), "empty_cache", empty_cache)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000 - kept, 1000))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 1000)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: kept)
    assert device_budget(Device(kind), None) == 800


@pytest.fixture
def plain() -> Iterator[None]:
    """The fused engine is one of plain kernels on the CPU."""
    with own_kernels():
        take_fused(PlainKernels)
        yield


def test_prediction_and_assignment_tell_too(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (500, 4), dtype=np.uint8)
    km = StreamingKMeans(3, engine="fused", device="cpu", random_state=0).fit(rows)

    def fails(self: PlainKernels, rows: torch.Tensor, labels: torch.Tensor) -> None:
        raise torch.AcceleratorError(LOST)

    monkeypatch.setattr(PlainKernels, "label", fails)
    for call in (
        lambda: km.predict(rows),
        lambda: km.score(rows),
        lambda: km.partial_fit(rows),
        lambda: assign(rows, km.cluster_centers_, engine="fused", device="cpu"),
    ):
        with pytest.raises(DeviceError, match="cpu failed"):
            call()


def test_a_fit_goes_on_after_its_device_failed(
    plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SHARE", 1.0)
    fields = {"k": "8", "mode": "full", "max_iter": 6, "engine": "fused", "device": "cpu"}
    expected = sweep(SweepOptions.checked(out=tmp_path / "whole", **fields))
    label, asked = PlainKernels.label, 0

    def fails(self: PlainKernels, rows: torch.Tensor, labels: torch.Tensor) -> None:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise torch.AcceleratorError(LOST)
        label(self, rows, labels)

    monkeypatch.setattr(PlainKernels, "label", fails)
    options = SweepOptions.checked(out=tmp_path / "broken", **fields)
    with pytest.raises(DeviceError):
        sweep(options)
    found = sweep(options)
    passes = expected["dictionaries"][0]["passes"]
    assert asked == 4 + (passes - 3) + 1  # three passes were kept; one more for held-out rows
    assert numbers_of(found["experiment"]) == numbers_of(expected["experiment"])


def test_each_worker_has_the_drivers_too(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ArraySource(np.zeros((100, 4), np.uint8))
    monkeypatch.setattr(pipeline.runtime.memory, "resident", lambda: 3 << 30)
    monkeypatch.setattr(FitPlan, "_on_device", lambda plan, *_: plan)
    needed = {}
    for device, engine in ((CPU, "pruned"), (Device("cuda"), "fused")):
        spec, scheduler = (
            EngineSpec.resolve(engine, device, 4, source.dtype),
            Scheduler("processes:2"),
        )
        plan = FitPlan.make(source, [5], FitOptions(), spec, scheduler, memory=100 << 30)
        needed[device.type] = plan.projected or 0
    assert needed["cpu"] < 2 * (3 << 30)
    assert needed["cuda"] > 3 * (3 << 30)


PROGRAM = """
import sys, torch
from pipeline.kmeans.plan import FitPlan
from pipeline.execution.scheduler import Scheduler
from pipeline.rows.source import ArraySource
from tests.device_kernels import PlainKernels
from tests.device_sweeps import take_fused
take_fused(PlainKernels)
def fails(self, rows, labels):
    raise torch.AcceleratorError("CUDA error: the GPU has fallen off the bus\\nmore")
PlainKernels.label = fails
from pipeline.command_line import group, run
run(group)
"""


def test_the_command_line_ends_with_one_line_and_code_2(tmp_path: Path) -> None:
    options = ["--k", "5", "--out", str(tmp_path), "--engine", "fused", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "fit", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "error: cpu failed (CUDA error: the GPU has fallen off the bus): run the same command"
        " again, a fit goes on from its last pass; if it fails again, choose another DEVICE"
    )
    assert "Traceback" not in done.stderr
