"""Experiments side by side: what tells them apart, the table, the figure, the command."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray
from click.testing import CliRunner

from analysis import compare
from analysis.command_line import combined, group
from analysis.comparison import in_words, labels_of
from analysis.html_report.figures.compared_curves import PIXELS, comparison_figure
from pipeline import MemoryOptions, SweepOptions
from storage import InputError
from tests.test_analysis.test_html_report.small_runs import learn

SMALL = {"max_iter": 1, "breathing": 0, "device": "cpu"}


def experiment(folder: str = "/runs/one", name: str = "digits", **options: Any) -> Any:
    """What an experiment stores, of options of a sweep."""
    images = {"fingerprint": name, "dtype": "uint8"} | options.pop("images", {})
    checked = SweepOptions.checked(dataset="digits", **options)
    facts = {
        "dataset": f"/data/{name}.npy",
        "source": {"name": name, **images},
        "spec": checked.spec.to_dict(),
        "fit": checked.in_use(),
    }
    return SimpleNamespace(folder=Path(folder), facts=facts)


@pytest.mark.parametrize(
    ("options", "labels", "common"),
    [
        ([{}], ["digits, 5×5 patches, nested, warm"], ""),
        (
            [{"patch": "3"}, {"patch": "4x6"}],
            ["3×3 patches", "4×6 patches"],
            "digits, nested, warm",
        ),
        (
            [{}, {"mode": "full"}, {"mode": "minibatch", "batch_size": 9}],
            ["nested", "full", "minibatch"],
            "digits, 5×5 patches, warm",
        ),
        (
            [{"mode": "full"}, {"mode": "nested", "breathing": 3}],  # full knows no breathing
            ["full", "nested"],
            "digits, 5×5 patches, warm",
        ),
        (
            [{}, {"breathing": 0, "min_gain": 0.1}],
            ["as usual", "min-gain 0.1, breathing 0"],
            "digits, 5×5 patches, nested, warm",
        ),
        (
            [{"seed": 1, "stride": 2}, {"threshold": 0.2, "init": "random"}],
            ["stride 2, threshold 0, warm, seed 1", "stride 1, threshold 0.2, random, seed 0"],
            "digits, 5×5 patches, nested",
        ),
        (
            [{"keep": "std>0.01", "sample": "5%"}, {"border": "reflect"}, {}],
            ["keep std>0.01, sample 5%", "border reflect", "as usual"],
            "digits, 5×5 patches, nested, warm",
        ),
        (
            [{"name": "a"}, {"name": "b", "patch": "3"}],
            ["a, 5×5 patches", "b, 3×3 patches"],
            "nested, warm",
        ),
        (
            [{"images": {"fingerprint": "x", "dtype": "float32"}}, {}],
            ["digits float32", "digits uint8"],
            "5×5 patches, nested, warm",
        ),
        ([{"folder": "/a/runs/x"}, {"folder": "/b/runs/x"}], ["a/runs", "b/runs"], None),
        ([{"folder": "/a/x"}, {"folder": "/a/y"}], ["x", "y"], None),
        ([{"folder": "/a/b/x"}, {"folder": "/a/b/b/x"}], ["b", "b/b"], None),  # one in the other
        (
            [{"folder": folder} for folder in ("/a/x", "/a/y", "/b/x")],
            ["a/x", "a/y", "b/x"],
            None,
        ),
        ([{"folder": "/a/x", "seed": 1}, {"folder": "/a"}], ["seed 1", "seed 0"], None),
    ],
)
def test_labels_say_what_differs(
    options: list[dict[str, Any]], labels: list[str], common: str | None
) -> None:
    found = labels_of([experiment(**one) for one in options])
    assert found[0] == labels
    assert common is None or found[1] == common


def test_images_of_one_name_are_told_by_their_place() -> None:
    experiments = [experiment(), experiment()]
    for place, one in zip(("/data/a/x.npy", "/data/b/x.npy"), experiments, strict=True):
        one.facts["dataset"] = place
        one.facts["source"]["fingerprint"] = place
    assert labels_of(experiments)[0] == ["a/x.npy", "b/x.npy"]
    experiments[1].facts["dataset"] = "/data/a/x.npy"  # it changed after the first sweep
    assert labels_of(experiments)[0] == ["digits /data/…"] * 2 or len(
        set(labels_of(experiments)[0])
    )


def test_test_images_are_named_as_short_as_tells_them_apart() -> None:
    experiments = [experiment() for _ in range(3)]
    for place, one in zip(("/data/a/x.npy", "/data/a/y.npy"), experiments, strict=False):
        one.facts["test"] = place
    assert labels_of(experiments)[0] == ["tested on x.npy", "tested on y.npy", "as usual"]
    for place, named in (
        ("/data/b/x.npy", ("a/", "b/")),
        ("/else/a/x.npy", ("/data/a/", "/else/a/")),
    ):
        experiments[1].facts["test"] = place
        told = [f"tested on {where}x.npy" for where in named]
        assert labels_of(experiments)[0] == [*told, "as usual"]


def invoke(*words: str | Path) -> dict[str, Any]:
    done = CliRunner().invoke(combined(), [*map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_file_of_two_patch_sizes_is_swept_and_compared(
    digits_swept: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(Path(digits_swept["experiment"]).parent, tmp_path / "made")
    (tmp_path / "my.toml").write_text(
        'out = "made"\ndevice = "cpu"\n[[run]]\nk = [10, 20, 50]\n'
        "[[run]]\npatch = 3\nk = [10, 40]\nmax_iter = 1\nbreathing = 0\n"
    )
    swept = invoke("sweep", "--experiment", tmp_path / "my.toml")["experiments"]
    assert [entry["reused"] for entry in swept[0]["dictionaries"]] == [True] * 3  # the session's
    assert [entry["reused"] for entry in swept[1]["dictionaries"]] == [False] * 2
    found = invoke("compare", tmp_path / "made")
    assert found["common"] == "digits, nested, warm"
    assert [one["label"] for one in found["experiments"]] == [
        "3×3 patches, max-iter 1, breathing 0",
        "5×5 patches",
    ]
    for one, other in zip(found["experiments"], reversed(swept), strict=True):
        assert one["experiment"] == other["experiment"]
        for entry, stored in zip(one["dictionaries"], other["dictionaries"], strict=True):
            names = ("k", "mse", "heldout_mse")
            assert [entry[name] for name in names] == [stored[name] for name in names]
            for mse, psnr in (("mse", "psnr"), ("heldout_mse", "heldout_psnr")):
                assert entry[psnr] == pytest.approx(10 * np.log10(255**2 / entry[mse]))
    folder = tmp_path / "made" / "compare"
    assert found["files"] == [
        str(folder / f"mse.{ending}") for ending in ("png", "svg", "pdf", "csv")
    ]
    lines = list(csv.DictReader((folder / "mse.csv").read_text().splitlines()))
    assert [line["k"] for line in lines] == ["10", "40", "10", "20", "50"]
    mse = [entry["mse"] for one in found["experiments"] for entry in one["dictionaries"]]
    assert [float(line["mse"]) for line in lines] == mse
    words = "".join(ElementTree.parse(folder / "mse.svg").getroot().itertext())
    for text in ("5×5 patches", "3×3 patches, max-iter 1, breathing 0", "squared grey levels"):
        assert text in words
    pictures = [(folder / "mse.png").read_bytes(), (folder / "mse.svg").read_bytes()]
    again = invoke("compare", *[one["experiment"] for one in found["experiments"]])
    assert again == found  # the same files, from the experiments by themselves
    assert [(folder / "mse.png").read_bytes(), (folder / "mse.svg").read_bytes()] == pictures


@pytest.fixture(scope="module")
def different(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT with images of two ranges; of the floats, one patch has no error at all."""
    folder = tmp_path_factory.mktemp("different")
    rng = np.random.default_rng(0)
    np.save(folder / "bytes.npy", rng.integers(1, 256, (3, 5, 5), np.uint8))
    np.save(folder / "many$.npy", rng.random((1, 4, 4), np.float32) + 1e-3)
    learn(folder / "runs", (2, 3), dataset=str(folder / "bytes.npy"), patch="3", **SMALL)
    learn(folder / "runs", (1, 4), dataset=str(folder / "many$.npy"), patch="3", **SMALL)
    return folder / "runs"


def test_pixels_of_different_ranges_have_a_panel_of_their_own(different: Path) -> None:
    found = compare(different, different / "elsewhere")
    assert [one["pixels"] for one in found["experiments"]] == [
        "grey levels of 0 … 255",
        "pixel levels of 0 … 1",
    ]
    assert not (different / "compare").exists()
    svg = (different / "elsewhere" / "mse.svg").read_text()
    assert "peak signal-to-noise ratio" in svg
    assert "held out" not in svg  # there are none
    exact = found["experiments"][1]["dictionaries"][1]
    assert exact == {"k": 4, "mse": 0, "heldout_mse": None, "psnr": None, "heldout_psnr": None}
    json.dumps(found, allow_nan=False)
    header, k1, k2, k3, k4 = in_words(found).split("\n\n")[1].splitlines()[-5:]
    assert header.split() == ["K", "MSE", "PSNR,", "dB", "MSE", "PSNR,", "dB"]
    assert [line.split()[0] for line in (k1, k2, k3, k4)] == ["1", "2", "3", "4"]
    assert k2.split()[3:] == ["–", "–"]  # not learned
    assert k4.split()[1:] == ["–", "–", "0", "–"]


def test_the_figure_has_a_line_for_each_and_a_dashed_one_for_what_is_held_out() -> None:
    def curve(k: list[int], mse: list[float], heldout: list[float]) -> xarray.Dataset:
        scores = {"mse": mse, "heldout_mse": heldout, "psnr": mse, "heldout_psnr": heldout}
        found = xarray.Dataset({name: ("k", values) for name, values in scores.items()}, {"k": k})
        found["mse"].attrs["units"] = "squared grey levels"
        return found.assign_attrs({PIXELS: "grey levels of 0 … 255"})

    none = [np.nan] * 2
    curves = {
        "long": curve([10, 100, 1000], [9, 3, 0], [10, 5, 4]),  # no error has no logarithm
        "short $x": curve([10, 20], [8, 7], none),
    }
    (axes,) = comparison_figure(curves, "digits").axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    drawn = [np.asarray(line.get_xydata()).tolist() for line in axes.lines]
    assert drawn == [
        [[10, 9], [100, 3]],
        [[10, 10], [100, 5], [1000, 4]],
        [[10, 8], [20, 7]],
        [],
    ]
    dashes = [line.get_linestyle() for line in axes.lines]
    colours = [line.get_color() for line in axes.lines]
    assert dashes == ["-", "--", "-", "--"]
    assert colours[0] == colours[1] != colours[2]
    names = {text.get_text(): text for text in axes.texts}
    assert list(names) == ["long", "short \\$x"]  # the lowest first
    assert names["short \\$x"].xy == (20, 7)  # type: ignore[attr-defined]
    assert names["short \\$x"].get_color() == colours[2]


def test_the_table_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"k": 1000, "mse": 1234.6, "heldout_mse": 2345.6, "psnr": 20.0, "heldout_psnr": 19.0}
    one = {"pixels": "grey levels of 0 … 255", "unit": "squared grey levels"}
    experiments = [
        one | {"label": f"{size}×{size} patches, seed {size}, mode x", "dictionaries": [entry]}
        for size in range(5)
    ]
    result = {"common": "digits", "experiments": experiments, "files": ["a", "b"]}
    wide = in_words(result)
    assert [len(block.splitlines()) for block in wide.split("\n\n")] == [1, 4, 2]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    narrow = in_words(result)
    assert [len(block.splitlines()) for block in narrow.split("\n\n")] == [1, 4, 4, 2]
    assert max(map(len, narrow.splitlines())) <= 80
    assert narrow.count("1,235") == wide.count("1,235") == 5
    assert narrow.splitlines()[0] == "digits; MSE in squared grey levels"


def test_what_cannot_be_compared_is_one_line(different: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to compare: give the OUT of sweeps"):
        compare([])
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=f"{place}"):
            compare([different, place], tmp_path)
    assert not list(tmp_path.iterdir())
    done = CliRunner().invoke(group, ["compare"])
    assert done.exit_code == 2
    assert "Missing argument 'OUT...'" in done.output


def test_reports_of_a_file_are_those_of_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, int, bool]] = []

    def report(out: Path, *, only_stale: bool, memory: int, **_: Any) -> list[dict[str, Any]]:
        asked.append((out, memory, only_stale))
        return [{"report": str(out), "made": False}]

    monkeypatch.setattr("analysis.html_report.build.report", report)
    file = tmp_path / "my.toml"
    file.write_text(
        'out = ["a", "b"]\n[[run]]\nmemory = "3GiB"\n[[run]]\nmemory = "2GiB"\nseed = 1\n'
    )
    words = ["report", "--only-stale", "--experiment", file]
    assert len(invoke(*words)["reports"]) == 2
    assert sorted(asked) == [(tmp_path / name, 3 << 30, True) for name in ("a", "b")]
    asked.clear()
    invoke(*words, tmp_path / "c", "--memory", "1GiB")
    assert asked == [(tmp_path / "c", 1 << 30, True)]
    asked.clear()
    invoke("report")  # where a sweep leaves what it makes if nothing is said
    assert asked == [(Path("runs"), MemoryOptions().memory, False)]
