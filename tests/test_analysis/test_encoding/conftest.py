"""Experiments to encode by."""

import shutil
from pathlib import Path

import pytest

from analysis import open_stages
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


@pytest.fixture(scope="session")
def learned(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits with three stages of K = 12; no test changes it."""
    runs = shutil.copytree(digits_folder.parent, tmp_path_factory.mktemp("stages") / "runs")
    open_stages(runs / digits_folder.name, 12, 3)
    return Path(runs / digits_folder.name)


@pytest.fixture
def staged(learned: Path, tmp_path: Path) -> Path:
    """The same, that a test may change."""
    shutil.copytree(learned.parent, tmp_path / "runs")
    return tmp_path / "runs" / learned.name
