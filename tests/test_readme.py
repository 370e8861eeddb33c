"""What the READMEs say is so: the example's results, files, links, options and figures."""

import csv
import doctest
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import SweepOptions

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FOLDERS = ("storage", "pipeline", "analysis", "tests")
READMES = [ROOT / "README.md", *(p for f in FOLDERS for p in (ROOT / f).rglob("README.md"))]
MEASURED = ROOT / "tests" / "benchmarks" / "measured"


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_python_example_prints_what_it_shows(
    digits_swept: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a copy of a sweep of the same K, so that its dictionaries are there already."""
    shutil.copytree(Path(digits_swept["experiment"]).parent, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    example = doctest.DocTestParser().get_doctest(block, {}, "README", "README.md", 0)
    assert len(example.examples) == 8
    printed: list[str] = []
    failed = doctest.DocTestRunner(verbose=False).run(example, out=printed.append)
    assert not failed.failed, "".join(printed)


def test_numbers_of_the_digits_are_those_of_a_sweep(digits_swept: dict[str, Any]) -> None:
    assert f"MSE {digits_swept['dictionaries'][0]['mse']:.0f} (K = 10)" in README


def test_where_to_read_names_files() -> None:
    (table,) = re.findall(
        r"\| Where to read \| File \|\n\|---\|---\|\n(.*?)\n\n", README, re.DOTALL
    )
    files = re.findall(r"`([\w/.]+)` \|$", table, re.MULTILINE)
    assert len(files) == len(table.splitlines()) == 15
    assert [file for file in files if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize("readme", READMES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_links_and_pictures_are_there(readme: Path) -> None:
    text = readme.read_text()
    links = re.findall(r'(?:src="|\]\()([^")#:]+)["#)]', text)
    named = re.findall(r"^\| ((?:`[\w./]+` ?)+)\|", text, re.MULTILINE)
    files = [] if readme == READMES[0] else re.findall(r"`([\w/]+(?:\.\w+|/))`", " ".join(named))
    assert [name for name in [*links, *files] if not (readme.parent / name).exists()] == []


def test_options_are_explained() -> None:
    """Of them the defaults are stated too, but for those that depend on what is learned."""
    options = re.findall(r"^\| `([A-Z_]+)` \| `?([\w.]+)`? \|", README, re.MULTILINE)
    assert len(options) > 9  # none, where the table has another form
    for name, default in options:
        value = SweepOptions.model_fields[name.lower()].default
        if isinstance(value, str):
            assert default == (value or "empty"), name


def test_tables_of_figures_are_whole() -> None:
    text = (ROOT / "tests" / "benchmarks" / "README.md").read_text()
    files = sorted(MEASURED.glob("*.csv"))
    assert [f"`measured/{file.name}`" in text for file in files] == [True] * len(files) != []
    for file in files:
        header, *rows = csv.reader(file.read_text().splitlines())
        assert {len(row) for row in rows} == {len(header)}, file.name
