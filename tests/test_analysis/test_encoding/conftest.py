"""Experiments to encode by."""

import shutil
from pathlib import Path

import pytest

from analysis.encoding import encoding


@pytest.fixture
def folder(digits_folder: Path, tmp_path: Path) -> Path:
    """An experiment of the digits, K = 4, 12 and 60, that a test may change."""
    shutil.copytree(digits_folder.parent, tmp_path / "runs")
    return tmp_path / "runs" / digits_folder.name


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of 64 images in a chunk: 5 chunks of the digits' test images."""
    monkeypatch.setattr(encoding, "CHUNK_CODES", 64 * 16)
