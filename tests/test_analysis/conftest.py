"""Experiments that several folders of tests look at, each learned once."""

from pathlib import Path
from typing import Any

import pytest

from analysis import report
from tests.test_analysis.test_html_report.small_runs import learn


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, three dictionaries; the only experiment of its OUT. A report may lie in it."""
    return learn(tmp_path_factory.mktemp("digits"), (4, 12, 60))


@pytest.fixture(scope="session")
def digits_report(digits_folder: Path) -> dict[str, Any]:
    """What `report` says of its report, made once."""
    (result,) = report(digits_folder)
    return result
