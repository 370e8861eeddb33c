"""What a device computes by torch alone: a CPU, CUDA where there is no Triton, and Apple's MPS;
and, on any device, sums in the order of `pipeline.engines.ordered_sums`.

Dtypes: stored integers of 8 or 16 bits, float32 or float64; compute as `TileSearch`; sums of byte
rows accumulate int64, on a CUDA device there, elsewhere on the host.
"""

import numpy as np
import torch

from pipeline.engines import ordered_sums
from pipeline.engines.device.float64_ties import Float64Ties
from pipeline.engines.device.kernels import UNLABELLED, SumsTable
from pipeline.engines.device.tiled_search import MAX_TILE_ROWS, TileSearch
from pipeline.engines.ordered_sums import piece_rows
from pipeline.rows.cluster_sums import ClusterSums, sum_types
from pipeline.runtime.devices import has_float64

WIDE_BYTES = 64 << 20  # of rows widened for adding


class TorchKernels(TileSearch):
    """`DeviceKernels` by torch, on any device.

    row_dtype: how rows lie on the device: uint16 as the int16 of the same bits where it is narrow,
    for MPS had no uint16 before torch 2.9.
    Raises: InputError for float64 rows on a device that has no float64.
    """

    def __init__(self, device: torch.device, dim: int, dtype: np.dtype) -> None:
        super().__init__(device, dim, dtype)
        # A CPU adds faster as the host; MPS does not add 64 bits by index.
        self.sums_bytes = device.type == "cuda"
        bits = np.dtype(np.int16) if dtype == np.uint16 and not has_float64(device) else dtype
        self.row_dtype = torch.from_numpy(np.empty(0, bits)).dtype

    def sums(self, k: int) -> "Int64Sums":
        return Int64Sums(self.device, k, self._dim)

    def device_bytes(self, k: int) -> int:
        """Device memory that they take beside rows and labels, in bytes, at most.

        The search; two tables of sums; a piece of rows widened, squared and negated for adding, or
        those of it that changed. Rows of more than a byte: as `ordered_sums` adds them.
        """
        search = self.search_bytes(k)
        width = self._dim + 2
        if self._dtype.itemsize > 1:
            return search + 8 * (4 * self._dim * piece_rows(self._dim) + 2 * k * width)
        adding = 4 * 8 * width * _rows_at_once(self._dim) if self.sums_bytes else 0
        return search + 2 * 8 * k * width + adding

    def host_bytes(self, k: int) -> int:
        """Host memory that they take, in bytes, at most.

        Centroids in float64, shifted, squared, turned, sorted to find equals, and as they go to the
        device; or the sums in as many forms. What decides in float64, where the device has none.
        """
        ties = 0
        if not has_float64(self.device):
            ties = Float64Ties.bytes(k, self._dim, MAX_TILE_ROWS)
        return 10 * 8 * k * (self._dim + 2) + ties


class Int64Sums(SumsTable):
    """Sums of byte rows by cluster, int64 on the device."""

    def add(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        size = _rows_at_once(self._dim)
        for piece, label in zip(rows.split(size), labels.split(size), strict=True):
            self._add(piece, label, 1)

    def move(self, rows: torch.Tensor, before: torch.Tensor, labels: torch.Tensor) -> None:
        # Waits for the device, to learn how many they are.
        size = _rows_at_once(self._dim)
        pieces = zip(rows.split(size), before.split(size), labels.split(size), strict=True)
        for piece, was, label in pieces:
            changed = was != label
            held = changed & (was != UNLABELLED)
            for mask, among, sign in ((held, was, -1), (changed, label, 1)):
                index = mask.nonzero()[:, 0]
                self._add(piece[index], among[index], sign)

    def _add(self, rows: torch.Tensor, labels: torch.Tensor, sign: int) -> None:
        dim = self._dim
        wide = self._table.new_empty((len(rows), dim + 2))
        values = wide[:, :dim]
        values.copy_(rows)
        wide[:, dim] = 1
        wide[:, dim + 1] = (values * values).sum(1)
        self._table.index_add_(0, labels, wide if sign > 0 else -wide)


def _rows_at_once(dim: int) -> int:
    return max(1, WIDE_BYTES // (8 * (dim + 2)))


def sum_piece(
    rows: torch.Tensor, labels: torch.Tensor, k: int, origin: np.ndarray, dtype: np.dtype
) -> ClusterSums:
    """Sums of one piece: by the device where that is CUDA's, else by the host.

    Args:
        rows: (n, d) as stored, of `dtype` or another type of the same bits.
        labels: (n,) int32 or int64.
        k: number of clusters.
        origin: (k, d) float64, the centroids, taken off float rows before they are added.
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
        wide -= torch.from_numpy(origin).to(rows.device)[labels]
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
    of_sums, of_squares = sum_types(dtype)
    return ClusterSums(
        sums.cpu().numpy().astype(of_sums),
        counts.cpu().numpy(),
        squares.cpu().numpy().astype(of_squares),
        origin,
    )


def _added(values: torch.Tensor, order: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Sums of consecutive rows of values[order], each from one of `starts` on, one after the other.

    values: (n, d) floats. order: (n,), starts: (k,), both int64. Returns: (k, d).
    """
    return torch.nn.functional.embedding_bag(order, values, starts, mode="sum")
