"""The report from end to end, on sweeps of a second."""

import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from analysis import report
from analysis.command_line import group
from analysis.html_report.figures.figure import BY_NIGHT
from analysis.html_report.freshness import digest_of, read_marks, with_classification
from storage import InputError, open_dictionaries
from tests.test_analysis.test_html_report.small_runs import learn, small_images

FIGURES = {
    "samples",
    "use",
    "patches",
    "mse",
    "rate-distortion",
    "within",
    "worst",
    "kinds",
    "kinds-share",
    "gallery-smallest",
    "gallery-largest",
    "rebuilt",
    "classes",
    "accuracy",
    "confusion",
    "learning",
    "convergence",
}
ENDINGS = ("png", "svg", "pdf", "csv")
CURVES = {"mse", "rate-distortion", "kinds-share", "gallery-smallest"}  # not for one K
BESIDE = {"gallery-smallest", "gallery-largest"}  # the page, which has the atlas
CLASSES = {"classes", "accuracy", "confusion", "learning"}  # where classes are known
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def folder(digits_folder: Path, digits_report: dict[str, Any]) -> Path:
    """An experiment with its report, of three dictionaries; tests copy it before they change it."""
    assert digits_report["made"]
    return digits_folder


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """The same in a folder of its own."""
    shutil.copytree(folder.parent, tmp_path / "runs")
    return tmp_path / "runs" / folder.name


class References(HTMLParser):
    """What a page loads, its images, and where its links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded, self.images, self.links = [], [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "img":
            self.images.append(given["src"])
        elif tag == "a":
            self.links.append(given["href"])
        else:
            self.loaded += [given[name] for name in ("src", "href", "data") if name in given]


def test_the_page_holds_every_figure_and_loads_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    page = References()
    page.feed(text)
    assert page.loaded == []
    assert "@import" not in text
    linked = {link for link in page.links if not link.startswith("#")}
    assert linked == {f"figures/{name}.{end}" for name in FIGURES for end in ENDINGS}
    files = {path.stem: path.read_bytes() for path in (folder / "figures").glob("*.png")}
    assert set(files) == FIGURES
    assert all(content.startswith(PNG) for content in files.values())
    drawings = {path.stem: path.read_bytes() for path in (folder / "figures").glob("*.svg")}
    sources = [unquote_to_bytes(source.partition(",")[2]) for source in page.images]
    embedded = [svg.replace(BY_NIGHT, b"") for svg in sources]
    assert sorted(embedded) == sorted(drawings[name] for name in FIGURES - BESIDE)


def test_each_figure_has_its_svg_and_its_data_beside_it(
    folder: Path, digits_report: dict[str, Any]
) -> None:
    expected = {folder / f"figures/{name}.{end}" for name in FIGURES for end in ENDINGS}
    assert set((folder / "figures").iterdir()) == expected
    assert not list(folder.rglob("*.partial"))
    assert {Path(path) for path in digits_report["files"]} == expected
    pictures = {Path(path) for path in digits_report["figures"]}
    assert pictures == {path for path in expected if path.suffix == ".png"}
    for path in expected:
        content = path.read_bytes()
        if path.suffix == ".svg":
            assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
        if path.suffix == ".pdf":
            assert content.startswith(b"%PDF")
        if path.suffix == ".csv":
            names, *lines = list(csv.reader(content.decode().splitlines()))
            assert all(name.replace("_", "").isalnum() for name in names)
            assert lines
            assert {len(line) for line in lines} == {len(names)}


def columns(folder: Path, figure: str, *names: str) -> list[tuple[str, ...]]:
    """These columns of a figure's data, line by line."""
    with (folder / f"figures/{figure}.csv").open() as file:
        return [tuple(line[name] for name in names) for line in csv.DictReader(file)]


def column(folder: Path, figure: str, name: str) -> list[str]:
    return [text for (text,) in columns(folder, figure, name)]


def test_the_data_are_those_of_the_dictionaries(folder: Path) -> None:
    tree = open_dictionaries(folder / "dictionaries.zarr")
    scores = [node.attrs["mse"] for _, node in sorted(tree.children.items())]
    assert column(folder, "mse", "k") == ["4", "12", "60"]
    assert [float(text) for text in column(folder, "mse", "mse_squared_grey_levels")] == scores
    last = tree["k00060"]
    atoms = [int(text) for text in column(folder, "gallery-largest", "atom")]
    assert sorted(atoms) == list(range(60))
    counts = [int(text) for text in column(folder, "gallery-largest", "count")]
    assert counts == last["count"].values[atoms].tolist()
    cells = set(columns(folder, "gallery-largest", "row", "col"))
    assert len(cells) == 60
    shares = [float(text) for text in column(folder, "kinds-share", "of_patches")]
    assert sum(shares) == pytest.approx(3)
    centroids = last["centroids"].values
    level = "centroid_value_grey_levels"
    shown = columns(folder, "patches", "k", "centroid", "row", "col", level)
    for k, label, row, col, text in shown:
        if k == "60":
            assert float(text) == pytest.approx(centroids[int(label), int(row), int(col)])
    assert len(column(folder, "rebuilt", "mse_squared_grey_levels")) == 2 * 3
    assert column(folder, "use", "measure").count("share_of_patches") == 4 + 12 + 60


def test_the_page_gives_the_runs_numbers(folder: Path) -> None:
    text = re.sub("<[^>]+>", " ", (folder / "report.html").read_text())
    for words in (
        "24,000",
        "297 test images together",
        "4,752 held-out patches",
        "4,752 held out",
        "--k 4,12,60",
        "--seed 0",
        "How is an image made",
    ):
        assert words in text
    assert "batch-size" not in text  # not used by full


@pytest.mark.usefixtures("undrawn")
def test_only_stale_makes_again_what_has_changed(tmp_path: Path) -> None:
    dataset = small_images(tmp_path / "images.npy")
    folder = learn(tmp_path, (3,), dataset=dataset)
    page = folder / "report.html"
    assert report(folder, only_stale=True)[0]["made"] is True
    assert report(folder, only_stale=True)[0]["made"] is False
    before = page.read_bytes()
    learn(tmp_path, (3, 5), dataset=dataset)
    assert report(folder, only_stale=True)[0]["made"] is True
    assert page.read_bytes() != before
    assert read_marks(page)[0] == with_classification(digest_of(folder), folder)
    assert report(folder, only_stale=True)[0]["made"] is False


def test_only_stale_makes_again_what_lacks_a_figure_or_its_marks(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BegunError(Exception):
        """Making it again has begun, which is enough here."""

    def begin(*_: object) -> None:
        raise BegunError

    monkeypatch.setattr("analysis.html_report.measured.Measured", begin)
    assert report(copied, only_stale=True)[0]["made"] is False
    for name in ("figures/mse.png", "figures/use.svg", "figures/rebuilt.csv", "report.html"):
        whole = (copied / name).read_bytes()
        (copied / name).unlink()
        with pytest.raises(BegunError):
            report(copied, only_stale=True)
        (copied / name).write_bytes(whole)
    (copied / "report.html").write_text("<p>something else")
    with pytest.raises(BegunError):
        report(copied, only_stale=True)


def test_a_report_is_the_same_every_time(copied: Path, folder: Path) -> None:
    first = (copied / "report.html").read_text()
    files = {path: path.read_bytes() for path in (copied / "figures").iterdir()}
    report(copied)
    assert files == {path: path.read_bytes() for path in (copied / "figures").iterdir()}
    again = (copied / "report.html").read_text()
    # The commands that reproduce it and export from it name OUT, which was another folder.
    for words in ("--out {} ", "patchdict export {}/"):
        out, other = (words.format(each.parent.name) for each in (copied, folder))
        assert out in again
        assert other in first
        again = again.replace(out, other)
    assert again == first


def test_command_line_prints_json(copied: Path) -> None:
    result = CliRunner().invoke(group, ["report", "--only-stale", "--json", str(copied.parent)])
    assert result.exit_code == 0
    (entry,) = json.loads(result.stdout)["reports"]
    assert entry["report"] == str(copied / "report.html")
    assert entry["made"] is False
    assert entry["seconds"] >= 0
    assert len(entry["figures"]) == len(FIGURES)
    assert len(entry["files"]) == len(FIGURES) * len(ENDINGS)


@pytest.mark.usefixtures("undrawn")
def test_colour_rectangles_one_k_and_nothing_held_out(tmp_path: Path) -> None:
    dataset = small_images(tmp_path / "colour.npy", 3)
    folder = learn(tmp_path, (5,), dataset=dataset, patch=(2, 3), stride=2, threshold=0.05)
    (result,) = report(folder)
    names = {Path(path).stem for path in result["figures"]}
    assert names == FIGURES - CURVES - CLASSES
    text = (folder / "report.html").read_text()
    assert "2×3×3" in text
    assert "Nothing was held out" in text
    assert "12 training images together" in text


@pytest.mark.usefixtures("undrawn")
def test_where_a_part_is_shown_the_page_says_so(
    copied: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many K, of large images, and where their classes could not be had."""

    def gone(*_: object, **__: object) -> None:
        raise InputError("cannot download the classes from an address that is long")

    monkeypatch.setattr("analysis.experiment_data.open_labels", gone)
    monkeypatch.setattr("analysis.html_report.measured.SHOWN_SIZES", 2)
    monkeypatch.setattr("analysis.html_report.exploration.CROPPED_VALUES", 36)
    monkeypatch.setattr("analysis.html_report.exploration.EXPLORED_BYTES", 5000)
    report(copied)
    part, whole = (
        (each / "report.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
        for each in (copied, folder)
    )
    for words in (
        "for 2 of the 3 K in the upper row",
        "image rebuilt at 2 of the 3 K.",
        "Of each the middle is shown, and told of alone: 6×6 of 8×8 pixels.",
        "Of the 3 K 2 are here",
        "drawn at random, because their classes were not at hand.",
    ):
        assert words in part
        assert words not in whole
    assert "an address" not in part
    rows = list(csv.DictReader((copied / "figures" / "rebuilt.csv").read_text().splitlines()))
    assert {row["k"] for row in rows} == {"4", "60"}


def test_charts_have_the_letters_that_their_captions_name(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    for name in ("use", "mse", "rate-distortion", "within", "kinds-share"):
        (shown,) = re.findall(rf'<figure id="{name}">(.*?)</figure>', page, re.DOTALL)
        assert 'src="data:image/svg+xml,' in shown
        drawing = (folder / "figures" / f"{name}.svg").read_text()
        assert re.findall(">([a-d])\u2003", drawing) == ["a", "b"]
        assert re.search(r"\ba[,:] .* b[,:] |: a, .*; b, ", re.sub("<[^>]+>|\u00a0", " ", shown))


def test_what_is_up_to_date_loads_nothing_heavy(copied: Path) -> None:
    code = (
        "import sys; from analysis import report; report(sys.argv[1], only_stale=True);"
        "print(*{'bokeh', 'matplotlib', 'sklearn', 'torch', 'scipy'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(copied)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
