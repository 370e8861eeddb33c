"""Which device computes, what of its memory we may take, and what it means when it fails."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psutil
import torch

from storage.errors import DeviceError, InputError, MemoryBudgetError

CPU = torch.device("cpu")
DEVICES = ("auto", "cpu", "cuda", "mps")
NARROW = frozenset({"mps"})  # without float64, and without sums by index in 64 bits
FREE_SHARE = 0.8  # of what is free on a device, where no cap is given
# torch raises errors of their own for these from 2.8 on, and plain ones with such words before
ACCELERATOR_ERROR = getattr(torch, "AcceleratorError", torch.OutOfMemoryError)
_OUT_OF_MEMORY = ("out of memory", "cudaErrorMemoryAllocation", "CUBLAS_STATUS_ALLOC_FAILED")
_FAILED = ("CUDA error", "CUDA driver error", "[CUDA]", "cuDNN error", "CUBLAS_STATUS", "MPS ")


def resolve_device(name: str, dtype: np.dtype | None = None) -> torch.device:
    """The torch device of this name; "auto" is CUDA, then Apple MPS, then the CPU.

    The device is started, so that what its drivers take of the host's memory is there to be seen.
    dtype: of the rows; "auto" passes over MPS for float64, which it has not.
    Raises: InputError when the device is unknown or absent; another one is never taken instead.
    """
    kind, _, number = name.partition(":")
    if kind not in DEVICES or (number and not number.isdecimal()):
        raise InputError(f"no device {name!r}: use {', '.join(DEVICES)}, or cuda:1 and so on")
    if kind == "auto":
        mps = torch.backends.mps.is_available() and dtype != np.float64
        name = kind = "cuda" if _has_cuda() else "mps" if mps else "cpu"
    if kind == "cpu":
        return CPU
    if kind == "cuda":
        _require_cuda(name, number)
    elif not torch.backends.mps.is_available():
        raise InputError(f"device {name} is not there: this is no Mac with a Metal GPU; use cpu")
    try:
        device = torch.device(name)
        if kind == "cuda" and not number:
            device = torch.device("cuda", torch.cuda.current_device())
        _start(device)
    except RuntimeError as error:
        reason = first_line(str(error))
        raise InputError(f"device {name} cannot be used ({reason}); use cpu") from error
    return device


def _start(device: torch.device) -> None:
    torch.zeros(1, device=device).cpu()


def has_float64(device: torch.device) -> bool:
    """Whether the device computes in 64 bits: all but Apple's."""
    return device.type not in NARROW


def _require_cuda(name: str, number: str) -> None:
    version = torch.__version__
    if not _has_cuda() and not (torch.version.cuda or torch.version.hip):
        plain = version.partition("+")[0]
        raise InputError(
            f"device {name} is not there: torch {version} is a build for the CPU alone; install"
            f" the CUDA build of the same version (pip install --force-reinstall torch=={plain},"
            " from the index that has it), or use cpu"
        )
    if not _has_cuda():
        raise InputError(
            f"device {name} is not there: torch {version}, built for CUDA {torch.version.cuda},"
            " finds no GPU or no driver (see nvidia-smi and CUDA_VISIBLE_DEVICES); use cpu"
        )
    count = torch.cuda.device_count()
    if number and int(number) >= count:
        there = "cuda:0 alone" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise InputError(f"device {name} is not there: this machine has {there}")


def device_budget(device: torch.device, cap: int | None) -> int:
    """Bytes of a device's memory that may be taken.

    cap: so many at most; None: FREE_SHARE of what is free. What torch keeps of an earlier engine's
    is given back first: it would be missing from what is free.
    """
    give_back(device)
    free = _free_bytes(device)
    return int(FREE_SHARE * free) if cap is None else min(cap, free)


def give_back(device: torch.device) -> None:
    """What torch holds of freed memory goes back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        taken = torch.mps.driver_allocated_memory()
        return max(int(torch.mps.recommended_max_memory() - taken), 0)
    return int(psutil.virtual_memory().available)  # where tests run


@contextmanager
def device_errors(device: torch.device) -> Iterator[None]:
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
        if isinstance(error, torch.OutOfMemoryError) or any(w in text for w in _OUT_OF_MEMORY):
            raise MemoryBudgetError(
                f"{device} is out of memory: end other processes on it, or lower DEVICE_MEMORY, and"
                " run the same command again, a fit goes on from its last pass"
            ) from error
        if isinstance(error, ACCELERATOR_ERROR) or any(w in text for w in _FAILED):
            raise DeviceError(
                f"{device} failed ({first_line(text)}): run the same command again, a fit goes on"
                " from its last pass; if it fails again, choose another DEVICE"
            ) from error
        raise


def thread_count() -> int:
    """Threads that compute on the CPU: OMP_NUM_THREADS where set, else the cores we may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):  # absent on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def first_line(text: str) -> str:
    """Of a message of several."""
    return text.strip().partition("\n")[0]


def _has_cuda() -> bool:
    return bool(torch.cuda.is_available())
