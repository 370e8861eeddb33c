from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import InputError
from storage.patch_spec import (
    Codec,
    PatchSpec,
    chosen_codec,
    chunk_rows,
    codecs,
    plan_chunks,
    trial_plans,
)


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
        # with a reflected border every stride-th pixel is the centre of a patch
        centres = range(0, height, stride), range(0, width, stride)
        around = PatchSpec(rows, cols, stride, border="reflect")
        assert around.grid(height, width) == tuple(map(len, centres))
        assert around.extended(height, width) == (height + rows - 1, width + cols - 1)
        assert around.within == spec


def test_rules_are_exact_in_decimals() -> None:
    assert PatchSpec(5, 5).rule == ("nonblank", 0)
    assert PatchSpec(5, 5, threshold=0.2).rule == ("nonblank", Fraction(2, 10))  # no float is it
    assert PatchSpec(2, 2, keep="std > 0.020").rule == ("std", Fraction(2, 100))
    assert PatchSpec(2, 2, keep="all").rule[0] == "all"


@pytest.mark.parametrize("keep", ["some", "std", "std>", "std>1", "range>-1", "all>0", "std>nan"])
def test_what_is_no_rule_is_refused(keep: str) -> None:
    with pytest.raises(InputError, match="is no rule: use nonblank, all, or a share"):
        PatchSpec(3, 3, keep=keep)


def test_samples_are_numbers_or_shares() -> None:
    assert PatchSpec(3, 3, sample="1e6").sample == "1000000"
    assert PatchSpec(3, 3, sample="5 %").drawn(1010) == 50
    assert PatchSpec(3, 3, sample="200").drawn(100) == 100
    assert PatchSpec(3, 3, sample="0.001%").drawn(100) == 1
    for sample in ("0", "1.5", "-3", "101%", "0%", "many", "inf", "nan%"):
        with pytest.raises(InputError, match="use a number of patches as in 1e6, or a share"):
            PatchSpec(3, 3, sample=sample)


def test_specs_of_old_keep_their_fields_and_new_ones_their_way_back() -> None:
    assert set(PatchSpec(3, 4).to_dict()) == {"rows", "cols", "stride", "threshold", "seed"}
    spec = PatchSpec(3, 4, keep="range>0.1", sample="5%")
    assert PatchSpec.from_dict(spec.to_dict()) == spec
    assert spec.label == "3x4-s1-range0.1-n5pc"
    spec = PatchSpec(3, 4, border="reflect")
    assert PatchSpec.from_dict(spec.to_dict()) == spec
    assert spec.label == "3x4-s1-t0-reflect"
    with pytest.raises(InputError, match="no border 'wrap': use valid or reflect"):
        PatchSpec(3, 4, border="wrap")  # type: ignore[arg-type]


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


def test_codecs_of_small_patches_are_as_ever() -> None:
    assert codecs(PatchSpec(5, 5), 1, 1) == [Codec(True, 25, 25 * 16384)]
    assert codecs(PatchSpec(5, 5), 1, 4) == [Codec(True, 100, 100 * 4096)]


@pytest.mark.parametrize(
    ("spec", "channels", "itemsize", "typesize"),
    [
        (PatchSpec(8, 8), 3, 1, 192),  # the whole patch
        (PatchSpec(16, 16), 3, 1, 192),  # four of 16 rows
        (PatchSpec(16, 16), 1, 1, 128),
        (PatchSpec(17, 17), 3, 1, 51),  # one row, for 17 is prime
        (PatchSpec(2, 100), 3, 1, 150),  # half a row, as a whole one does not fit
        (PatchSpec(2, 2), 300, 2, 200),  # not one pixel fits
        (PatchSpec(2, 2), 257, 2, 2),
    ],
)
def test_large_patches_are_shuffled_by_what_blosc_can(
    spec: PatchSpec, channels: int, itemsize: int, typesize: int
) -> None:
    patch = spec.dim(channels) * itemsize
    plain, shuffled = codecs(spec, channels, itemsize)
    assert (plain.shuffled, plain.typesize) == (False, itemsize)
    assert (shuffled.shuffled, shuffled.typesize) == (True, typesize)
    assert patch % typesize == 0  # equal places of all patches
    assert {plain.blocksize % patch, shuffled.blocksize % patch} == {0}


def test_shuffling_must_save_a_tenth() -> None:
    plain, shuffled = candidates = codecs(PatchSpec(8, 8), 3, 1)
    assert chosen_codec(candidates, [1000, 899]) == shuffled
    assert chosen_codec(candidates, [1000, 900]) == plain


@pytest.mark.parametrize("rows", [1, 7, 80_000, 10**9])
def test_codecs_are_tried_on_pieces_from_all_over_the_store(rows: int) -> None:
    plans = trial_plans([0, rows // 3, rows], 192)
    starts = [(0, rows // 3)[plan.first] + plan.skip for plan in plans]
    assert sum(plan.rows for plan in plans) * 192 <= 16 << 20
    assert starts == sorted(set(starts))
    if rows > 10**8:
        np.testing.assert_allclose(np.diff(starts), rows / 8, rtol=0.01)
