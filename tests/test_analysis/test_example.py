"""The example notebook runs as it stands, and prints what it shows."""

import json
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

import analysis

NOTEBOOK = Path(analysis.__file__).parent / "example.ipynb"


def test_the_notebook_prints_what_it_shows(
    digits_swept: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a copy of a sweep of three of its four K."""
    shutil.copytree(Path(digits_swept["experiment"]).parent, tmp_path / "runs")
    mpl.use("Agg")
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    pictures = 0
    for cell in cells:
        printed = StringIO()
        with redirect_stdout(printed):
            exec("".join(cell["source"]), names)
        shown = [line for out in cell["outputs"] for line in out.get("text", [])]
        assert printed.getvalue() == "".join(shown)
        pictures += sum("image/png" in out.get("data", {}) for out in cell["outputs"])
    assert pictures == 4
