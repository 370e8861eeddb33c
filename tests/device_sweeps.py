"""Sweeps whose rows lie on a device, so small that some chunks and pieces make a store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import SweepOptions
from pipeline.engines.device import plan as device_plan
from pipeline.engines.device.dense_kernels import TorchKernels
from pipeline.engines.device.kernels import DeviceKernels
from pipeline.engines.device.plan import DevicePlan, plan_device
from pipeline.engines.device.spec import FusedSpec
from pipeline.kmeans import nested
from pipeline.kmeans.breathing import most_centroids
from pipeline.runtime.devices import Device
from storage.patch_spec import chunk_rows
from tests.device_kernels import PlainKernels

CUDA = torch.cuda.is_available()


class CudaKernels(TorchKernels):
    """Adds bytes as on a GPU, though it is none."""

    def __init__(self, *rest: Any) -> None:
        super().__init__(*rest)
        self.sums_bytes = True


STANDINS = {"plain": PlainKernels, "torch": CudaKernels}
N_ROWS, DIM, CHUNK_ROWS = 1440, 9, 256  # rows of bytes; of a type of m bytes CHUNK_ROWS / m


def take_fused(kind: Callable[..., DeviceKernels]) -> None:
    """The fused engine runs everywhere, with these kernels."""

    def kernels(self: FusedSpec) -> DeviceKernels:
        return kind(self.device.torch, self.dim, self.dtype)

    FusedSpec.kernels, FusedSpec.problem = kernels, lambda self: ""  # type: ignore[method-assign]


@contextmanager
def own_kernels() -> Iterator[None]:
    """What `take_fused` changes in here is as it was afterwards."""
    before = FusedSpec.kernels, FusedSpec.problem
    try:
        yield
    finally:
        FusedSpec.kernels, FusedSpec.problem = before  # type: ignore[method-assign]


def take_kernels(name: str) -> dict[str, Any]:
    """From here on the fused engine has these kernels; returns the options that ask for them.

    plain and torch stand in for them on the CPU; fused are its own, on a GPU where there is one,
    else in Triton's interpreter.
    """
    if name == "fused":
        return {"engine": "fused", "device": "cuda" if CUDA else "cpu"}
    take_fused(STANDINS[name])
    return {"engine": "fused", "device": "cpu"}


def cut_small(patch: pytest.MonkeyPatch) -> None:
    """Chunks of CHUNK_ROWS, pieces of half a chunk at most, prefixes and moves of as few rows."""
    patch.setattr("storage.patch_spec.CHUNK_BYTES", CHUNK_ROWS * DIM)
    patch.setattr(device_plan, "PIECE_BYTES", CHUNK_ROWS * DIM // 2)
    patch.setattr("pipeline.engines.ordered_sums.MAX_PIECE_ROWS", 20)
    patch.setattr(nested, "FIRST_ROWS", 300)
    patch.setattr(nested, "FIRST_PER_CENTROID", 5)
    patch.setattr(nested, "MOVE_ROWS", 700)
    patch.setattr(nested, "MOVE_PER_CENTROID", 10)


def write_images(folder: Path, dtype: str = "uint8") -> Path:
    """40 images whose 3×3 patches make N_ROWS rows of DIM values.

    Of this seed no row comes as near to a border between two centroids as the rounding of float32,
    so that engines that compute in it find what float64 finds.
    """
    path = folder / f"{dtype}.npy"
    pixels = np.random.default_rng(9).integers(1, 256, (40, 8, 8))
    largest = {"uint8": 255, "uint16": 255, "float32": 1}[dtype]
    np.save(path, (pixels * (largest / 255)).astype(dtype))
    return path


def budget_for(share: float, options: SweepOptions, dtype: str, device: str) -> int:
    """Bytes of a device with which this share of the rows stays, or a little more."""
    itemsize, most = np.dtype(dtype).itemsize, most_centroids(max(options.sizes), options)
    spec = FusedSpec("fused", Device(device), DIM, np.dtype(dtype))
    kernels = spec.kernels()
    fixed = kernels.device_bytes(most)

    def plan(budget: int) -> DevicePlan:
        keeps_labels = kernels.sums_bytes and itemsize == 1
        return plan_device(budget, fixed, most, DIM, itemsize, keeps_labels=keeps_labels)

    budget = plan(0).least
    while plan(budget).room(N_ROWS, chunk_rows(DIM, itemsize)) < share * N_ROWS:
        budget += 256
    return budget
