"""The Triton kernels: on a GPU where there is one, else in Triton's interpreter (see conftest)."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.device.float64_ties import Float64Ties
from tests.oracles import squared_distances
from tests.test_pipeline.test_engines.test_device.test_kernels import label_with

fused = pytest.importorskip(
    "pipeline.engines.device.fused_search", reason="Triton is not installed"
)
fused_layout = pytest.importorskip("pipeline.engines.device.fused_layout")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    "configuration", [None, *(c for w in (64, 160) for c in fused_layout.CONFIGURATIONS[w])]
)
@pytest.mark.parametrize("levels", [3, 256])
def test_no_configuration_changes_a_label(
    configuration: "fused_layout.Configuration | None", levels: int
) -> None:
    rng = np.random.default_rng(1)  # whole numbers; of three levels most rows are ties
    rows = rng.integers(levels, size=(300, 9), dtype=np.uint8)
    centroids = rng.integers(levels, size=(150, 9)).astype(np.float32)
    nearest = squared_distances(rows, centroids).argmin(1)
    for group in (None, 1, 4) if configuration else (1, 4, 8):
        chosen = {"configuration": configuration, "group": group}
        kernels = fused.FusedKernels(DEVICE, 9, rows.dtype, **chosen)
        np.testing.assert_array_equal(label_with(kernels, rows, centroids), nearest)


@given(dim=st.integers(1, 400), half=st.booleans())
def test_tiles_are_as_narrow_as_can_be(dim: int, half: bool) -> None:
    first, second = fused_layout.widths(dim, half)
    assert first + second >= dim
    if first + second <= (fused_layout.SHORT if half else fused_layout.SHORT_FLOATS):
        assert all(width >= 16 and width & (width - 1) == 0 for width in (first, second) if width)
        assert first + second - dim < max(16, dim // 2)


@pytest.mark.parametrize(("tile", "group"), [(64, 8), (64, 4), (32, 4), (32, 1)])
def test_members_of_a_group_lie_eight_columns_apart(tile: int, group: int) -> None:
    order = fused_layout.arranged(torch.arange(3 * tile), tile, group).reshape(3, tile).numpy()
    assert sorted(order.reshape(-1)) == list(range(3 * tile))
    for column in range(tile):
        block, place = divmod(column, 8 * group)
        member, lane = divmod(place, 8)
        assert order[1, column] == tile + (8 * block + lane) * group + member


def test_projected_memory_covers_what_is_there() -> None:
    for dim, dtype, k in ((25, "uint8", 1000), (147, "uint8", 100), (25, "float32", 500)):
        kernels = fused.FusedKernels(DEVICE, dim, np.dtype(dtype))
        kernels.load(np.ones((k, dim), np.float32))
        held = [value for value in vars(kernels).values() if isinstance(value, torch.Tensor)]
        sums = kernels.sums(k)._table
        there = sum(tensor.nbytes for tensor in [*held, sums, sums])
        ties = Float64Ties.bytes(k, dim, fused.DECIDED) + 16 * fused.LOOKED_AT
        assert there < kernels.device_bytes(k) - ties < 8 * there
