"""The notebooks run as they stand, and print what they show."""

import json
import re
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

import analysis

NOTEBOOKS = Path(analysis.__file__).parent


def run(notebook: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    """Run all cells in a folder. Returns: how many pictures the notebook shows."""
    mpl.use("Agg")
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    cells = json.loads((NOTEBOOKS / notebook).read_text())["cells"]
    pictures = 0
    for cell in (cell for cell in cells if cell["cell_type"] == "code"):
        printed = StringIO()
        with redirect_stdout(printed):
            exec("".join(cell["source"]), names)
        shown = [line for out in cell["outputs"] for line in out.get("text", [])]
        assert printed.getvalue() == "".join(shown)
        data = [out.get("data", {}) for out in cell["outputs"]]
        told = "".join([*shown, *(line for one in data for line in one.get("text/html", []))])
        assert not re.search(r"(?<![\w.])(/[\w.-]+){3}", told)  # nobody's folder
        pictures += sum("image/png" in one for one in data)
    return pictures


def test_the_notebook_prints_what_it_shows(
    digits_swept: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a copy of a sweep of three of its four K."""
    shutil.copytree(Path(digits_swept["experiment"]).parent, tmp_path / "runs")
    assert run("example.ipynb", monkeypatch, tmp_path) == 4


@pytest.mark.slow  # kernels of its patch size are compiled
def test_the_notebook_of_own_images_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("own_images.ipynb", monkeypatch, tmp_path) == 3
