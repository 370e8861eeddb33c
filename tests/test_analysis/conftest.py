"""Experiments that several folders of tests look at, each learned once."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis import report
from tests.conftest import made_once
from tests.test_analysis.test_html_report.small_runs import learn


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, three dictionaries; the only experiment of its OUT. A report may lie in it."""

    def make(folder: Path) -> dict[str, Any]:
        return {"experiment": str(learn(folder, (4, 12, 60)))}

    made = Path(made_once(tmp_path_factory, "digits_learned", make)["experiment"])
    own = tmp_path_factory.mktemp("digits_runs", numbered=False)
    return shutil.copytree(made.parent, own, dirs_exist_ok=True) / made.name


@pytest.fixture(scope="session")
def digits_report(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `report` says of its report, made once."""

    def make(folder: Path) -> dict[str, Any]:
        shutil.copytree(digits_folder.parent, folder / digits_folder.parent.name)
        (result,) = report(folder / digits_folder.parent.name)
        return result

    made = made_once(tmp_path_factory, "digits_reported", make)
    there = Path(made["report"]).parent
    shutil.copytree(there, digits_folder, dirs_exist_ok=True)
    own: dict[str, Any] = json.loads(json.dumps(made).replace(str(there), str(digits_folder)))
    return own
