from pathlib import Path

import numpy as np

from storage.fit_state import read_checkpoint, write_checkpoint
from tests.damage import refuses, unnoticed


def test_every_flipped_bit_of_a_state_is_found(tmp_path: Path) -> None:
    path = tmp_path / "k00002-full.unfinished.npz"
    arrays = {"centroids": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.int64)}
    write_checkpoint(path, arrays, {"stage": "step", "before": np.inf})
    found, facts = read_checkpoint(path) or ({}, {})
    assert facts == {"stage": "step", "before": np.inf}
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    assert unnoticed(path, 1, lambda: refuses(read_checkpoint, path)) == []
