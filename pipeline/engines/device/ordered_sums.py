"""Sums of labelled rows that are on a device, in the order of `pipeline.engines.ordered_sums`."""

import numpy as np
import torch

from pipeline.engines import ordered_sums
from pipeline.rows.cluster_sums import ClusterSums


def sum_piece(
    rows: torch.Tensor, labels: torch.Tensor, k: int, origin: np.ndarray, dtype: np.dtype
) -> ClusterSums:
    """Sums of one piece: by the device where that is CUDA's, else by the host.

    Args:
        rows: (n, d) as stored, of `dtype` or another type of the same bits.
        labels: (n,) int32 or int64.
        k: number of clusters.
        origin: (d,) float64, taken off float rows before they are added.
        dtype: of the rows.
    """
    if rows.device.type != "cuda":
        on_host = rows.cpu().numpy().view(dtype)
        return ordered_sums.sum_piece(on_host, labels.cpu().numpy(), k, origin)
    return _sum_piece(rows, labels, k, origin, dtype)


def _sum_piece(
    rows: torch.Tensor, labels: torch.Tensor, k: int, origin: np.ndarray, dtype: np.dtype
) -> ClusterSums:
    """The same by torch on any device that has float64, which holds all whole numbers met here."""
    if dtype == np.uint16:
        rows = rows.view(torch.uint16)
    wide = rows.to(torch.float64)
    if dtype.kind == "f":
        wide -= torch.from_numpy(origin).to(rows.device)
    order = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels, minlength=k)
    starts = counts.cumsum(0) - counts
    sums = _added(wide, order, starts)
    terms = wide.square()
    while (left := terms.shape[1]) > 1:
        half = (left + 1) // 2
        terms[:, : left - half] += terms[:, half:]
        terms = terms[:, :half]
    squares = _added(terms.contiguous(), order, starts)[:, 0]
    zeros = ClusterSums.zeros(0, 0, dtype)
    return ClusterSums(
        sums.cpu().numpy().astype(zeros.sums.dtype),
        counts.cpu().numpy(),
        squares.cpu().numpy().astype(zeros.squares.dtype),
        zeros.origin,
    )


def _added(values: torch.Tensor, order: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Sums of consecutive rows of values[order], each from one of `starts` on, one after the other.

    values: (n, d) floats. order: (n,), starts: (k,), both int64. Returns: (k, d).
    """
    return torch.nn.functional.embedding_bag(order, values, starts, mode="sum")
