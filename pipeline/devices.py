"""Which device computes."""

import os

import numpy as np
import torch

from storage.errors import InputError

CPU = torch.device("cpu")
DEVICES = ("auto", "cpu", "cuda", "mps")
NARROW = frozenset({"mps"})  # without float64, and without sums by index in 64 bits


def resolve_device(name: str, dtype: np.dtype | None = None) -> torch.device:
    """The torch device of this name; "auto" is CUDA, then Apple MPS, then the CPU.

    dtype: of the rows; "auto" passes over MPS for float64, which it has not.
    Raises: InputError when the device is unknown or absent; another one is never taken instead.
    """
    kind, _, _ = name.partition(":")
    if kind not in DEVICES:
        raise InputError(f"no device {name!r}: use {', '.join(DEVICES)}")
    if kind == "auto":
        mps = torch.backends.mps.is_available() and dtype != np.float64
        return torch.device("cuda" if _has_cuda() else "mps" if mps else "cpu")
    if kind == "cuda" and not _has_cuda():
        raise InputError(
            f"device {name} is not there: torch {torch.__version__} finds no CUDA GPU; use cpu"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"device {name} is not there: this is no Mac with a Metal GPU; use cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name} cannot be used ({reason}); use cpu") from error
    return device


def has_float64(device: torch.device) -> bool:
    """Whether the device computes in 64 bits: all but Apple's."""
    return device.type not in NARROW


def thread_count() -> int:
    """Threads that compute on the CPU: OMP_NUM_THREADS where set, else the cores we may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):  # absent on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _has_cuda() -> bool:
    return bool(torch.cuda.is_available())
