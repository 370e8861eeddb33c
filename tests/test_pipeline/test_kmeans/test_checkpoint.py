"""What is kept of an unfinished fit, and how often."""

from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from pipeline.kmeans import checkpoint
from pipeline.kmeans.checkpoint import FitCheckpoint
from pipeline.kmeans.history import History
from pipeline.kmeans.loop import LoopState
from pipeline.kmeans.minibatch import MiniBatchState
from pipeline.kmeans.nested import NestedState
from pipeline.rows.cluster_sums import ClusterSums
from storage.fit_state import read_checkpoint, write_checkpoint


@pytest.mark.parametrize("kind", [LoopState, MiniBatchState, NestedState])
def test_every_field_of_a_state_comes_back(kind: type[LoopState], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sums = ClusterSums(rng.integers(0, 9, (2, 3)), np.array([1, 2]), rng.random(2), rng.random(3))
    values: dict[str, Any] = {
        "str": "exhale",
        "int": 7,
        "float": 1 / 3,
        "bool": True,
        "ndarray": rng.random((2, 3)).astype(np.float32),
        "ClusterSums": sums,
        "History": History([5], [1 / 7], [0.1], [2], [1], [0.3]),
    }
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name != "stopped"}
    fields = {
        name: values[getattr(hint, "__args__", (hint,))[0].__name__] for name, hint in hints.items()
    }
    state = kind(**fields, stopped="target")
    write_checkpoint(tmp_path / "state", *state.pack())
    stored = read_checkpoint(tmp_path / "state")
    assert stored is not None
    back = kind.unpack(*stored)
    for name, value in vars(state).items():
        found = getattr(back, name)
        assert type(found) is type(value)
        if isinstance(value, ClusterSums):
            for part, array in vars(value).items():
                np.testing.assert_array_equal(getattr(found, part), array)
        else:
            np.testing.assert_array_equal(found, value)


def test_passes_shorter_than_saving_are_not_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SHARE", 1e-9)
    kept = FitCheckpoint(tmp_path, 5, {})
    for number in range(3):
        kept.save("full", {}, {"number": number})
    assert FitCheckpoint(tmp_path, 5, {}).load("full") == ({}, {"number": 0})


def test_seconds_are_those_of_all_parts(tmp_path: Path) -> None:
    first = FitCheckpoint(tmp_path, 5, {})
    first._started -= 100
    first.save("full", {}, {})
    second = FitCheckpoint(tmp_path, 5, {})
    assert second.load("full") == ({}, {})
    assert 100 < second.spent < 101
