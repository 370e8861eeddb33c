"""What is planned to stay on a device lies within the cap, whatever the sizes."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.device.plan import STAGING_BUFFERS, DevicePlan, plan_device
from pipeline.engines.ordered_sums import piece_rows


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
