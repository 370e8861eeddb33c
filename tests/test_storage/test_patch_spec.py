from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import InputError
from storage.patch_spec import PatchSpec, blosc_layout, chunk_rows, plan_chunks


@given(counts=st.lists(st.integers(0, 7), min_size=1, max_size=30), size=st.integers(1, 12))
def test_plan_gives_every_row_to_exactly_one_chunk(counts: list[int], size: int) -> None:
    rows = [(image, i) for image, count in enumerate(counts) for i in range(count)]
    plans = plan_chunks([0, *accumulate(counts)], size)
    assert [plan.index for plan in plans] == list(range(-(-len(rows) // size)))
    for plan in plans:
        drawn = [row for row in rows if plan.first <= row[0] < plan.stop]
        start = plan.index * size
        assert drawn[plan.skip : plan.skip + plan.rows] == rows[start : start + size]
        # no image is read in vain at either end
        assert drawn[0][0] == rows[start][0]
        assert drawn[-1][0] == rows[min(start + size, len(rows)) - 1][0]


@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    rows=st.integers(1, 30),
    cols=st.integers(1, 30),
    stride=st.integers(1, 9),
)
def test_grid_counts_the_windows_inside(
    height: int, width: int, rows: int, cols: int, stride: int
) -> None:
    spec = PatchSpec(rows, cols, stride)
    down = [top for top in range(0, height, stride) if top + rows <= height]
    across = [left for left in range(0, width, stride) if left + cols <= width]
    if not down or not across:
        with pytest.raises(InputError, match="larger than the images"):
            spec.grid(height, width)
    else:
        assert spec.grid(height, width) == (len(down), len(across))


def test_level_is_exact_in_decimals() -> None:
    assert PatchSpec(5, 5).level(255) == 0
    assert PatchSpec(5, 5, threshold=0.2).level(255) == 1275  # in floats 1275.0000000000002
    assert PatchSpec(2, 2, threshold=0.1).level(1, channels=3) == Fraction(12, 10)


@pytest.mark.parametrize("field", [{"rows": 0}, {"stride": 0}, {"threshold": 1.0}])
def test_impossible_specs_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(InputError):
        PatchSpec(**({"rows": 5, "cols": 5} | field))  # type: ignore[arg-type]


def test_equal_specs_are_one() -> None:
    import numpy as np

    odd = PatchSpec(np.int64(5), 5, threshold=0)  # type: ignore[arg-type]
    assert odd == PatchSpec(5, 5, threshold=0.0)
    assert str(odd.to_dict()) == str(PatchSpec(5, 5).to_dict())
    with pytest.raises(InputError, match="has no 'row'"):
        PatchSpec.from_dict({"row": 5})


def test_spec_round_trips_through_json() -> None:
    spec = PatchSpec(5, 7, 2, 0.1, 3)
    assert PatchSpec.from_dict(spec.to_dict()) == spec


def test_chunks_follow_the_byte_budget() -> None:
    assert chunk_rows(25, 1) == 262_144  # the measured choice for MNIST 5×5
    for dim in (1, 25, 147, 784, 10**8):
        rows = chunk_rows(dim, 4)
        assert rows == 1 or rows * dim * 4 <= 8 << 20 < 2 * rows * dim * 4


def test_large_patches_are_not_shuffled() -> None:
    assert blosc_layout(25, 1) == (True, 25, 25 * 16384)
    assert blosc_layout(256, 1)[:2] == (False, 1)  # Blosc would ignore such a typesize
