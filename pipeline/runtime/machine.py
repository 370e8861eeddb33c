"""What a run was made on, for its record."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pipeline.runtime.devices import Device, has_metal, thread_count

if TYPE_CHECKING:
    from pipeline.engines import EngineSpec

_PACKAGES = ("patchdict", "torch", "numba", "numpy", "zarr", "xarray", "dask")


def machine() -> dict[str, Any]:
    """This machine, in plain JSON.

    processor: its model. threads: that compute. memory: of the machine, bytes. system: name and
    version of its kernel.
    """
    return {
        "processor": processor(),
        "threads": thread_count(),
        "memory": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
    }


def device_name(device: Device) -> str:
    """The device as the record names it: cpu, mps, or the GPU's model behind its number."""
    if device.type != "cuda":
        return str(device)
    import torch  # which has found the GPU

    return f"{device} ({torch.cuda.get_device_name(str(device))})"


def place(asked: str, engine: "EngineSpec") -> str:
    """Where it computes, by which engine, and why there; asked: the device's name."""
    device = engine.device
    found = f"on {device_name(device)}"
    if asked == "auto" and device.type == "cpu":
        missing = "no CUDA GPU or Metal found"
        if has_metal():
            missing = "no CUDA GPU found, and Metal has no float64"
        found += f": {missing};"
    else:
        found += ","
    return f"{found} engine {engine.name}" + (f", {engine.why}" if engine.why else "")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that numbers may depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def processor() -> str:
    """Model of the processor, as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")  # Linux alone has it
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
