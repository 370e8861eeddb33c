"""What the machine can do at most: copies and matrix products, measured in the same run."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tests.benchmarks.gpu.settings import Settings, kernels_name
from tests.benchmarks.gpu.timing import median_seconds
from tests.benchmarks.tables import number


@dataclass(frozen=True)
class Ceilings:
    """copy: bytes a second, read and written, on the device; host: from pinned memory to it.

    half, single, tf32: floating-point operations a second of a large matrix product; half sums up
    in float32.
    """

    copy: float
    host: float
    half: float
    single: float
    tf32: float

    @classmethod
    def read(cls, file: Path) -> "Ceilings | None":
        """Those of a part that ran before, if it came so far."""
        if not file.is_file():
            return None
        return cls(**json.loads(file.read_text()))

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self)))


def machine(settings: Settings) -> list[dict[str, str]]:
    """What this is measured on."""
    device = settings.torch_device
    rows = {"device": str(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        rows["device"] = properties.name
        rows["memory"] = f"{properties.total_memory / 2**30:.1f} GiB"
        rows["multiprocessors"] = str(properties.multi_processor_count)
        rows["compute capability"] = f"{properties.major}.{properties.minor}"
        rows["driver"] = _driver()
        rows["CUDA of torch"] = str(torch.version.cuda)
    rows["kernels"] = kernels_name(settings)
    rows["torch"], rows["numpy"] = torch.__version__, np.__version__
    rows["triton"] = _version_of("triton")
    rows["Python"] = platform.python_version()
    rows["processor"] = f"{_processor()}, {os.cpu_count()} cores"
    return [{"machine": name, "": value} for name, value in rows.items()]


def measure(settings: Settings) -> Ceilings:
    """Medians, on random data: zeros are faster than what is real."""
    device, repeats = settings.torch_device, settings.repeats
    source = torch.randint(0, 256, (settings.copied,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = 2 * settings.copied / median_seconds(device, partial(target.copy_, source), repeats)
    pinned = torch.randint(0, 256, (settings.copied,), dtype=torch.uint8)
    if device.type == "cuda":
        pinned = pinned.pin_memory()
    send = partial(target.copy_, pinned, non_blocking=True)
    to_device = median_seconds(device, send, repeats)
    del source, target, pinned, send
    operations = 2 * settings.matrix**3
    rates = {}
    for name, dtype, tf32 in (
        ("half", torch.float16, False),
        ("single", torch.float32, False),
        ("tf32", torch.float32, True),
    ):
        left, right = (
            torch.randn((settings.matrix, settings.matrix), device=device).to(dtype)
            for _ in range(2)
        )
        product = torch.empty_like(left)
        with precision(tf32=tf32):
            multiply = partial(torch.matmul, left, right, out=product)
            seconds = median_seconds(device, multiply, repeats)
        rates[name] = operations / seconds
    return Ceilings(copy, settings.copied / to_device, **rates)


def table(ceilings: Ceilings) -> list[dict[str, str]]:
    """A row for each."""
    rates = {
        "copy on the device, read + written": f"{number(ceilings.copy / 1e9)} GB/s",
        "host to device, pinned": f"{number(ceilings.host / 1e9)} GB/s",
        "float16 matrix product, sums in float32": f"{number(ceilings.half / 1e12)} TFLOP/s",
        "float32 matrix product": f"{number(ceilings.single / 1e12)} TFLOP/s",
        "TensorFloat-32 matrix product": f"{number(ceilings.tf32 / 1e12)} TFLOP/s",
    }
    return [{"ceiling": name, "measured": rate} for name, rate in rates.items()]


@contextmanager
def precision(*, tf32: bool) -> Iterator[None]:
    """Products of float32 in full, or in TensorFloat-32; of float16 with sums in float32."""
    matmul = torch.backends.cuda.matmul
    single, half = (
        torch.get_float32_matmul_precision(),
        (matmul.allow_fp16_reduced_precision_reduction),
    )
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    matmul.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(single)
        matmul.allow_fp16_reduced_precision_reduction = half


def _driver() -> str:
    """As the driver's own tool tells it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.splitlines()[0].strip()


def _version_of(module: str) -> str:
    try:
        return str(__import__(module).__version__)
    except ImportError:
        return "not installed"


def _processor() -> str:
    """Not `pipeline.runtime.machine`'s, which needs psutil."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
