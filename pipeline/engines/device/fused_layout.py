"""How centroids and rows are cut into tiles for `fused_programs`."""

import math
from typing import NamedTuple

import torch

from pipeline.engines.device.fused_programs import SIDE as _SIDE

SHORT, SHORT_FLOATS = 160, 64  # columns of rows that a tile holds whole
STEP, STEP_FLOATS = 64, 32  # columns of longer ones at a time
SIDE = _SIDE.value  # columns of a tile side by side, no two of one group
FOLDS = 2  # columns that half squared lengths take


class Configuration(NamedTuple):
    """How a kernel is launched: rows and centroids of a tile, warps, tiles read ahead."""

    rows: int
    centroids: int
    warps: int
    stages: int


# For rows of so many columns at most, the best first; those that need more shared memory than
# there is are passed over. Compiled for compute capability 9.0, none spills registers.
CONFIGURATIONS = {
    64: (Configuration(256, 64, 8, 3), Configuration(128, 64, 4, 2)),
    96: (Configuration(256, 64, 8, 2), Configuration(128, 32, 8, 2)),
    160: (
        Configuration(256, 64, 16, 2),
        Configuration(128, 64, 8, 2),
        Configuration(128, 32, 8, 2),
    ),
}
FLOATS, LONG = Configuration(128, 32, 8, 2), Configuration(128, 64, 8, 2)
# By the first number of the compute capability, at least; before 8 there is no TensorFloat-32.
LONG_FLOATS = {
    9: Configuration(128, 64, 8, 2),
    8: Configuration(32, 64, 4, 2),
    0: Configuration(64, 64, 8, 2),
}
UNGROUPED_CENTROIDS = 32  # of a tile whose every column competes: it takes more registers


def widths(dim: int, half: bool) -> tuple[int, int]:
    """Columns of a tile, in one or two parts that are powers of two; the least that hold dim.

    half: for float16, whose half squared lengths take two more where that is no more columns.
    Longer rows: multiples of STEP, in one.
    """
    most = SHORT if half else SHORT_FLOATS
    sizes = [16, 32, 64, 128]
    pairs = [(one, two) for one in sizes for two in [0, *sizes] if two < one and one + two <= most]
    fitting = [pair for pair in pairs if sum(pair) >= dim]
    if not fitting:
        return -(-dim // STEP) * STEP, 0
    return min(fitting, key=sum)


def fold_unit(dim: int, largest: float) -> float:
    """A power of two of which float16 can count half squared lengths.

    largest: coordinate. Not the largest length itself, which the device would have to be asked for.
    """
    most = max(0.5 * dim * largest**2, 1.0)
    return 2.0 ** max(0, math.ceil(math.log2(most)) - 15)


def shared_bytes(configuration: Configuration, width: int) -> int:
    """Shared memory of a program for bytes: its rows, and centroids of a few tiles."""
    rows, centroids, _, stages = configuration
    return 2 * width * (rows + 2 * stages * centroids)


def arranged(values: torch.Tensor, tile: int, group: int) -> torch.Tensor:
    """Rows of `values` in the order in which tiles of so many have them; (k, …) -> (k, …).

    Columns of a tile that lie SIDE apart are of one group; `group` rows in a row are its members.
    """
    if group == 1:
        return values
    grouped = values.reshape(-1, tile // group // SIDE, SIDE, group, *values.shape[1:])
    return grouped.transpose(2, 3).reshape(values.shape).contiguous()
