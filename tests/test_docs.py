"""The documentation: all public names have a place, examples print what they show, links hold."""

import doctest
import inspect
import re
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import patchdict

DOCS = Path(__file__).parents[1] / "docs"
API = {page.stem: page.read_text() for page in sorted((DOCS / "api").glob("*.rst"))}
TASKS = sorted((DOCS / "tasks").glob("*.md"))


def documented(text: str) -> list[str]:
    """Names that a page has directives for."""
    return re.findall(
        r"^\.\. (?:auto(?:function|class|exception)|py:data):: (\w+)", text, re.MULTILINE
    )


def test_every_public_name_stands_on_one_page_of_the_reference() -> None:
    assert sorted(name for text in API.values() for name in documented(text)) == patchdict.__all__


def test_each_attribute_has_a_line_of_its_own() -> None:
    """Others the site shows as prose, or with half of their names for a type."""
    docstrings = {
        name: inspect.getdoc(getattr(patchdict, name)) or ""
        for name in patchdict.__all__
        if inspect.isclass(getattr(patchdict, name))
    }
    told = {name: text.split("\nAttributes:")[1:] for name, text in docstrings.items()}
    assert sum(map(len, told.values())) > 10
    wrong = re.compile(r"\A.*\S|^    \w+(, \w+)+: ", re.MULTILINE)
    assert [name for name, texts in told.items() if any(map(wrong.search, texts))] == []


@pytest.mark.parametrize("page", TASKS, ids=lambda page: page.stem)
def test_examples_of_a_task_print_what_they_show(
    page: Path, digits_swept: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a copy of a sweep of the same K, so that its dictionaries are there already."""
    shutil.copytree(Path(digits_swept["experiment"]).parent, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    check(doctest.DocTestParser().get_doctest(page.read_text(), {}, page.stem, str(page), 0))


def test_examples_of_docstrings_print_what_they_show() -> None:
    finder = doctest.DocTestFinder(recurse=False)
    objects = {name: getattr(patchdict, name) for name in patchdict.__all__}
    found = [
        example
        for name, one in objects.items()
        if callable(one)
        for example in finder.find(one, name, module=False)
        if example.examples
    ]
    assert len(found) >= 5
    for example in found:
        example.globs = dict(objects)
        check(example)


def check(example: doctest.DocTest) -> None:
    """Run examples. Raises: AssertionError with what they printed."""
    printed: list[str] = []
    failed = doctest.DocTestRunner(verbose=False).run(example, out=printed.append)
    assert not failed.failed, "".join(printed)


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    spec = spec_from_file_location("links", DOCS / "links.py")
    assert spec is not None
    assert spec.loader is not None
    links = module_from_spec(spec)
    spec.loader.exec_module(links)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "index.html").write_text('<p id="here">')
    page = tmp_path / "a.html"
    page.write_text(
        '<a name="top"><a href="#top"><a href="b/#here"><a href="b/index.html?x=1#here">'
        '<a href="https://example.org/#gone"><img src="data:image/png;base64,AA==">'
    )
    assert links.broken_links(tmp_path) == []
    page.write_text('<a href="#down"><a href="b/#gone"><img src="c.png"><a href="../elsewhere">')
    assert [line.split()[3] for line in links.broken_links(tmp_path)] == [
        "#down,",
        "b/#gone,",
        "c.png,",
        "../elsewhere,",
    ]
