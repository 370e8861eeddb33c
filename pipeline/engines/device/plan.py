"""What of the rows stays on a device, and how the others come to it: planned in integers.

Rows come in pieces, each cut from one block of the source. Pieces begin at multiples of `unit` in
their block, so that float sums are those of the CPU engines, whatever stays on the device.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.engines.ordered_sums import piece_rows

STAGING_BUFFERS = 3  # pieces on their way: one is packed, one is copied, one is worked on
PIECE_BYTES = 8 << 20  # of a piece; a chunk of a store, which is as large, is one
SHARE_OF_PIECES = 4  # pieces take at most a fourth of what is free, where that is enough for one
LABEL_BYTES = 4
ROUNDING = {"cuda": 64 << 20, "mps": 64 << 20}  # what allocators add to what is asked of them


@dataclass(frozen=True)
class DevicePlan:
    """Bytes and rows on a device for one number of centroids.

    allowed: bytes. fixed: bytes of all but the rows that stay, with pieces of `piece` rows. least:
    bytes of the same with the smallest pieces; more than allowed: it cannot be done. row_bytes: of
    a row that stays, labels included. unit: rows; what stays ends at a multiple of it in its block.
    """

    allowed: int
    fixed: int
    least: int
    piece: int
    row_bytes: int
    unit: int

    def room(self, n_rows: int, block_rows: int, given: int = 0) -> int:
        """How many of the first rows may stay. given: bytes that other rows have."""
        rows = max(self.allowed - self.fixed - given, 0) // self.row_bytes
        if rows >= n_rows:
            return n_rows
        within = rows % block_rows
        return rows - within + within // self.unit * self.unit


def plan_device(
    allowed: int,
    kernel_bytes: int,
    k: int,
    dim: int,
    itemsize: int,
    *,
    keeps_labels: bool,
    device: str = "cpu",
) -> DevicePlan:
    """The plan for k centroids and rows of `dim` values.

    allowed: bytes of the device. kernel_bytes: of the kernels. keeps_labels: whether those of
    the last pass are kept. device: its type.
    """
    row = dim * itemsize
    unit = piece_rows(dim)
    rest = kernel_bytes + _sum_bytes(k, dim, itemsize) + ROUNDING.get(device, 0)
    each = STAGING_BUFFERS * (row + LABEL_BYTES)
    share = max(allowed - rest, 0) // SHARE_OF_PIECES // each
    piece = min(largest_piece(dim, itemsize), max(share // unit, 1) * unit)
    labels = 2 if keeps_labels else 1
    return DevicePlan(
        allowed=allowed,
        fixed=rest + piece * each,
        least=rest + unit * each,
        piece=piece,
        row_bytes=row + labels * LABEL_BYTES,
        unit=unit,
    )


def largest_piece(dim: int, itemsize: int) -> int:
    """Rows of a piece where there is room."""
    unit = piece_rows(dim)
    return max(PIECE_BYTES // (dim * itemsize) // unit, 1) * unit


def device_host_bytes(k: int, dim: int, itemsize: int) -> int:
    """Host memory of a device's engine beside kernels and blocks, at most.

    Pieces on their way, which torch rounds up to a power of two; and sums, where they arrive.
    """
    piece = largest_piece(dim, itemsize) * dim * itemsize
    return STAGING_BUFFERS * (1 << (piece - 1).bit_length()) + _sum_bytes(k, dim, itemsize)


def _sum_bytes(k: int, dim: int, itemsize: int) -> int:
    """Sums of rows that stay and of others, and those that one inherits from.

    Or, of rows that are summed in pieces, one of them in float64 three times over and its order.
    """
    sums = 3 * 8 * k * (dim + 2)
    return sums if itemsize == 1 else sums + piece_rows(dim) * (3 * 8 * dim + 64)


@dataclass(frozen=True)
class Transfer:
    """Rows [start, stop) of a pass, from row `within` of a block of the source."""

    block: int
    within: int
    start: int
    stop: int


def plan_transfers(
    blocks: range, block_rows: int, n_rows: int, piece: int, start: int = 0, stays: int = 0
) -> Iterator[Transfer]:
    """Pieces of the rows [start, n_rows) of some blocks, in order.

    n_rows: of these blocks, from the first one's first row. piece: rows, at most. stays: no piece
    goes on beyond the first so many rows.
    """
    at = start
    while at < n_rows:
        number, within = divmod(at, block_rows)
        stop = min(at - within % piece + piece, (number + 1) * block_rows, n_rows)
        if at < stays:
            stop = min(stop, stays)
        yield Transfer(blocks[number], within, at, stop)
        at = stop


def cut(n_rows: int, block_rows: int, unit: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of rows that are summed together: at most `unit`, of one block."""
    for transfer in plan_transfers(range(-(-n_rows // block_rows)), block_rows, n_rows, unit):
        yield transfer.start, transfer.stop
