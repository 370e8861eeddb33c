"""The assignment engines: what they have in common, and which one a name means."""

from typing import Protocol

import numpy as np
import torch

from pipeline.dense_engine import DenseEngine
from pipeline.sums import ClusterSums
from storage.errors import InputError

ENGINES = ("auto", "torch")


class AssignmentEngine(Protocol):
    """Finds nearest centroids, ties to the lowest index, and adds up exact sums."""

    def load(self, centroids: np.ndarray) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32 or float64."""

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """Labels of the rows; (n, d) -> (n,) int64."""

    def step(self, rows: np.ndarray, into: ClusterSums) -> None:
        """Assign the rows and add them to `into`, in place; (n, d)."""


def make_engine(name: str, device: torch.device, dim: int, dtype: np.dtype) -> AssignmentEngine:
    """The engine of this name; "auto" takes the one meant for the device.

    Raises: InputError for another name.
    """
    if name not in ENGINES:
        raise InputError(f"no engine {name!r}: use {', '.join(ENGINES)}")
    return DenseEngine(device, dim, dtype)
