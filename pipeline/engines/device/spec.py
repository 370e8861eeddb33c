"""What is known of the engines that compute with torch or Triton, before they do."""

import importlib
import importlib.util
from abc import abstractmethod

import numpy as np

from pipeline.engines.device.engine import DeviceEngine, plan_kernels
from pipeline.engines.device.kernels import DeviceKernels
from pipeline.engines.device.plan import DevicePlan, device_host_bytes
from pipeline.engines.device.transfers import blocks_held
from pipeline.engines.engine import SPARE_BLOCKS, AssignmentEngine, EngineSpec
from pipeline.runtime.devices import device_budget, device_errors

NO_CAP = 1 << 62  # bytes
OLDEST_TRITON = (3, 6)  # whose compiler takes the kernels


class DeviceSpec(EngineSpec):
    """An engine whose kernels compute on a device, where rows may stay."""

    @property
    def exactness(self) -> str:
        return "float64"

    @property
    def caches_rows(self) -> bool:
        return True

    @property
    def blocks_held(self) -> int:
        return blocks_held() + SPARE_BLOCKS

    @abstractmethod
    def kernels(self) -> DeviceKernels:
        """What computes on the device; loads torch, and Triton where that is asked for."""

    def make(self, *, largest: int = 1, device_memory: int | None = None) -> AssignmentEngine:
        with device_errors(self.device):
            kernels = self.kernels()
            budget = NO_CAP
            if self.caches_rows:
                budget = device_budget(self.device, device_memory)
            return DeviceEngine(
                *(kernels, self.dim, self.dtype, budget),
                largest=largest,
                keeps_rows=self.caches_rows,
            )

    def host_bytes(self, k: int, block_rows: int, threads: int | None = None) -> int:
        with device_errors(self.device):
            kernels = self.kernels().host_bytes(k)
        return kernels + device_host_bytes(k, self.dim, self.dtype.itemsize)

    def device_plan(self, k: int, device_memory: int | None = None) -> DevicePlan | None:
        with device_errors(self.device):
            kernels = self.kernels()
            budget = device_budget(self.device, device_memory)
            return plan_kernels(kernels, self.dim, self.dtype, k, budget)


class TorchSpec(DeviceSpec):
    """Every row against every centroid, by torch: the reference for the others.

    On a CPU the device's memory is the host's: no rows stay, and there is no cap of its own.
    """

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

    def host_bytes(self, k: int, block_rows: int, threads: int | None = None) -> int:
        beside = super().host_bytes(k, block_rows, threads)
        if self.caches_rows:
            return beside
        return beside + plan_kernels(self.kernels(), self.dim, self.dtype, k, NO_CAP).fixed

    def device_plan(self, k: int, device_memory: int | None = None) -> DevicePlan | None:
        return super().device_plan(k, device_memory) if self.caches_rows else None


class FusedSpec(DeviceSpec):
    """The same by Triton's kernels, for CUDA; on a CPU where Triton interprets them."""

    @property
    def exactness(self) -> str:
        # The scores of bytes round in their own way, and are not looked at again.
        return f"fused on {self.device.type}" if self.dtype.itemsize == 1 else "float64"

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
            sums = importlib.import_module("pipeline.engines.device.fused_sums")
            return str(sums.triton_problem(device.torch))

    def kernels(self) -> DeviceKernels:
        from pipeline.engines.device.fused_search import FusedKernels

        return FusedKernels(self.device.torch, self.dim, self.dtype)
