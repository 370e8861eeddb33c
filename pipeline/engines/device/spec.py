"""What is known of the engines that keep rows on a device before they compute."""

import importlib
import importlib.util
from abc import abstractmethod

import numpy as np

from pipeline.engines import dense
from pipeline.engines.device.engine import DeviceEngine
from pipeline.engines.device.kernels import DeviceKernels
from pipeline.engines.device.plan import DevicePlan, device_host_bytes, plan_device
from pipeline.engines.device.transfers import blocks_held
from pipeline.engines.engine import SPARE_BLOCKS, AssignmentEngine, EngineSpec
from pipeline.rows.source import READ_AHEAD
from pipeline.runtime.devices import device_budget, device_errors

OLDEST_TRITON = (3, 6)  # whose compiler takes the kernels


class DeviceSpec(EngineSpec):
    """An engine that keeps rows on its device, whatever kernels compute there."""

    @property
    def exactness(self) -> str:
        return f"{self.name} on {self.device.type}"  # whose float32 scores round in their own way

    @property
    def caches_rows(self) -> bool:
        return True

    @abstractmethod
    def kernels(self) -> DeviceKernels:
        """What computes on the device; loads torch, and Triton where that is asked for."""

    def make(self, *, largest: int = 1, device_memory: int | None = None) -> AssignmentEngine:
        with device_errors(self.device):
            kernels = self.kernels()
            budget = device_budget(self.device, device_memory)
            return DeviceEngine(kernels, self.dim, self.dtype, budget, largest=largest)

    def host_bytes(self, k: int, block_rows: int) -> int:
        with device_errors(self.device):
            kernels = self.kernels().host_bytes(k)
        return kernels + device_host_bytes(k, self.dim, self.dtype.itemsize)

    def device_plan(self, k: int, device_memory: int | None = None) -> DevicePlan | None:
        with device_errors(self.device):
            kernels = self.kernels()
            budget = device_budget(self.device, device_memory)
            fixed = kernels.device_bytes(k)
        return plan_device(
            *(budget, fixed, k, self.dim, self.dtype.itemsize),
            moves=kernels.moves,
            device=self.device.type,
        )

    @property
    def blocks_held(self) -> int:
        return (blocks_held() if self.caches_rows else READ_AHEAD) + SPARE_BLOCKS


class TorchSpec(DeviceSpec):
    """Every row against every centroid, by torch: the reference for the others."""

    @property
    def caches_rows(self) -> bool:
        return self.device.type != "cpu"

    def problem(self) -> str:
        if self.device.type == "mps" and self.dtype == np.float64:
            return f"MPS has no float64, which {self.dtype} rows need"
        return ""

    def kernels(self) -> DeviceKernels:
        from pipeline.engines.device.dense_kernels import TorchKernels

        return TorchKernels(self.device.torch, self.dim, self.dtype)

    def make(self, *, largest: int = 1, device_memory: int | None = None) -> AssignmentEngine:
        if not self.caches_rows:
            return dense.DenseEngine(self.dim, self.dtype)
        return super().make(largest=largest, device_memory=device_memory)

    def host_bytes(self, k: int, block_rows: int) -> int:
        if not self.caches_rows:
            return dense.projected_bytes(k, self.dim)
        return super().host_bytes(k, block_rows)

    def device_plan(self, k: int, device_memory: int | None = None) -> DevicePlan | None:
        return super().device_plan(k, device_memory) if self.caches_rows else None


class FusedSpec(DeviceSpec):
    """The same by Triton's kernels, for CUDA; on a CPU where Triton interprets them."""

    def problem(self) -> str:
        device = self.device
        if device.type not in ("cuda", "cpu"):
            return f"it runs on cuda, not on {device.type}"
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed"
        triton = importlib.import_module("triton")  # it is loaded where it is asked for alone
        if tuple(map(int, triton.__version__.split(".")[:2])) < OLDEST_TRITON:
            return f"Triton {triton.__version__} is older than {'.'.join(map(str, OLDEST_TRITON))}"
        if device.type == "cpu" and not triton.knobs.runtime.interpret:
            return "it runs on cuda, and on the cpu with TRITON_INTERPRET=1 alone"
        if self.dtype == np.float64:
            return "it takes bytes, 16-bit integers and float32, not float64"
        if importlib.import_module("torch").version.hip:
            return "its kernels are for NVIDIA's GPUs"
        with device_errors(device):
            search = importlib.import_module("pipeline.engines.device.fused_search")
            return str(search.fault(device.torch))

    def kernels(self) -> DeviceKernels:
        from pipeline.engines.device.fused_search import FusedKernels

        return FusedKernels(self.device.torch, self.dim, self.dtype)
