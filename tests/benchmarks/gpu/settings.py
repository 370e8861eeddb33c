"""What is measured, how large and how long."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.engines.device.kernels import DeviceKernels

MNIST = Path(__file__).parents[3].parent / "shared" / "data" / "mnist"
STUDY = (
    *range(100, 1001, 100),
    *range(2000, 10001, 1000),
)  # of pipeline.config, which needs pydantic


@dataclass(frozen=True)
class Settings:
    """One field for each option; rows are the most that a part takes.

    matrix: side of the matrices of the ceilings. copied: bytes of their copies. products: most
    rows · K · d of one measurement. seconds: for all parts together.
    """

    device: str = "cuda"
    kernels: str = "auto"
    k: tuple[int, ...] = (100, 1000, 10000)
    dims: tuple[int, ...] = (25, 81, 147)
    rows: int = 1 << 23
    checked_rows: int = 1_000_000
    products: int = 2_000_000_000_000
    repeats: int = 5
    matrix: int = 8192
    copied: int = 1 << 30
    study_k: tuple[int, ...] = STUDY
    study_rows: int = 1 << 62
    study_iterations: int = 100
    study_seconds: int = 240
    tuning_seconds: int = 60
    seconds: int = 570
    mnist: Path = Path(os.environ.get("MNIST_DIR", MNIST))

    @property
    def torch_device(self) -> torch.device:
        """With its number, as tensors have it."""
        if self.device == "cuda":
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device(self.device)


NOT_QUICK = ("nested", "tuning")  # parts that take long to compile
QUICK = {
    "rows": 1 << 20,
    "checked_rows": 100_000,
    "products": 100_000_000_000,
    "repeats": 3,
    "matrix": 4096,
    "copied": 1 << 28,
    "study_k": (100, 1000),
    "study_rows": 1 << 21,
    "study_iterations": 10,
    "study_seconds": 10,
    "tuning_seconds": 5,
    "seconds": 58,
}


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers of "100,1000"."""
    return tuple(int(number) for number in text.split(","))


def parser() -> argparse.ArgumentParser:
    """Options of the command line: one for each field of `Settings`, and which parts."""
    found = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gpu",
        description="Measure correctness, rates, streaming and the study on a GPU, against its"
        " ceilings and peers.",
    )
    found.add_argument("--only", help="parts, as in ceilings,rates; default: all")
    found.add_argument("--quick", action="store_true", help="small sizes, less than a minute")
    found.add_argument("--part", help=argparse.SUPPRESS)  # run in this process, by the one above
    found.add_argument("--shared", type=Path, help=argparse.SUPPRESS)  # folder of all parts
    for name, value in vars(Settings()).items():
        several, text = isinstance(value, tuple), str(value)
        found.add_argument(
            f"--{name.replace('_', '-')}",
            type=numbers if several else type(value) if type(value) in (int, str) else Path,
            help="default: " + (",".join(map(str, value)) if several else text),
        )
    return found


def settings_of(options: argparse.Namespace) -> Settings:
    """Defaults, or those of `--quick`, and what was given instead."""
    quick = QUICK if options.quick else {}
    given = {name: getattr(options, name) for name in Settings.__dataclass_fields__}
    return Settings(**(quick | {name: value for name, value in given.items() if value is not None}))


def arguments(options: argparse.Namespace) -> list[str]:
    """The same options for a process that runs one part."""
    found = ["--quick"] if options.quick else []
    for name in Settings.__dataclass_fields__:
        value = getattr(options, name)
        if value is not None:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            found += [f"--{name.replace('_', '-')}", text]
    return found


def kernels_name(settings: Settings) -> str:
    """Fused where Triton runs: on CUDA, or interpreted on a CPU."""
    if settings.kernels != "auto":
        return settings.kernels
    try:
        import triton  # noqa: F401, not everywhere
    except ImportError:
        return "torch"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return "fused" if settings.device.startswith("cuda") or interpreted else "torch"


def make_kernels(settings: Settings, dim: int, dtype: np.dtype) -> DeviceKernels:
    """Those that are asked for, for rows of a type and dimension."""
    name, device = kernels_name(settings), settings.torch_device
    if name == "fused":
        from pipeline.engines.device.fused_search import FusedKernels  # needs Triton

        return FusedKernels(device, dim, np.dtype(dtype))
    if name == "torch":
        from pipeline.engines.device.dense_kernels import TorchKernels

        return TorchKernels(device, dim, np.dtype(dtype))
    raise SystemExit(f"no kernels {name!r}: use auto, fused or torch")
