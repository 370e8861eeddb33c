"""What the assignment engines have in common, and which one a name means."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from pipeline.engines import dense, pruned
from pipeline.sums import ClusterSums
from storage.errors import InputError

if TYPE_CHECKING:
    from pipeline.engines.row_memory import RowMemory
    from pipeline.streaming import Source

ENGINES = ("auto", "torch", "pruned")


class AssignmentEngine(Protocol):
    """Finds nearest centroids, ties to the lowest index, and adds up exact sums."""

    def remember(self, source: "Source", folder: Path | None = None) -> "RowMemory | None":
        """What the engine can keep of the rows of a source between passes; None: nothing.

        folder: where it may write; None: the system's folder for temporary files.
        """

    def load(self, centroids: np.ndarray, memory: "RowMemory | None" = None) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32 or float64.

        memory: from `remember`, of a source whose blocks are stepped through next, each once.
        """

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """Labels of the rows; (n, d) -> (n,) int64."""

    def step(self, rows: np.ndarray, into: ClusterSums, index: int | None = None) -> None:
        """Assign the rows and add them to `into`, in place; (n, d).

        index: of the block in the source of the memory, if any.
        """


def make_engine(name: str, device: torch.device, dim: int, dtype: np.dtype) -> AssignmentEngine:
    """The engine of this name; "auto" is the pruned one on a CPU, torch elsewhere.

    Raises: InputError for another name, or an engine that does not run on the device.
    """
    if engine_name(name, device) == "torch":
        return dense.DenseEngine(device, dim, dtype)
    return pruned.PrunedEngine(dim, dtype)


def projected_bytes(name: str, device: torch.device, k: int, dim: int, block_rows: int) -> int:
    """Host memory that an engine needs beside its rows, in bytes, at most."""
    if engine_name(name, device) == "torch":
        return dense.projected_bytes(k, dim)
    return pruned.projected_bytes(k, dim, block_rows)


def blocks_at_once(name: str, device: torch.device, k: int, source: "Source") -> int:
    """How many blocks of a source an engine works best with at a time."""
    if engine_name(name, device) == "torch":
        return 1
    return int(pruned.blocks_at_once(k, source))


def engine_name(name: str, device: torch.device) -> str:
    """What "auto" means on a device; raises as `make_engine` does."""
    if name not in ENGINES:
        raise InputError(f"no engine {name!r}: use {', '.join(ENGINES)}")
    if name == "pruned" and device.type != "cpu":
        raise InputError(f"the pruned engine runs on the cpu, not on {device}: use engine torch")
    if name == "auto":
        return "pruned" if device.type == "cpu" else "torch"
    return name
