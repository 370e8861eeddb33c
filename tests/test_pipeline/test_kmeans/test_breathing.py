"""How many rounds of moves there are, and how much each of them moves."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.kmeans.breathing import (
    added,
    many_of,
    parts_of,
    planned_steps,
    rounds_of,
    rounds_within,
)


@given(st.integers(2, 100_000), st.integers(1, 40))
def test_rounds_move_fewer_and_fewer_and_no_more_than_half(k: int, rounds: int) -> None:
    moved = [many_of(k, place, rounds) for place in range(rounds)]
    assert moved[0] == added(k) <= k // 2
    assert moved[-1] >= 1
    assert moved == sorted(moved, reverse=True)
    for many in moved:
        assert 1 <= parts_of(k, many) <= many
    assert rounds_of(k, rounds) == rounds
    assert rounds_of(k, 0) == 0 < rounds_of(k, None)
    assert rounds_of(1, rounds) == rounds_of(1, None) == 0


@given(k=st.integers(2, 10**5), rounds=st.integers(0, 300), steps=st.integers(0, 2000))
def test_rounds_are_as_many_as_there_are_steps_for(k: int, rounds: int, steps: int) -> None:
    planned = rounds_within(k, rounds, steps)
    assert min(rounds, 1) <= planned <= rounds
    assert planned <= 1 or planned_steps(k, rounds, steps) <= 1.25 * steps
    assert planned == rounds or planned_steps(k, planned + 1, 10**9) > 0.75 * steps
