"""A `make sweep` that finds everything done ends soon: its two commands load next to nothing."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis.html_report.freshness import digest_of
from tests.programs import run_python
from tests.test_architecture import HEAVY

SLOW = [name for name in (*HEAVY, "pandas") if name != "zarr"]
PROGRAM = f"""
import sys
from {{package}}.command_line import group
group(sys.argv[1:], standalone_mode=False)
print([name for name in {SLOW!r} if name in sys.modules])
"""


@pytest.fixture
def done(digits_swept: dict[str, Any], tmp_path: Path) -> Path:
    """OUT after a sweep and its report; the page tells what it was made of, and is empty."""
    out = tmp_path / "runs"
    shutil.copytree(Path(digits_swept["experiment"]).parent, out)
    folder = out / Path(digits_swept["experiment"]).name
    marks = {"digest": digest_of(folder), "figures": ""}
    page = [f'<meta name="patchdict-{name}" content="{value}">' for name, value in marks.items()]
    (folder / "report.html").write_text("".join(page))
    return out


@pytest.mark.parametrize(
    ("package", "arguments", "told"),
    [
        ("pipeline", ["sweep", "--k", "10,20,50", "--device", "cpu", "--out"], "reused"),
        ("pipeline", ["sweep", "--k", "10,20,50", "--out"], "reused"),
        ("analysis", ["report", "--only-stale"], "up to date"),
    ],
    ids=["sweep on the cpu", "sweep", "report"],
)
def test_no_heavy_library_is_loaded(
    package: str, arguments: list[str], told: str, done: Path
) -> None:
    ran = run_python("-c", PROGRAM.format(package=package), *arguments, str(done))
    assert ran.returncode == 0, ran.stderr
    *_, result, loaded = ran.stdout.splitlines()
    assert result.endswith(told)
    assert loaded == "[]"


def test_only_the_experiments_of_the_sweep_are_reported(done: Path, tmp_path: Path) -> None:
    (own,) = (page.parent for page in done.glob("*/report.html"))
    other = Path(shutil.copytree(own, done / "other"))
    (other / "report.html").write_text("stale")
    broken = Path(shutil.copytree(own, done / "broken"))
    (broken / "dictionaries.zarr" / "zarr.json").write_text("{")
    swept = tmp_path / "swept"
    words = ["sweep", "--k", "10,20,50", "--out", str(done), "--swept", str(swept)]
    ran = run_python("-m", "pipeline", *words)
    assert ran.returncode == 0, ran.stderr
    assert swept.read_text() == str(own)
    ran = run_python("-m", "analysis", "report", "--only-stale", "--swept", str(swept))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{own}/report.html: up to date\n"
    assert (other / "report.html").read_text() == "stale"
