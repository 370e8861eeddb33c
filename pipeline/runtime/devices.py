"""Which device computes, what of its memory we may take, and what it means when it fails.

Nothing here imports torch before a device other than the CPU is spoken of: it takes seconds and
200 MiB that a run on a CPU does not need.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import psutil

from storage.errors import DeviceError, InputError, MemoryBudgetError, shortened

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
NARROW = frozenset({"mps"})  # without float64, and without sums by index in 64 bits
FREE_SHARE = 0.8  # of what is free on a device, where no cap is given
_OUT_OF_MEMORY = ("out of memory", "cudaErrorMemoryAllocation", "CUBLAS_STATUS_ALLOC_FAILED")
_FAILED = ("CUDA error", "CUDA driver error", "[CUDA]", "cuDNN error", "CUBLAS_STATUS", "MPS ")


@dataclass(frozen=True)
class Device:
    """A device that computes; `str` gives its name, as in cuda:0.

    type: "cpu", "cuda" or "mps". index: which of several; None: the only one.
    """

    type: str
    index: int | None = None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    @property
    def torch(self) -> "torch.device":
        """The same for torch, which is imported for it."""
        import torch

        return torch.device(str(self))


CPU = Device("cpu")


def resolve_device(name: str, dtype: np.dtype | None = None) -> Device:
    """The device of this name; "auto" is CUDA, then Apple MPS, then the CPU.

    The device is started, so that what its drivers take of the host's memory is there to be seen.
    torch is imported unless the CPU is asked for, or this machine can have no GPU.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1" and so on, or "mps".
        dtype: of the rows; "auto" passes over MPS for float64, which it has not.

    Raises:
        InputError: when the device is unknown or absent; another one is never taken instead.
    """
    kind, _, number = name.partition(":")
    if kind not in DEVICES or (number and not number.isdecimal()):
        known = ", ".join(DEVICES)
        raise InputError(f"no device {shortened(name)}: use {known}, or cuda:1 and so on")
    if kind == "cpu" or (kind == "auto" and not gpu_possible()):
        return CPU
    import torch

    if kind == "auto":
        mps = has_metal() and dtype != np.float64
        name = kind = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if kind == "cpu":
        return CPU
    if kind == "cuda":
        _require_cuda(name, number)
    elif not has_metal():
        raise InputError(f"device {name} is not there: this is no Mac with a Metal GPU; use cpu")
    try:
        device = Device(kind, int(number) if number else None)
        if kind == "cuda" and not number:
            device = Device(kind, torch.cuda.current_device())
        _start(device)
    except RuntimeError as error:
        reason = first_line(str(error))
        raise InputError(f"device {name} cannot be used ({reason}); use cpu") from error
    return device


@cache
def gpu_possible() -> bool:
    """Whether torch may find a GPU here, as far as that can be told without importing it."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    build = version("torch").partition("+")[2]
    if build == "cpu":
        return False
    if build.startswith("rocm"):
        return True
    driver = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(driver)
    except OSError:
        return False
    return True


def has_metal() -> bool:
    """Whether this is a Mac with a GPU that torch can use."""
    if not gpu_possible():
        return False
    import torch

    return bool(torch.backends.mps.is_available())


def _start(device: Device) -> None:
    import torch

    torch.zeros(1, device=device.torch).cpu()


def has_float64(device: "Device | torch.device") -> bool:
    """Whether the device computes in 64 bits: all but Apple's."""
    return device.type not in NARROW


def _require_cuda(name: str, number: str) -> None:
    import torch

    build, there = torch.__version__, torch.cuda.is_available()
    if not there and not (torch.version.cuda or torch.version.hip):
        plain = build.partition("+")[0]
        raise InputError(
            f"device {name} is not there: torch {build} is a build for the CPU alone; install"
            f" the CUDA build of the same version (pip install --force-reinstall torch=={plain},"
            " from the index that has it), or use cpu"
        )
    if not there:
        raise InputError(
            f"device {name} is not there: torch {build}, built for CUDA {torch.version.cuda},"
            " finds no GPU or no driver (see nvidia-smi and CUDA_VISIBLE_DEVICES); use cpu"
        )
    count = torch.cuda.device_count()
    if number and int(number) >= count:
        found = "cuda:0 alone" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise InputError(f"device {name} is not there: this machine has {found}")


def device_budget(device: Device, cap: int | None) -> int:
    """Bytes of a device's memory that may be taken.

    cap: so many at most; None: FREE_SHARE of what is free. What torch keeps of an earlier engine's
    is given back first: it would be missing from what is free.
    """
    give_back(device)
    free = _free_bytes(device)
    return int(FREE_SHARE * free) if cap is None else min(cap, free)


def device_identity(device: Device) -> str:
    """A name that tells a device from others of its machine, in whatever process it is cuda:0."""
    if device.type != "cuda":
        return device.type
    import torch

    return f"GPU {torch.cuda.get_device_properties(str(device)).uuid}"


def give_back(device: "Device | torch.device") -> None:
    """What torch holds of freed memory goes back to the device."""
    if device.type == "cpu":
        return
    import torch

    (torch.mps if device.type == "mps" else torch.cuda).empty_cache()


def _free_bytes(device: Device) -> int:
    if device.type == "cpu":  # where tests run
        return int(psutil.virtual_memory().available)
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(str(device))[0])
    taken = torch.mps.driver_allocated_memory()
    return max(int(torch.mps.recommended_max_memory() - taken), 0)


@contextmanager
def device_errors(device: "Device | torch.device") -> Iterator[None]:
    """What a device raises in here becomes one clear line.

    Raises: MemoryBudgetError where its memory is used up; DeviceError where it fails, or Triton
        does.
    """
    try:
        yield
    except Exception as error:  # Triton's are kin of none, and it is not loaded for their sake
        text = str(error)
        if type(error).__module__.partition(".")[0] == "triton":
            raise DeviceError(
                f"Triton has no kernel for {device} ({first_line(text)}): choose ENGINE=torch"
            ) from error
        if not isinstance(error, RuntimeError):
            raise
        import torch  # an error of its own is what asks for it

        if isinstance(error, torch.OutOfMemoryError) or any(w in text for w in _OUT_OF_MEMORY):
            raise MemoryBudgetError(
                f"{device} is out of memory: end other processes on it, or lower DEVICE_MEMORY, and"
                " run the same command again, a fit goes on from its last pass"
            ) from error
        if isinstance(error, accelerator_error()) or any(w in text for w in _FAILED):
            raise DeviceError(
                f"{device} failed ({first_line(text)}): run the same command again, a fit goes on"
                " from its last pass; if it fails again, choose another DEVICE"
            ) from error
        raise


def accelerator_error() -> type[Exception]:
    """What torch raises where a device failed: from 2.8 on a kind of its own."""
    import torch

    return getattr(torch, "AcceleratorError", torch.OutOfMemoryError)


_threads: int | None = None  # that were asked for by `use_threads`


def use_threads(count: int) -> None:
    """From now on so many threads compute in this process, whatever OMP_NUM_THREADS says.

    It is for workers of Dask, whose nannies set that to 1 however many threads they were given.
    """
    global _threads
    _threads = count


def thread_count() -> int:
    """Threads that compute on the CPU.

    Those of `use_threads`, else OMP_NUM_THREADS where set, else the cores we may use.
    """
    if _threads is not None:
        return _threads
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):  # absent on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def first_line(text: str) -> str:
    """Of a message of several."""
    return text.strip().partition("\n")[0]
