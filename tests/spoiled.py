"""A loop that makes worse what it is given."""

import numpy as np
import pytest

from pipeline.kmeans.nested import Nested, NestedState


def spoil_larger_than(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested fits of more than k centroids end at once, with all of them far off."""
    begin = Nested.begin

    def spoil(run: Nested, centroids: np.ndarray) -> NestedState:
        state = begin(run, centroids)
        if len(centroids) > k:
            state.stage, state.centroids = "score", (0.01 * centroids).astype(np.float32)
        return state

    monkeypatch.setattr(Nested, "begin", spoil)
