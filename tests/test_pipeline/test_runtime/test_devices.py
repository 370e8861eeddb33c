"""Which device is there, and what of its memory may be taken."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.runtime import devices
from pipeline.runtime.devices import CPU, Device, device_budget, resolve_device
from storage import InputError
from tests.programs import run_python

CUDA = Device("cuda", 0)


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
    done = run_python("-c", program)
    assert done.stdout == "False\n", done.stderr


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
