"""The range in which pictures are shown, as a sweep records it of its patches."""

import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pipeline.dictionaries import described
from pipeline.experiment import Experiment


def found(levels: np.ndarray, chunks: int = 64, rows: int = 1 << 17) -> dict[str, Any]:
    """What is recorded of patches of 16 bits, chunk after chunk of the same levels."""

    def read_chunk(index: int) -> np.ndarray:
        assert 0 <= index < chunks
        return np.resize(levels, (rows, 8))

    facts: dict[str, Any] = {"source": {"dtype": "uint16", "range": [0, 4095]}}
    train = SimpleNamespace(
        **{"shape": (chunks * rows, 8), "dim": 8, "dtype": np.dtype(np.uint16)},
        **{"n_chunks": chunks, "chunk_rows": rows, "read_chunk": read_chunk},
        **{"path": Path("patches"), "seal": "", "source": facts["source"]},
    )
    experiment = SimpleNamespace(train=train, describe=lambda: dict(facts))
    source: dict[str, Any] = described(cast(Experiment, experiment))["source"]
    assert "shown" not in facts["source"]
    return source


@pytest.mark.parametrize("chunks", [1, 5, 64])
def test_it_is_recorded_where_pixels_use_little_of_theirs(chunks: int) -> None:
    few = np.arange(100, 1100, dtype=np.uint16)
    assert found(few, chunks)["shown"] == pytest.approx([100, 1099], abs=9)
    assert "shown" not in found(np.arange(4096, dtype=np.uint16), chunks)


def test_it_takes_a_chunk_and_a_few_values_of_the_others() -> None:
    tracemalloc.start()
    found(np.arange(100, 1100, dtype=np.uint16))  # chunks of 2 MiB
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
