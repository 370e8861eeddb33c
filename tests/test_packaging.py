"""The wheel: one package of its own name, whatever else a user's folders hold."""

import ast
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder

import patchdict
from pipeline.execution import probes
from tests.programs import run_python

ROOT = Path(__file__).parents[1]
FOLDERS = ("storage", "pipeline", "analysis")


def build(kind: str, folder: Path) -> Path:
    """Build a wheel and unpack it; kind: standard or editable."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=[kind])
    unpacked = folder / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    return unpacked


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies in site-packages after an installation."""
    return build("standard", tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A working folder with modules that are called as our folders are."""
    for folder in FOLDERS:
        (tmp_path / f"{folder}.py").write_text(f"raise SystemExit('the {folder}.py of the user')")
    return tmp_path


def run(installed: Path, cwd: Path, *arguments: str) -> str:
    """Output of Python with the wheel; the user's modules are found before the checkout's."""
    path = os.pathsep.join(map(str, (installed, cwd)))
    done = run_python(*arguments, cwd=cwd, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_one_package(installed: Path) -> None:
    top = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert top == {"patchdict"}
    package = installed / "patchdict"
    files = {path.relative_to(package) for path in package.rglob("*.*")}
    expected = {
        file.relative_to(ROOT)
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*.*")
        if file.suffix not in (".ipynb", ".md") and "__pycache__" not in file.parts
    }
    assert expected <= files
    assert Path("py.typed") in files
    assert not [file for file in files if file.suffix == ".ipynb"]
    (entries,) = installed.glob("*.dist-info/entry_points.txt")
    assert "patchdict = patchdict.__main__:main" in entries.read_text()


def test_nothing_in_the_wheel_names_a_module_at_the_top(installed: Path) -> None:
    left = []
    for file in installed.rglob("*.py*"):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = re.findall(r"^\w+(?=(?:\.[a-z]\w*)+$)", node.value)
            left += [f"{file}: {name}" for name in names if name.split(".")[0] in FOLDERS]
    assert left == []


def test_it_is_imported_beside_modules_of_the_same_names(installed: Path, elsewhere: Path) -> None:
    program = (
        "import patchdict as p, sys; print(p.__file__, p.open_patches.__module__);"
        "print(sorted({'torch', 'sklearn', 'dask', 'bokeh'} & set(sys.modules)))"
    )
    first, heavy = run(installed, elsewhere, "-c", program).splitlines()
    package = installed / "patchdict" / "__init__.py"
    assert first.split() == [str(package), "patchdict.storage.patch_store"]
    assert heavy == "[]"
    told = run(installed, elsewhere, "-m", "patchdict", "--help")
    assert told.startswith("Usage: python -m patchdict ")
    for command in ("sweep", "report", "reconstruct"):
        assert f"\n  {command} " in told


def test_workers_find_our_storage_in_the_wheel(installed: Path, elsewhere: Path) -> None:
    """They looked for the user's."""
    program = "import sys, patchdict.pipeline.execution.probes as probes\n"
    program += "print(probes.storage_beside(probes.__name__))"
    assert run(installed, elsewhere, "-c", program).strip() == "patchdict.storage"
    assert probes.storage_beside(probes.__name__) == "storage"


def test_an_editable_installation_uses_the_checkout(tmp_path: Path) -> None:
    (found,) = build("editable", tmp_path).glob("*.pth")
    assert found.read_text().splitlines() == [str(ROOT), str(ROOT / ".packaging")]


def test_a_checkout_is_imported_beside_modules_of_the_same_names(elsewhere: Path) -> None:
    path = os.pathsep.join(map(str, (elsewhere, ROOT, ROOT / ".packaging")))
    env = os.environ | {"PYTHONPATH": path}
    program = "import patchdict as p; print(p.sweep.__module__, p.StreamingKMeans.__module__)"
    for arguments in (("-c", program), ("-m", "patchdict", "--version")):
        done = run_python(*arguments, cwd=elsewhere, env=env)
        assert done.returncode == 0, done.stderr
    assert run_python("-c", program, cwd=elsewhere, env=env).stdout.split() == [
        "pipeline.k_sweep",
        "pipeline.estimator",
    ]


def test_the_package_hands_on_all_public_names() -> None:
    import analysis
    import pipeline
    import storage

    assert len(set(patchdict.__all__)) == len(patchdict.__all__)
    for folder in (storage, pipeline, analysis):
        assert set(folder.__all__) <= set(patchdict.__all__)
    assert patchdict.open_patches is storage.open_patches
    assert patchdict.sweep is pipeline.sweep
    with pytest.raises(AttributeError, match="module 'patchdict' has no attribute 'absent'"):
        _ = patchdict.absent


@pytest.mark.slow
def test_it_sweeps_and_reports_beside_modules_of_the_same_names(
    installed: Path, elsewhere: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    np.save(elsewhere / "own.npy", images)
    command = ("-c", "import sys; from patchdict.__main__ import main; sys.exit(main())")
    sweep = ("sweep", "--dataset", "own.npy", "--k", "2,3", "--max-iter", "2", "--json")
    swept = json.loads(run(installed, elsewhere, *command, *sweep).splitlines()[-1])
    spread = (*sweep, "--out", "spread", "--scheduler", "processes:1")
    same = json.loads(run(installed, elsewhere, *command, *spread).splitlines()[-1])
    numbers = [[entry["mse"] for entry in one["dictionaries"]] for one in (swept, same)]
    assert numbers[0] == numbers[1]
    assert numbers[0][0] > numbers[0][1] > 0
    run(installed, elsewhere, *command, "report", "runs")
    (page,) = (elsewhere / "runs").glob("*/report.html")
    assert "python -m patchdict sweep" in page.read_text()
