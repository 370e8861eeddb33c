"""Experiments that several folders of tests look at, each learned once."""

from pathlib import Path
from typing import Any

import pytest

from analysis import report
from pipeline import SweepOptions, sweep


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, three dictionaries; the only experiment of its OUT. A report may lie in it."""
    out = tmp_path_factory.mktemp("digits")
    options = SweepOptions(out=out, k=(4, 12, 60), max_iter=2, breathing=0, device="cpu")
    return Path(sweep(options)["experiment"])


@pytest.fixture(scope="session")
def digits_report(digits_folder: Path) -> dict[str, Any]:
    """What `report` says of its report, made once."""
    (result,) = report(digits_folder)
    return result
