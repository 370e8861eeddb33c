"""What the assignment engines have in common, and which one a name means.

An engine is a folder with a subclass of `EngineSpec` and a row in `REGISTRY`.
"""

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import READ_AHEAD
from pipeline.runtime.devices import CPU, Device
from pipeline.runtime.progress import Progress
from storage.errors import InputError

if TYPE_CHECKING:
    from pipeline.engines.device.plan import DevicePlan
    from pipeline.rows.source import RowSource

# One is worked on, one waits, one is filled from the last; two fit into no gap of the heap.
GAP_BLOCKS = 2
SPARE_BLOCKS = 3 + GAP_BLOCKS


class AssignmentCache(Protocol):
    """What an engine keeps of the rows of a source between passes; losing it costs time alone."""

    def relabel(self, successors: np.ndarray) -> None:
        """The centroids of the next pass are others than those of the last.

        Args:
            successors: (k before,) int64, which centroid of the next pass takes over the rows of
                each one of the last. Without this message, added centroids come last.
        """

    def forget_sums(self) -> None:
        """Sums of the last pass are in the way: those of the next one are made anew."""

    def close(self) -> None:
        """Let go of it."""


class AssignmentEngine(Protocol):
    """Finds nearest centroids, ties to the lowest index, and adds up exact sums.

    Three lifetimes: the engine (threads, buffers), a pass (its centroids), and a cache of the rows
    of one source, which lasts from pass to pass.
    """

    def cache_for(
        self, source: "RowSource", folder: Path | None = None, blocks: range | None = None
    ) -> AssignmentCache | None:
        """What the engine can keep of the rows of a source between passes; None: nothing.

        Args:
            source: of the rows.
            folder: where it may write; None: the system's folder for temporary files.
            blocks: the only ones that passes will see; None: all.
        """

    def run_pass(
        self,
        source: "RowSource",
        blocks: range,
        centroids: np.ndarray,
        cache: Any,
        progress: Progress,
        *,
        goes_on: bool = False,
        at_once: int = 1,
    ) -> ClusterSums:
        """Sums over the rows of some blocks, each assigned to its nearest centroid.

        Args:
            source: of the rows.
            blocks: the numbers of those that are read.
            centroids: (k, d) float32 or float64.
            cache: of this engine, for this source or one that it is a prefix of, and all blocks or
                some that begin with these; None: nothing is kept.
            progress: told of rows as they are done.
            goes_on: whether this is another part of the pass that the engine ran last, of the same
                rows and centroids, but other blocks.
            at_once: blocks that are worked on together, see `EngineSpec.blocks_at_once`.
        """

    def load(self, centroids: np.ndarray) -> None:
        """Take the centroids that rows at hand are assigned to; (k, d) float32 or float64."""

    def assign(self, rows: np.ndarray, guess: np.ndarray | None = None) -> np.ndarray:
        """Labels of rows at hand; (n, d) -> (n,) int64.

        guess: (n,) integers below k, what they may well be: it decides the speed alone.
        """

    def step(self, rows: np.ndarray, into: ClusterSums) -> None:
        """Assign rows at hand and add them to `into`, in place; (n, d)."""


@dataclass(frozen=True)
class EngineSpec(ABC):
    """An engine for rows of one kind on one device: all that is known of it before it computes.

    Resolved once, passed on as an argument; equal ones make engines that do the same.

    Attributes:
        name: as in `ENGINES`, but not "auto".
        device: on which it computes.
        dim: values of a row.
        dtype: of the rows.
        why: this engine, in words that follow its name; empty where it was asked for.
        exactness: how labels are decided; engines of one exactness give the same labels.
        caches_rows: whether the rows themselves stay with the engine from pass to pass.
    """

    name: str
    device: Device
    dim: int
    dtype: np.dtype
    why: str = field(default="", compare=False)

    @staticmethod
    def resolve(name: str, device: Device, dim: int, dtype: np.dtype) -> "EngineSpec":
        """What an engine's name means on a device, for rows of `dim` values of `dtype`.

        "auto" is the first of the registry that prefers such a device and can run there.

        Raises:
            InputError: for another name, or an engine that does not run there.
        """
        if name not in ENGINES:
            raise InputError(f"no engine {name!r}: use {', '.join(ENGINES)}")
        fitting = [one for one, entry in REGISTRY.items() if device.type in entry.preferred]
        why = ""
        for one in fitting if name == "auto" else [name]:
            spec = REGISTRY[one].load()(one, device, dim, dtype, why)
            problem = spec.problem()
            if not problem:
                return spec
            why = f"as {problem}"
        raise InputError(f"the {one} engine cannot be used, {why}: use {REGISTRY[one].instead}")

    @staticmethod
    def for_samples(dim: int, dtype: np.dtype) -> "EngineSpec":
        """The engine that labels rows which are in memory anyway, whatever passes run on."""
        return EngineSpec.resolve("auto", CPU, dim, dtype)

    @property
    @abstractmethod
    def exactness(self) -> str: ...

    @property
    def caches_rows(self) -> bool:
        return False

    @abstractmethod
    def problem(self) -> str:
        """Why it cannot be used, in words that follow "as"; empty where it can."""

    @abstractmethod
    def make(self, *, largest: int = 1, device_memory: int | None = None) -> AssignmentEngine:
        """The engine.

        Args:
            largest: the most centroids that will be loaded, where that is known.
            device_memory: cap on what it takes of the device, bytes; None: a share of what is free
                there.
        """

    @abstractmethod
    def host_bytes(self, k: int, block_rows: int, threads: int | None = None) -> int:
        """Host memory for k centroids beside its rows, bytes, at most.

        Args:
            k: number of centroids.
            block_rows: rows that it is given at once.
            threads: that compute; None: those of this process.
        """

    def scratch_bytes(self, n_rows: int, k: int) -> int:
        """What it writes of so many rows into its scratch file, bytes."""
        return 0

    def kept_sums_bytes(self, k: int, parts: int) -> int:
        """What its cache keeps of the sums of a pass in so many parts, bytes of the host."""
        return 0

    def numba_kernels(self) -> tuple[Any, ...]:
        """Those of numba's that it calls, see `code_bytes`."""
        return ()

    def with_less(self) -> "EngineSpec | None":
        """The same in less host memory, slower; None: it needs what it takes."""
        return None

    def device_plan(self, k: int, device_memory: int | None = None) -> "DevicePlan | None":
        """What it does with the memory of a device for k centroids; None: it needs none.

        device_memory: see `make`.
        """
        return None

    def blocks_at_once(self, k: int, source: "RowSource") -> int:
        """How many blocks of a source it works best with at a time, for k centroids."""
        return 1

    @property
    def blocks_held(self) -> int:
        """Blocks that are read and in memory at a time, at most."""
        return READ_AHEAD + SPARE_BLOCKS


@dataclass(frozen=True)
class _Entry:
    """Where the spec of an engine is found, which is loaded when it is asked for.

    preferred: types of devices for which "auto" may take it. instead: what to use where it cannot
    be.
    """

    module: str
    kind: str
    preferred: tuple[str, ...]
    instead: str

    def load(self) -> type[EngineSpec]:
        return cast(type[EngineSpec], getattr(importlib.import_module(self.module), self.kind))


# In the order in which "auto" tries them.
REGISTRY = {
    "pruned": _Entry("pipeline.engines.cpu.spec", "PrunedSpec", ("cpu",), "engine torch"),
    "fused": _Entry("pipeline.engines.device.spec", "FusedSpec", ("cuda",), "engine torch or auto"),
    "torch": _Entry(
        "pipeline.engines.device.spec",
        "TorchSpec",
        ("cuda", "mps", "cpu"),
        "float32 rows, or device cpu",
    ),
}
ENGINES = ("auto", "torch", "pruned", "fused")
