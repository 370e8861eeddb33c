"""An experiment to classify by."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def digits_copy(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, K = 4, 12 and 60, whose folder tests may write into."""
    runs = tmp_path_factory.mktemp("classified") / "runs"
    shutil.copytree(digits_folder.parent, runs)
    return runs / digits_folder.name
