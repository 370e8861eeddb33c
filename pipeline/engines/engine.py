"""What the assignment engines have in common, and which one a name means."""

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch

from pipeline.engines import dense
from pipeline.engines.cpu import engine as pruned
from pipeline.engines.device.engine import DeviceEngine
from pipeline.engines.device.kernels import DeviceKernels
from pipeline.engines.device.plan import DevicePlan, device_host_bytes, plan_device
from pipeline.engines.device.transfers import blocks_held
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import READ_AHEAD
from pipeline.runtime.devices import device_budget, device_errors
from pipeline.runtime.progress import Progress
from storage.errors import InputError

if TYPE_CHECKING:
    from pipeline.rows.source import Source

ENGINES = ("auto", "torch", "pruned", "fused")
OLDEST_TRITON = (3, 6)  # whose compiler takes the kernels
# One is worked on, one waits, one is filled from the last; two fit into no gap of the heap.
SPARE_BLOCKS = 5


class PassMemory(Protocol):
    """What an engine keeps of the rows of a source between passes."""

    def close(self) -> None:
        """Let go of it."""


class AssignmentEngine(Protocol):
    """Finds nearest centroids, ties to the lowest index, and adds up exact sums."""

    def remember(
        self, source: "Source", folder: Path | None = None, blocks: range | None = None
    ) -> PassMemory | None:
        """What the engine can keep of the rows of a source between passes; None: nothing.

        folder: where it may write; None: the system's folder for temporary files. blocks: the
        only ones that passes will see; None: all.
        """

    def sum_up(
        self,
        source: "Source",
        blocks: range,
        centroids: np.ndarray,
        memory: Any,
        progress: Progress,
        heirs: np.ndarray | None = None,
    ) -> ClusterSums:
        """A pass: sums over the rows of some blocks, assigned to `centroids`, (k, d).

        memory: of this engine, for this source or one that it is a prefix of, and blocks that
        begin with these; None: nothing is kept. heirs: see `Executor`.
        """

    def load(self, centroids: np.ndarray) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32 or float64."""

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """Labels of the rows; (n, d) -> (n,) int64."""

    def step(self, rows: np.ndarray, into: ClusterSums) -> None:
        """Assign the rows and add them to `into`, in place; (n, d)."""


@dataclass(frozen=True)
class Choice:
    """An engine. why: this one, in words that follow its name; empty where it was asked for."""

    engine: str
    why: str = ""

    def runs_on_device(self, device: torch.device) -> bool:
        """Whether it keeps rows on a device, rather than being one for the CPU."""
        return self.engine == "fused" or (self.engine == "torch" and device.type != "cpu")


def choose(name: str, device: torch.device, dtype: np.dtype) -> Choice:
    """What an engine's name means on a device, for rows of a type.

    "auto" is pruned on a CPU; elsewhere fused, or torch where that cannot be.
    Raises: InputError for another name, or an engine that does not run there.
    """
    if name not in ENGINES:
        raise InputError(f"no engine {name!r}: use {', '.join(ENGINES)}")
    if name == "pruned" and device.type != "cpu":
        raise InputError(f"the pruned engine runs on the cpu, not on {device}: use engine torch")
    if name == "auto":
        if device.type == "cpu":
            return Choice("pruned")
        if device.type != "cuda":
            return Choice("torch")
        lacking = _lacking(device, dtype)
        return Choice("torch", f"as {lacking}") if lacking else Choice("fused")
    if name == "fused" and (lacking := _lacking(device, dtype)):
        raise InputError(f"the fused engine cannot be used, as {lacking}: use engine torch or auto")
    if name == "torch" and device.type == "mps" and dtype == np.float64:
        raise InputError(f"MPS has no float64, which {dtype} rows need: use float32, or device cpu")
    return Choice(name)


def engine_name(name: str, device: torch.device, dtype: np.dtype) -> str:
    """The engine that `choose` gives."""
    return choose(name, device, dtype).engine


def _lacking(device: torch.device, dtype: np.dtype) -> str:
    """What the fused engine lacks; empty where it can be used."""
    if device.type not in ("cuda", "cpu"):
        return f"it runs on cuda, not on {device.type}"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    triton = importlib.import_module("triton")  # it is loaded where it is asked for alone
    if tuple(map(int, triton.__version__.split(".")[:2])) < OLDEST_TRITON:
        return f"Triton {triton.__version__} is older than {'.'.join(map(str, OLDEST_TRITON))}"
    if device.type == "cpu" and not triton.knobs.runtime.interpret:
        return "it runs on cuda, and on the cpu with TRITON_INTERPRET=1 alone"
    if dtype == np.float64:
        return "it takes bytes, 16-bit integers and float32, not float64"
    if torch.version.hip:
        return "its kernels are for NVIDIA's GPUs"
    with device_errors(device):
        return str(importlib.import_module("pipeline.engines.device.fused_search").fault(device))


def make_engine(
    name: str,
    device: torch.device,
    dim: int,
    dtype: np.dtype,
    *,
    device_memory: int | None = None,
    largest: int = 1,
) -> AssignmentEngine:
    """The engine that `choose` gives, for rows of `dim` values of `dtype`.

    device_memory: cap on what it takes of the device, bytes; None: a share of what is free there.
    largest: the most centroids that will be loaded, where that is known.
    """
    choice = choose(name, device, dtype)
    if choice.runs_on_device(device):
        with device_errors(device):
            kernels = _kernels_of(choice.engine, device, dim, dtype)
            budget = device_budget(device, device_memory)
            return DeviceEngine(kernels, dim, dtype, budget, largest=largest)
    if choice.engine == "torch":
        return dense.DenseEngine(dim, dtype)
    return pruned.PrunedEngine(dim, dtype)


def engine_plan(
    name: str,
    device: torch.device,
    k: int,
    dim: int,
    dtype: np.dtype,
    device_memory: int | None = None,
) -> DevicePlan | None:
    """What an engine does with the memory of a device for k centroids; None: it needs none.

    device_memory: see `make_engine`.
    """
    choice = choose(name, device, dtype)
    if not choice.runs_on_device(device):
        return None
    with device_errors(device):
        kernels = _kernels_of(choice.engine, device, dim, dtype)
        budget = device_budget(device, device_memory)
        moves, fixed = kernels.moves, kernels.device_bytes(k)
    return plan_device(budget, fixed, k, dim, dtype.itemsize, moves=moves, device=device.type)


def _kernels_of(engine: str, device: torch.device, dim: int, dtype: np.dtype) -> DeviceKernels:
    # Lazily: runs on a CPU load neither, nor Triton.
    module, kind = {
        "torch": ("pipeline.engines.device.dense_kernels", "TorchKernels"),
        "fused": ("pipeline.engines.device.fused_search", "FusedKernels"),
    }[engine]
    return cast(DeviceKernels, getattr(importlib.import_module(module), kind)(device, dim, dtype))


def projected_engine_bytes(
    name: str, device: torch.device, k: int, dim: int, dtype: np.dtype, block_rows: int
) -> int:
    """Host memory that an engine needs beside its rows, in bytes, at most."""
    choice = choose(name, device, dtype)
    if choice.runs_on_device(device):
        with device_errors(device):
            kernels = _kernels_of(choice.engine, device, dim, dtype).host_bytes(k)
        return kernels + device_host_bytes(k, dim, dtype.itemsize)
    if choice.engine == "torch":
        return dense.projected_bytes(k, dim)
    return pruned.projected_bytes(k, dim, block_rows)


def blocks_at_once(name: str, device: torch.device, k: int, source: "Source") -> int:
    """How many blocks of a source an engine works best with at a time."""
    if engine_name(name, device, source.dtype) != "pruned":
        return 1
    return int(pruned.blocks_at_once(k, source))


def blocks_in_memory(name: str, device: torch.device, dtype: np.dtype) -> int:
    """How many blocks that are read are in memory at a time, at most."""
    ahead = blocks_held() if choose(name, device, dtype).runs_on_device(device) else READ_AHEAD
    return ahead + SPARE_BLOCKS
