"""The import table of the design: who may import which folder and which heavy library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("storage", "pipeline", "analysis")
MAY_IMPORT_FOLDERS = {
    "storage": {"storage"},
    "pipeline": {"storage", "pipeline"},
    "analysis": {"storage", "pipeline", "analysis"},
}
# library -> who may import it: a folder, or one file of it
HEAVY = {
    "zarr": {"storage", "pipeline/extraction/extract.py"},
    "xarray": {"storage", "analysis"},
    "pooch": {"storage"},
    "requests": {"storage/images/transfer.py"},
    "urllib3": {"storage/images/transfer.py"},
    "dask": {"pipeline", "storage/patch_store.py"},
    "distributed": {"pipeline"},
    "torch": {"pipeline"},
    "numba": {"pipeline"},
    "triton": {"pipeline"},
    "sklearn": {
        "analysis",
        "storage/images/source.py",  # its digits
        "pipeline/estimator.py",  # its protocol
    },
    "scipy": {"analysis"},
    "matplotlib": {"analysis"},
    "bokeh": {"analysis"},
    "jinja2": {"analysis"},
}
# besides pipeline's public names, the command line, to which analysis adds `report`
PUBLIC_PIPELINE = {"pipeline", "pipeline.command_line"}
# what --help must not load
SLOW_TO_LOAD = (
    "torch",
    "requests",
    "jinja2",
    "dask",
    "zarr",
    "xarray",
    "sklearn",
    "scipy",
    "matplotlib",
    "pandas",
)


def violations(file: str, code: str) -> list[str]:
    """Imports in `code` that the table forbids to `file` (relative to the root)."""
    folder = file.split("/")[0]
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""] if node.level == 0 else []
        else:
            continue
        for module in modules:
            top = module.split(".")[0]
            wrong = (
                (top in FOLDERS and top not in MAY_IMPORT_FOLDERS[folder])
                or (top in HEAVY and not {folder, file} & HEAVY[top])
                or (folder == "analysis" and top == "pipeline" and module not in PUBLIC_PIPELINE)
            )
            if wrong:
                found.append(f"{file}:{node.lineno} imports {module}")
    return found


def sources() -> list[Path]:
    return sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))


def test_every_import_is_allowed_by_the_table() -> None:
    assert len(sources()) > 20
    found = [
        line
        for file in sources()
        for line in violations(file.relative_to(ROOT).as_posix(), file.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("storage/planted.py", "from pipeline import sweep"),
        ("storage/planted.py", "def f():\n    import torch"),
        ("storage/planted.py", "import dask.array"),
        ("pipeline/planted.py", "import analysis.report"),
        ("pipeline/planted.py", "from sklearn.cluster import KMeans"),
        ("pipeline/planted.py", "import matplotlib"),
        ("analysis/planted.py", "from pipeline.k_sweep import sweep"),
        ("analysis/planted.py", "import torch.nn"),
    ],
)
def test_a_planted_violation_is_found(file: str, code: str) -> None:
    assert len(violations(file, code)) == 1


def test_the_top_of_the_project_holds_nothing_else() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    visible = {name for name in top if not name.startswith(".")}
    assert visible <= {
        *FOLDERS,
        "tests",
        "pyproject.toml",
        "README.md",
        "Makefile",
        "LICENSE",
        "constraints.txt",
    }


@pytest.mark.parametrize(
    "program",
    [
        "from pipeline.command_line import group",
        "import pipeline.command_line as c; c.group(['sweep', '--help'], standalone_mode=False)",
        "import storage, pipeline, analysis",
        "from analysis.command_line import main",
    ],
)
def test_help_loads_no_heavy_library(program: str) -> None:
    check = f"{program}\nimport sys\nprint(*[m for m in {SLOW_TO_LOAD!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == ""
