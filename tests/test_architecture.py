"""The fences: who may import which folder and which heavy library, and how large things may be."""

import ast
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.programs import run_python

ROOT = Path(__file__).parents[1]
CODE = ("storage", "pipeline", "analysis")
# A room imports itself, rooms of its own layer, and rooms of the layers before. A room is a module
# or a folder; the longest name that fits counts, so `pipeline` is what is no room of its own:
# the public names and `python -m pipeline`.
LAYERS = (
    {"storage"},
    {"pipeline.option_values"},
    {"pipeline.config", "pipeline.rows", "pipeline.runtime"},
    {"pipeline.engines"},
    {"pipeline.execution", "pipeline.preprocessing"},
    {"pipeline.kmeans", "pipeline.extraction"},
    {
        "pipeline.experiment",
        "pipeline.dictionaries",
        "pipeline.experiment_file",
        "pipeline.labels",
        "pipeline.estimator_files",
        "pipeline.estimator_parameters",
    },
    {
        "pipeline.k_sweep",
        "pipeline.estimator",
        "pipeline.stages",
        "pipeline.upkeep",
    },
    {"pipeline.command_options"},
    {"pipeline.command_line"},
    {"pipeline"},
    {
        "analysis.text",
        "analysis.experiment",
        "analysis.experiment_data",
        "analysis.experiment_folders",
        "analysis.measures",
        "analysis.reconstruction",
        "analysis.export",
    },
    {"analysis.encoding"},
    {"analysis.classification"},
    {"analysis.html_report"},
    {"analysis.comparison"},
    {"analysis.command_options"},
    {"analysis.code_commands"},
    {"analysis.command_line"},
    {"analysis"},
)
LAYER = {room: number for number, layer in enumerate(LAYERS) for room in layer}
# besides pipeline's public names, the command line, to which analysis adds `report`
OPEN_TO_ANALYSIS = {"pipeline", "pipeline.command_line", "pipeline.command_options"}
# (file, module that it imports all the same) -> why
IMPORTS_ALL_THE_SAME: dict[tuple[str, str], str] = {
    ("pipeline/runtime/machine.py", "pipeline.engines"): "a type, for the checker alone",
    ("pipeline/estimator_files.py", "xarray"): "a type, for the checker alone",
}
# library -> who may import it, by the beginning of a file's path
HEAVY = {
    "zarr": ("storage/",),
    "xarray": (
        "storage/patch_store.py",
        "storage/interchange/",
        "analysis/",
    ),
    "obstore": ("storage/places/",),
    "PIL": ("storage/images/formats/raster.py",),
    "tifffile": ("storage/images/formats/tiff.py",),
    "h5py": ("storage/images/formats/hdf5.py",),
    "pooch": ("storage/images/download.py",),
    "requests": ("storage/images/download.py",),
    "dask": (
        "storage/patch_store.py",
        "pipeline/extraction/",
        "pipeline/execution/",
        "analysis/encoding/",
    ),
    "distributed": ("pipeline/execution/",),
    # a sweep on a CPU runs without torch
    "torch": (
        "analysis/export/torch_dictionary.py",
        "storage/interchange/torch_rows.py",  # only to hand out a view
        "pipeline/engines/device/",
        "pipeline/runtime/devices.py",
        "pipeline/runtime/machine.py",
    ),
    "triton": ("pipeline/engines/device/",),
    "numba": ("pipeline/engines/cpu/", "pipeline/runtime/kernel_cache.py"),
    "sklearn": (
        "pipeline/estimator.py",  # its protocol
        "pipeline/estimator_files.py",
        "pipeline/estimator_parameters.py",
        "analysis/html_report/exploration.py",
    ),
    "scipy": ("analysis/", "storage/images/formats/hdf5.py"),
    "matplotlib": ("analysis/html_report/",),
    "bokeh": ("analysis/html_report/page/",),
    "jinja2": ("analysis/html_report/page/",),
}
FILE_LINES, FUNCTION_LINES, FOLDER_FILES = 300, 60, 14
# file, folder, or file:function -> why
LARGE_ALL_THE_SAME: dict[str, str] = {
    "pipeline/engines/device/fused_programs.py:nearest_short": "one kernel, compiled whole",
    "tests/benchmarks/gpu.py": "one file to carry to a machine with a GPU",
    "tests/test_pipeline/test_engines/test_device/test_engine.py": "one oracle, many plans of it",
    "tests": "what tests of several folders share, and tests of the whole",
}
PACKAGING = ("__init__.py", "__init__.pyi")  # hand names on; not counted in a folder


def room_of(module: str) -> str:
    """The room that a module lies in."""
    parts = module.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next(name for name in names if name in LAYER)


def imported(code: str) -> Iterator[tuple[int, str]]:
    """Line and name of each module that `code` imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.lineno, node.module


def forbidden_imports(file: str, code: str) -> list[str]:
    """Imports in `code` that the tables forbid to `file` (relative to the root)."""
    own = room_of(file.removesuffix(".py").replace("/", "."))
    found = []
    for line, module in imported(code):
        top = module.split(".")[0]
        if top in CODE:
            wrong = LAYER[room_of(module)] > LAYER[own] or (
                own.startswith("analysis") and top == "pipeline" and module not in OPEN_TO_ANALYSIS
            )
        else:
            wrong = top in HEAVY and not file.startswith(HEAVY[top])
        if wrong and (file, module) not in IMPORTS_ALL_THE_SAME:
            found.append(f"{file}:{line} imports {module}")
    return found


def too_large(file: str, code: str) -> list[str]:
    """What in a file has more lines than it may: itself, or functions of a Python file."""
    sizes = {file: (len(code.splitlines()), FILE_LINES)}
    for node in ast.walk(ast.parse(code if file.endswith(".py") else "")):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            size = node.end_lineno - node.lineno + 1
            sizes[f"{file}:{node.name}"] = (size, FUNCTION_LINES)
    return [name for name, (size, limit) in sizes.items() if size > limit]


def too_full(files: Iterable[str]) -> list[str]:
    """Folders that hold more files than they may."""
    folders = [file.rpartition("/")[0] for file in files if not file.endswith(PACKAGING)]
    return [name for name in sorted(set(folders)) if folders.count(name) > FOLDER_FILES]


def sources(*folders: str) -> dict[str, str]:
    """Text of each file that people wrote, by its path relative to the root."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text()
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".pyi", ".js", ".css", ".html")
    }


def test_every_import_is_allowed_by_the_tables() -> None:
    code = {file: text for file, text in sources(*CODE).items() if file.endswith(".py")}
    assert len(code) > 80
    assert [line for file, text in code.items() for line in forbidden_imports(file, text)] == []


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("storage/planted.py", "from pipeline import sweep"),
        ("storage/planted.py", "def f():\n    import torch"),
        ("storage/planted.py", "import dask.array"),
        ("pipeline/planted.py", "import analysis.html_report"),
        ("pipeline/rows/planted.py", "import pipeline.engines.cpu.engine"),
        ("pipeline/runtime/planted.py", "from pipeline.k_sweep import sweep"),
        ("pipeline/engines/cpu/planted.py", "from pipeline.execution.executor import Executor"),
        ("pipeline/engines/cpu/planted.py", "import triton"),
        ("pipeline/execution/planted.py", "from pipeline.kmeans.loop import KMeansLoop"),
        ("pipeline/kmeans/planted.py", "from pipeline import sweep"),
        ("pipeline/upkeep/status.py", "import pipeline.command_line"),
        ("pipeline/planted.py", "from sklearn.cluster import KMeans"),
        ("pipeline/planted.py", "import matplotlib"),
        ("pipeline/kmeans/planted.py", "import torch"),
        ("analysis/planted.py", "from pipeline.k_sweep import sweep"),
        ("analysis/planted.py", "import torch.nn"),
        ("analysis/measures/planted.py", "from analysis.html_report import build"),
        ("analysis/measures/planted.py", "import bokeh.models"),
    ],
)
def test_a_planted_import_is_found(file: str, code: str) -> None:
    assert len(forbidden_imports(file, code)) == 1


def test_files_and_functions_are_short_and_no_folder_is_crowded() -> None:
    code = sources(*CODE, "tests")
    found = {name for file, text in code.items() for name in too_large(file, text)}
    assert found | set(too_full(code)) == set(LARGE_ALL_THE_SAME)  # no stale exceptions either


def test_planted_sizes_are_found() -> None:
    function = "def long():\n" + "    pass\n" * FUNCTION_LINES
    assert too_large("a/planted.py", function) == ["a/planted.py:long"]
    assert too_large("a/planted.css", "\n" * (FILE_LINES + 1)) == ["a/planted.css"]
    assert too_large("a/planted.py", "\n" * FILE_LINES) == []
    files = [f"a/{number}.py" for number in range(FOLDER_FILES)]
    assert too_full([*files, "a/__init__.py", "a/b/more.py"]) == []
    assert too_full([*files, "a/more.js"]) == ["a"]


def test_the_top_of_the_project_holds_nothing_else() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    visible = {name for name in top if not name.startswith(".")}
    files = {
        "pyproject.toml",
        "README.md",
        "Makefile",
        "LICENSE",
        "CITATION.cff",
        "constraints.txt",
    }
    assert visible <= {*CODE, "tests", "docs", *files}


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
    check = f"{program}\nimport sys\nprint(*{{'pandas', *{[*HEAVY]!r}}} & set(sys.modules))"
    done = run_python("-c", check)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("", "")
