"""The report from end to end, on sweeps of a second."""

import base64
import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

import analysis
from analysis import reconstruct, report
from analysis.command_line import combined, group
from analysis.html_report import exploration
from analysis.html_report.freshness import digest_of, read_marks
from pipeline import SweepOptions, sweep
from pipeline.command_line import group as pipeline_group
from storage import InputError, IntegrityError, PatchSpec, open_dictionaries
from tests.damage import flip_bit

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
    "convergence",
}
ENDINGS = ("png", "svg", "csv")
CURVES = {"mse", "rate-distortion", "kinds-share", "gallery-smallest"}  # not for one K
PNG = b"\x89PNG\r\n\x1a\n"


def learn(out: Path, k: tuple[int, ...], **options: Any) -> Path:
    """The folder of a small experiment."""
    fields = {"dataset": "digits", "max_iter": 3, "device": "cpu"} | options
    return Path(sweep(SweepOptions(out=out, k=k, **fields))["experiment"])


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A reported experiment of three dictionaries; tests copy it before they change it."""
    out = tmp_path_factory.mktemp("runs")
    folder = learn(out, (4, 8, 30))
    (result,) = report(out)
    return folder, result


@pytest.fixture
def copied(reported: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """The same in a folder of its own."""
    folder, _ = reported
    out = tmp_path / "runs"
    shutil.copytree(folder.parent, out)
    return out / folder.name


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


def test_the_page_holds_every_figure_and_loads_nothing(
    reported: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = reported
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
    drawings = {path.read_bytes() for path in (folder / "figures").glob("*.svg")}
    embedded = [base64.b64decode(source.partition(";base64,")[2]) for source in page.images]
    assert set(embedded) < drawings | set(files.values())
    assert len(set(embedded)) == len(embedded) == len(FIGURES)
    assert sorted(result["figures"]) == sorted(str(folder / f"figures/{n}.png") for n in FIGURES)


def test_each_figure_has_its_svg_and_its_data_beside_it(
    reported: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = reported
    expected = {folder / f"figures/{name}.{end}" for name in FIGURES for end in ENDINGS}
    assert set((folder / "figures").iterdir()) == expected
    assert {Path(path) for path in result["files"]} == expected
    for path in expected:
        content = path.read_bytes()
        if path.suffix == ".svg":
            assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
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


def test_the_data_are_those_of_the_dictionaries(reported: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = reported
    tree = open_dictionaries(folder / "dictionaries.zarr")
    scores = [node.attrs["mse"] for _, node in sorted(tree.children.items())]
    assert column(folder, "mse", "k") == ["4", "8", "30"]
    assert [float(text) for text in column(folder, "mse", "mse_squared_grey_levels")] == scores
    last = tree["k00030"]
    atoms = [int(text) for text in column(folder, "gallery-largest", "atom")]
    assert sorted(atoms) == list(range(30))
    counts = [int(text) for text in column(folder, "gallery-largest", "count")]
    assert counts == last["count"].values[atoms].tolist()
    cells = set(columns(folder, "gallery-largest", "row", "col"))
    assert len(cells) == 30
    shares = [float(text) for text in column(folder, "kinds-share", "of_patches")]
    assert sum(shares) == pytest.approx(3)
    centroids = last["centroids"].values
    level = "centroid_value_grey_levels"
    for k, label, row, col, text in columns(
        folder, "patches", "k", "centroid", "row", "col", level
    ):
        if k == "30":
            assert float(text) == pytest.approx(centroids[int(label), int(row), int(col)])
    assert len(column(folder, "rebuilt", "mse_squared_grey_levels")) == 2 * 3
    assert column(folder, "use", "measure").count("share_of_patches") == 4 + 8 + 30


def test_nothing_is_left_half_written(reported: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = reported
    assert not list(folder.rglob("*.partial"))


def test_the_page_gives_the_runs_numbers(reported: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = reported
    text = re.sub("<[^>]+>", " ", (folder / "report.html").read_text())
    for words in (
        "24,000",
        "297 test images together",
        "4,752 held-out patches",
        "4,752 held out",
        "--k 4,8,30",
        "--seed 0",
        "How is an image made",
    ):
        assert words in text
    assert "batch-size" not in text  # not used by full


def test_only_stale_makes_again_what_has_changed(copied: Path) -> None:
    assert report(copied, only_stale=True)[0]["made"] is False
    page = copied / "report.html"
    before = page.read_bytes()
    learn(copied.parent, (4, 8, 30, 40))
    assert report(copied, only_stale=True)[0]["made"] is True
    assert page.read_bytes() != before
    assert read_marks(page).digest == digest_of(copied)
    assert report(copied, only_stale=True)[0]["made"] is False


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


def test_a_report_is_the_same_every_time(
    copied: Path, reported: tuple[Path, dict[str, Any]]
) -> None:
    first = (copied / "report.html").read_text()
    files = {path: path.read_bytes() for path in (copied / "figures").iterdir()}
    report(copied)
    assert files == {path: path.read_bytes() for path in (copied / "figures").iterdir()}
    again = (copied / "report.html").read_text()
    # The command that reproduces it names OUT, which was another folder.
    out, other = (f"--out {folder.parent.name} " for folder in (copied, reported[0]))
    assert out in again
    assert other in first
    assert again.replace(out, other) == first


def test_command_line_prints_json(copied: Path) -> None:
    result = CliRunner().invoke(group, ["report", "--only-stale", "--json", str(copied.parent)])
    assert result.exit_code == 0
    (entry,) = json.loads(result.stdout)["reports"]
    assert entry["report"] == str(copied / "report.html")
    assert entry["made"] is False
    assert entry["seconds"] >= 0
    assert len(entry["figures"]) == len(FIGURES)
    assert len(entry["files"]) == len(FIGURES) * len(ENDINGS)


def run_report(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analysis", "report", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_empty_folder_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    result = run_report(tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "no finished dictionaries" in line
    assert "run sweep" in line
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        report(tmp_path / "absent")


def small_images(path: Path, *channels: int, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    images = np.zeros((12, 9, 10, *channels), np.uint8)
    images[:, 2:7, 3:8] = rng.integers(0, 256, (12, 5, 5, *channels))
    np.save(path, images)
    return str(path)


def test_colour_rectangles_one_k_and_nothing_held_out(tmp_path: Path) -> None:
    dataset = small_images(tmp_path / "colour.npy", 3)
    folder = learn(tmp_path, (5,), dataset=dataset, patch=(2, 3), stride=2, threshold=0.05)
    (result,) = report(folder)
    names = {Path(path).stem for path in result["figures"]}
    assert names == FIGURES - CURVES - {"classes"}
    text = (folder / "report.html").read_text()
    assert "2×3×3" in text
    assert "Nothing was held out" in text
    assert "12 training images together" in text


def test_of_many_k_and_of_large_images_a_part_is_shown_and_the_page_says_so(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.html_report.measured.SHOWN_SIZES", 2)
    monkeypatch.setattr("analysis.html_report.exploration.CROPPED_VALUES", 36)
    report(copied)
    text = (copied / "report.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "for 2 of the 3 K in the upper row" in text
    assert "image rebuilt at 2 of the 3 K." in text
    assert "Of each the middle is shown, and told of alone: 6×6 of 8×8 pixels." in text
    rows = list(csv.DictReader((copied / "figures" / "rebuilt.csv").read_text().splitlines()))
    assert {row["k"] for row in rows} == {"4", "30"}


def test_readers_need_not_know_how_classes_could_be_had(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise InputError("cannot download the classes from an address that is long")

    monkeypatch.setattr("analysis.experiment.open_labels", gone)
    report(copied)
    text = (copied / "report.html").read_text()
    assert "drawn at random, because their classes were not at hand." in text
    assert "an address" not in text


def test_images_that_are_gone_or_others_are_named_and_damage_nothing(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    folder = learn(tmp_path, (3,), dataset=small_images(path))
    small_images(path, seed=1)
    with pytest.raises(IntegrityError, match="are not those"):
        report(folder)
    path.unlink()
    with pytest.raises(InputError, match=r"images\.npy"):
        report(folder)
    assert not (folder / "report.html").exists()


def test_one_experiment_that_fails_does_not_keep_the_others_from_a_report(tmp_path: Path) -> None:
    path = tmp_path / "gone.npy"
    learn(tmp_path, (3,), dataset=small_images(path))
    other = learn(tmp_path, (3,), dataset=small_images(tmp_path / "there.npy", seed=1))
    path.unlink()
    with pytest.raises(InputError, match=r"gone\.npy"):
        report(tmp_path)
    assert (other / "report.html").exists()


@pytest.mark.parametrize("file", ["zarr.json", "k00003/zarr.json", "k00003/centroids/c/0/0/0"])
def test_damaged_dictionaries_are_named_and_hide_no_others(tmp_path: Path, file: str) -> None:
    folder = learn(tmp_path, (3,), dataset=small_images(tmp_path / "one.npy"))
    other = learn(tmp_path, (3,), dataset=small_images(tmp_path / "two.npy", seed=1))
    tree = open_dictionaries(folder / "dictionaries.zarr")
    flip_bit(folder / "dictionaries.zarr" / file, 200)
    with pytest.raises(IntegrityError, match=f"{folder}/dictionaries.zarr"):
        report(tmp_path)
    assert not (folder / "report.html").exists()
    assert (other / "report.html").exists()
    if "/c/" in file:
        with pytest.raises(IntegrityError, match=r"chunk 0 of .*/k00003/centroids fails"):
            reconstruct(np.zeros((9, 9), np.uint8), tree["k00003"], spec=PatchSpec(5, 5))


def test_damaged_patches_are_named(tmp_path: Path) -> None:
    folder = learn(tmp_path, (3,), dataset=small_images(tmp_path / "one.npy"))
    (store,) = tmp_path.glob("patches/*.zarr")
    flip_bit(store / "patches" / "c" / "0" / "0", 200)
    with pytest.raises(IntegrityError, match=f"chunk 0 of {store}/patches fails its checksum"):
        report(folder)


def test_patchdict_has_all_commands_and_pipeline_keeps_its_own() -> None:
    assert set(combined().commands) == {*pipeline_group.commands, "report", "reconstruct"}
    assert {"report", "reconstruct"}.isdisjoint(pipeline_group.commands)


def test_no_module_hides_a_public_name() -> None:
    # `import analysis.gallery` would put the module where the function is looked up.
    modules = {path.stem for path in Path(analysis.__file__).parent.glob("*.py")}
    assert modules.isdisjoint(analysis.__all__)


def test_paths_that_are_no_text_stand_in_the_page(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    np.save(tmp_path / "six.npy", images)
    (tmp_path / "six.npy").rename(tmp_path / "\udcff<b>.npy")
    learn(tmp_path / "o\udcff", (2,), dataset=str(tmp_path / "\udcff<b>.npy"), breathing=0)
    (result,) = report(tmp_path / "o\udcff")
    page = Path(result["report"]).read_text()
    assert r"o\udcff" in page
    assert "<b>.npy" not in page


def test_the_page_says_where_a_part_alone_is_explored(
    copied: Path, reported: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (reported[0] / "report.html").read_text()
    monkeypatch.setattr(exploration, "CROPPED_VALUES", 36)
    monkeypatch.setattr(exploration, "EXPLORED_BYTES", 3000)
    report(copied)
    part = (copied / "report.html").read_text()
    for words in ("6×6 of 8×8 pixels", "Of the 3 K 2 are here"):
        assert words in part
        assert words not in whole


def test_charts_have_the_letters_that_their_captions_name(
    reported: tuple[Path, dict[str, Any]],
) -> None:
    page = (reported[0] / "report.html").read_text()
    for name in ("use", "mse", "rate-distortion", "within", "kinds-share"):
        (shown,) = re.findall(rf'<figure id="{name}">(.*?)</figure>', page, re.DOTALL)
        assert 'src="data:image/svg+xml;base64,' in shown
        drawing = (reported[0] / "figures" / f"{name}.svg").read_text()
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
