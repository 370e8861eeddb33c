"""What stays on a device and how rows come to it, against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.device import plan as device_plan
from pipeline.engines.device.plan import (
    STAGING_BUFFERS,
    DevicePlan,
    cut,
    plan_device,
    plan_transfers,
)
from pipeline.engines.ordered_sums import piece_rows


@given(
    first=st.integers(0, 5),
    block_rows=st.integers(1, 50),
    n_rows=st.integers(0, 300),
    piece=st.integers(1, 60),
    start=st.integers(0, 310),
    stays=st.integers(0, 310),
)
def test_pieces_cover_the_rows_once_in_order(
    first: int, block_rows: int, n_rows: int, piece: int, start: int, stays: int
) -> None:
    blocks = range(first, first + -(-n_rows // block_rows))
    transfers = list(plan_transfers(blocks, block_rows, n_rows, piece, start, stays))
    rows = [row for transfer in transfers for row in range(transfer.start, transfer.stop)]
    assert rows == list(range(start, n_rows))
    for transfer in transfers:
        assert transfer.stop - transfer.start <= piece
        assert (transfer.block - first) * block_rows + transfer.within == transfer.start
        assert transfer.within + transfer.stop - transfer.start <= block_rows
        assert not transfer.start < stays < transfer.stop


@given(block_rows=st.integers(1, 50), n_rows=st.integers(1, 300), unit=st.integers(1, 60))
def test_what_is_summed_together_is_cut_as_the_cpu_engines_do(
    block_rows: int, n_rows: int, unit: int
) -> None:
    expected = [
        (block + at, min(block + at + unit, block + block_rows, n_rows))
        for block in range(0, n_rows, block_rows)
        for at in range(0, min(block_rows, n_rows - block), unit)
    ]
    assert list(cut(n_rows, block_rows, unit)) == expected


@given(
    allowed=st.integers(0, 1 << 34),
    kernels=st.integers(0, 1 << 30),
    k=st.integers(1, 20_000),
    dim=st.integers(1, 300),
    itemsize=st.sampled_from([1, 2, 4, 8]),
    keeps_labels=st.booleans(),
    n_rows=st.integers(1, 10**8),
    block_rows=st.integers(1, 1 << 20),
    given_rows=st.integers(0, 1000),
)
def test_all_that_is_taken_lies_within_the_cap(
    allowed: int,
    kernels: int,
    k: int,
    dim: int,
    itemsize: int,
    keeps_labels: bool,
    n_rows: int,
    block_rows: int,
    given_rows: int,
) -> None:
    def planned(allowed: int) -> DevicePlan:
        labels = keeps_labels
        return plan_device(allowed, kernels, k, dim, itemsize, keeps_labels=labels, device="cuda")

    plan = planned(allowed)
    if plan.least > allowed:
        # the cap that the refusal names will do
        again = planned(plan.least)
        assert again.fixed == again.least == plan.least
        return
    pieces = STAGING_BUFFERS * plan.piece * (dim * itemsize + 4)
    labels = 8 if keeps_labels else 4
    others = given_rows * plan.row_bytes
    stay = plan.room(n_rows, block_rows, others)
    rows = stay * (dim * itemsize + labels)
    sums = 3 * 8 * k * (dim + 2)
    assert 0 <= stay <= n_rows
    if stay:
        assert kernels + sums + pieces + rows + others + (64 << 20) <= allowed
    assert kernels + sums + pieces + (64 << 20) <= allowed
    assert plan.piece % piece_rows(dim) == 0
    assert stay == n_rows or (stay % block_rows) % plan.unit == 0


def test_rows_stay_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.engines.ordered_sums.MAX_PIECE_ROWS", 10)
    monkeypatch.setattr(device_plan, "PIECE_BYTES", 40)
    # 2 values, K = 1: 96 bytes of sums, 3 pieces of 10 or 20 rows of 6 bytes
    least = 1000 + 96 + 3 * 10 * 6
    small = plan_device(least, 1000, 1, 2, 1, keeps_labels=True)
    assert (small.least, small.fixed, small.piece) == (least, least, 10)
    assert small.room(100, 25) == 0
    large = plan_device(least + 4 * 3 * 20 * 6, 1000, 1, 2, 1, keeps_labels=True)
    assert (large.piece, large.fixed) == (20, 1000 + 96 + 3 * 20 * 6)
    assert large.row_bytes == 2 + 2 * 4
    spare = large.allowed - large.fixed
    assert large.room(10**6, 25) == spare // 10 // 25 * 25 + spare // 10 % 25 // 10 * 10
    assert large.room(10**6, 25, given=spare) == 0


def test_dtypes_of_numpy_have_the_sizes_that_are_planned_for() -> None:
    assert [np.dtype(t).itemsize for t in ("u1", "u2", "f4", "f8")] == [1, 2, 4, 8]
