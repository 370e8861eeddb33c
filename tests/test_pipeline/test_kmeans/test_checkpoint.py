"""What is kept of an unfinished fit, and how often."""

from pathlib import Path

import pytest

from pipeline.kmeans import checkpoint
from pipeline.kmeans.checkpoint import FitCheckpoint


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
