"""What devices raise, and devices that are not there: one clear line each."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import pipeline.runtime.memory
from pipeline import StreamingKMeans, assign
from pipeline.config import FitOptions
from pipeline.engines import EngineSpec
from pipeline.execution.scheduler import Scheduler
from pipeline.kmeans.plan import FitPlan
from pipeline.rows.source import ArraySource
from pipeline.runtime.devices import CPU, Device, device_errors
from storage import DeviceError, InputError, MemoryBudgetError
from tests.device_kernels import PlainKernels
from tests.device_sweeps import own_kernels, take_fused
from tests.programs import run_python

CUDA = Device("cuda", 0)
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
    done = run_python("-c", PROGRAM, "fit", *options, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "error: cpu failed (CUDA error: the GPU has fallen off the bus): run the same command"
        " again, a fit goes on from its last pass; if it fails again, choose another DEVICE"
    )
    assert "Traceback" not in done.stderr
