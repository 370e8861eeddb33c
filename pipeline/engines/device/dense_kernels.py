"""What a device computes, by torch alone: CUDA where there is no Triton, and Apple's MPS.

Dtypes: stored integers of 8 or 16 bits, float32 or float64; compute as `TileSearch`; sums of byte
rows accumulate int64, on the device where it adds 64 bits by index, else in float32 on the device,
exactly, and int64 on the host.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch

from pipeline.engines.device.device_totals import TotalsTable
from pipeline.engines.device.kernels import UNLABELLED
from pipeline.engines.device.tiled_search import TileSearch
from pipeline.engines.ordered_sums import piece_rows
from pipeline.runtime.devices import has_float64

PIECE_BYTES = 64 << 20  # of rows widened for adding
# float32 holds whole numbers exactly up to 2^24 = 16,777,216. So it adds, in any order,
MAX_NARROW_ROWS = 65_793  # bytes: 65,793 · 255 = 16,777,215
SQUARE_COLUMNS = 258  # squares of bytes: 258 · 255² = 16,776,450
# The squared length over so many columns is then cut into digits that are bytes themselves.
DIGITS = (65_536, 256, 1)


class TorchKernels:
    """`DeviceKernels` by torch; runs on a CPU too, for tests.

    device: where it computes. dim, dtype: of the rows.
    moves: not on MPS, which has miscounted where it looks for the rows that changed, so they would
    be looked for on the host.
    row_dtype: how rows lie on the device: uint16 as the int16 of the same bits where it is narrow,
    for MPS had no uint16 before torch 2.9.
    Raises: InputError for float64 rows on a device that has no float64.
    """

    def __init__(self, device: torch.device, dim: int, dtype: np.dtype) -> None:
        self.device = device
        self.moves = has_float64(device)
        bits = np.dtype(np.int16) if dtype == np.uint16 and not self.moves else dtype
        self.row_dtype = torch.from_numpy(np.empty(0, bits)).dtype
        self._search = TileSearch(device, dtype)
        self._dim, self._dtype = dim, dtype

    def load(self, centroids: np.ndarray) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32 or float64."""
        self._search.load(centroids)

    def label(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        """Nearest centroid of each row, ties to the lowest index, into `labels`.

        rows: (n, d) `row_dtype`, contiguous. labels: (n,) int32, contiguous; both on the device.
        """
        self._search.label(rows, labels)

    def totals(self, k: int) -> "WideTotals | NarrowTotals":
        """Sums of no rows yet, for rows of one byte."""
        totals = WideTotals if has_float64(self.device) else NarrowTotals
        return totals(self.device, k, self._dim)

    def device_bytes(self, k: int) -> int:
        """Device memory that they take beside rows and labels, in bytes, at most.

        The search; two tables of sums; a piece of rows widened, squared and negated for adding, or
        those of it that changed. Rows of more than a byte: as `ordered_sums` adds them.
        """
        search = self._search.device_bytes(k, self._dim)
        if self._dtype.itemsize > 1:
            return search + 8 * (4 * self._dim * piece_rows(self._dim) + 2 * k * (self._dim + 2))
        table = 8 * k * _width(self._dim)
        adding = 4 * 8 * _width(self._dim) * _rows_at_once(self._dim)
        return search + 2 * table + adding

    def host_bytes(self, k: int) -> int:
        """Host memory that they take, in bytes, at most.

        Centroids in float64, shifted, squared, turned, sorted to find equals, and as they go to the
        device; or the sums in as many forms.
        """
        return 10 * 8 * k * _width(self._dim)


class _Totals(ABC):
    """What both kinds of `ByteTotals` share: which rows to add, and which to take away."""

    _dim: int

    def add(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        """Add all rows. rows: (n, d) of one byte each. labels: (n,) int32; both on the device."""
        size = _rows_at_once(self._dim)
        for piece, label in zip(rows.split(size), labels.split(size), strict=True):
            self._add(piece, label, 1)

    def move(self, rows: torch.Tensor, before: torch.Tensor, labels: torch.Tensor) -> None:
        """Take rows whose label changed from one sum and add them to another.

        before: (n,) int32, the labels under which the sums hold them; UNLABELLED: not at all.
        Waits for the device, to learn how many they are.
        """
        size = _rows_at_once(self._dim)
        pieces = zip(rows.split(size), before.split(size), labels.split(size), strict=True)
        for piece, was, label in pieces:
            changed = was != label
            held = changed & (was != UNLABELLED)
            for mask, among, sign in ((held, was, -1), (changed, label, 1)):
                index = _where(mask)
                self._add(_picked(piece, index), _picked(among, index), sign)

    @abstractmethod
    def _add(self, rows: torch.Tensor, labels: torch.Tensor, sign: int) -> None:
        """Add rows, of a piece at most, times `sign`."""


class WideTotals(TotalsTable, _Totals):
    """Sums of byte rows by cluster, int64 on the device."""

    def _add(self, rows: torch.Tensor, labels: torch.Tensor, sign: int) -> None:
        dim = self._dim
        wide = self._table.new_empty((len(rows), dim + 2))
        values = wide[:, :dim]
        values.copy_(rows)
        wide[:, dim] = 1
        wide[:, dim + 1] = (values * values).sum(1)
        self._table.index_add_(0, labels, wide if sign > 0 else -wide)


class NarrowTotals(_Totals):
    """The same where the device has no 64 bits: float32 sums of few rows, added up on the host.

    Each row is its values, a one, and for every `SQUARE_COLUMNS` columns the three digits of their
    squared length: bytes all of them, so that `MAX_NARROW_ROWS` add up exactly, whatever the order
    and the signs. Waits for the device once for so many rows.
    """

    def __init__(self, device: torch.device, k: int, dim: int) -> None:
        self._device, self._dim = device, dim
        self._totals = np.zeros((k, dim + 2), np.int64)
        self._clear(k)

    def inherit(self, heirs: torch.Tensor, k: int) -> None:
        """Give the sums of each cluster to another one of k. heirs: (k before,) int64."""
        self._carry()
        totals = np.zeros((k, self._dim + 2), np.int64)
        np.add.at(totals, heirs.cpu().numpy(), self._totals)
        self._totals = totals
        self._clear(k)

    def fetch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums (k, d), counts (k,), sums of squared lengths (k,), all int64, on the host."""
        self._carry()
        dim, totals = self._dim, self._totals
        return totals[:, :dim].copy(), totals[:, dim].copy(), totals[:, dim + 1].copy()

    def _add(self, rows: torch.Tensor, labels: torch.Tensor, sign: int) -> None:
        start = 0
        while start < len(rows):
            if self._held == MAX_NARROW_ROWS:
                self._carry()
            stop = min(start + MAX_NARROW_ROWS - self._held, len(rows))
            self._part.index_add_(0, labels[start:stop], self._digits(rows[start:stop], sign))
            self._held += stop - start
            start = stop

    def _digits(self, rows: torch.Tensor, sign: int) -> torch.Tensor:
        """rows: (n, d) of one byte each -> (n, width) float32, whole numbers up to 255."""
        values = rows.to(torch.float32)
        columns = [values, torch.ones_like(values[:, :1])]
        squares = values * values
        for first in range(0, self._dim, SQUARE_COLUMNS):
            rest = squares[:, first : first + SQUARE_COLUMNS].sum(1, keepdim=True)
            for weight in DIGITS:
                # Exact: a product with a power of two (GPUs may round quotients twice), its whole
                # part, and what that leaves.
                digit = (rest * (1 / weight)).floor()
                columns.append(digit)
                rest = rest - digit * weight
        digits = torch.cat(columns, 1)
        return digits if sign > 0 else -digits

    def _carry(self) -> None:
        """Add what the device holds to the totals."""
        dim = self._dim
        part = self._part.cpu().numpy().astype(np.int64)
        self._totals[:, : dim + 1] += part[:, : dim + 1]
        digits = part[:, dim + 1 :].reshape(len(part), -1, len(DIGITS))
        self._totals[:, dim + 1] += (digits @ np.array(DIGITS)).sum(1)
        self._clear(len(part))

    def _clear(self, k: int) -> None:
        shape = (k, _width(self._dim))
        self._part = torch.zeros(shape, dtype=torch.float32, device=self._device)
        self._held = 0


def _where(mask: torch.Tensor) -> torch.Tensor:
    """Indices of what is true, (m,) int64."""
    finder = mask.device if has_float64(mask.device) else torch.device("cpu")
    return mask.to(finder).nonzero()[:, 0].to(mask.device)


def _picked(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return torch.index_select(values, 0, index)


def _width(dim: int) -> int:
    """Columns of a narrow row, more than those of a wide one."""
    return dim + 1 + len(DIGITS) * -(-dim // SQUARE_COLUMNS)


def _rows_at_once(dim: int) -> int:
    return max(1, PIECE_BYTES // (8 * _width(dim)))
