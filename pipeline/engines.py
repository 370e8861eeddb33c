"""The assignment engines: what they have in common, and which one a name means."""

from typing import Protocol

import numpy as np
import torch

from pipeline.dense_engine import DenseEngine
from pipeline.sums import ClusterSums

ENGINES = ("auto", "torch")


class AssignmentEngine(Protocol):
    """Finds nearest centroids, ties to the lowest index, and adds up exact sums."""

    def load(self, centroids: np.ndarray) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32."""

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """Labels of the rows; (n, d) -> (n,) int64."""

    def step(self, rows: np.ndarray, into: ClusterSums) -> None:
        """Assign the rows and add them to `into`, in place; (n, d)."""


def make_engine(name: str, device: torch.device, dim: int, dtype: np.dtype) -> AssignmentEngine:
    """The engine of this name; "auto" takes the one meant for the device."""
    assert name in ENGINES, name  # validated at the public edge
    return DenseEngine(device, dim, dtype)
