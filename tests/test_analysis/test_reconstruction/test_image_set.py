"""`reconstruct` on the command line: scores, classes, and images on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray
from click.testing import CliRunner

from analysis import reconstruct
from analysis.command_line import group
from storage import open_dictionaries, open_images, open_labels
from tests.idx_files import write_idx
from tests.test_analysis.commands import refused
from tests.test_analysis.test_html_report.small_runs import learn


def rebuilt(split: str, folder: Path, k: int, stride: int | None = None) -> np.ndarray:
    tree = open_dictionaries(folder / "dictionaries.zarr")
    found = reconstruct(open_images("digits", split).images, tree[f"k{k:05d}"], stride=stride)
    assert isinstance(found, np.ndarray)
    return found


def run(*arguments: object) -> dict[str, object]:
    result = CliRunner().invoke(group, ["reconstruct", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("stride", [None, 3])
def test_json_gives_scores_of_all_images_and_of_each_class(
    digits_folder: Path, split: str, stride: int | None
) -> None:
    given = [] if stride is None else ["--stride", stride]
    found = run(digits_folder, "--k", 12, "--split", split, *given)
    images, labels = open_images("digits", split).images, open_labels("digits", split)
    errors = (images - rebuilt(split, digits_folder, 12, stride)) ** 2
    assert (found["images"], found["k"], found["split"]) == (len(images), 12, split)
    assert found["stride"] == (stride or 1)
    assert found["mse"] == pytest.approx(errors.mean())
    assert found["peak"] == 255
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / errors.mean()))
    assert found["covered_mse"] >= found["mse"] or stride
    assert found["unlabelled"] is None
    assert found["path"] is None
    classes = found["classes"]
    assert [entry["label"] for entry in classes] == list(range(10))
    assert [entry["name"] for entry in classes] == list("0123456789")
    for entry in classes:
        member = labels == entry["label"]
        assert entry["images"] == member.sum()
        assert entry["mse"] == pytest.approx(errors[member].mean())


def test_the_table_says_which_level_psnr_goes_by(digits_folder: Path) -> None:
    told = CliRunner().invoke(group, ["reconstruct", str(digits_folder), "--k", "4"]).stdout
    assert "PSNR by the span from black to white, 255 levels\n" in told


def test_images_are_written_as_reconstruct_gives_them(digits_folder: Path, tmp_path: Path) -> None:
    found = run(digits_folder, "--k", 4, "--out", tmp_path / "out.zarr")
    assert found["path"] == str(tmp_path / "out.zarr")
    opened = xarray.open_zarr(tmp_path / "out.zarr")
    assert opened["rebuilt"].dims == ("image", "row", "col")
    assert opened.attrs == {"k": 4, "dataset": "digits", "split": "test", "stride": 1}
    expected = rebuilt("test", digits_folder, 4).astype(np.float32)
    np.testing.assert_array_equal(opened["rebuilt"].values, expected)


def test_a_folder_with_one_experiment_will_do_and_people_get_a_table(digits_folder: Path) -> None:
    result = CliRunner().invoke(group, ["reconstruct", str(digits_folder.parent), "--k", "4"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "297 test images, K = 4, stride 1" in lines
    assert sum(line.split()[0] in "0123456789" for line in lines if line.strip()) == 10


def test_colour_images_without_classes_say_why(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 7, 3), np.uint8)
    np.save(tmp_path / "colour.npy", images)
    folder = learn(tmp_path, (3,), dataset=str(tmp_path / "colour.npy"), patch=(2, 3))
    found = run(folder, "--k", 3, "--out", tmp_path / "out.zarr")
    assert found["classes"] == []
    assert "no classes are known" in found["unlabelled"]
    assert xarray.open_zarr(tmp_path / "out.zarr")["rebuilt"].shape == images.shape
    table = CliRunner().invoke(group, ["reconstruct", str(folder), "--k", "3"]).stdout
    assert "no classes: " in table


def test_an_exact_rebuilding_is_null_in_json(tmp_path: Path) -> None:
    images = np.zeros((4, 3, 3), np.uint8)
    images[1] = 50
    file = write_idx(tmp_path / "flat-idx3-ubyte", images)
    found = run(learn(tmp_path, (1,), dataset=str(file), patch=(3, 3)), "--k", 1)
    assert (found["mse"], found["psnr"]) == (0, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k", "5"], "has no dictionary of K = 5: use 4, 12, 60"),
        (["--k", "many"], "'many' is not a valid integer"),
        ([], "Missing option '--k'"),
        (["--k", "4", "--stride", "0"], "stride 0 is too small"),
        (["--k", "4", "--split", "all"], "Invalid value for '--split'"),
        (["--k", "4", "--out", "images.npy"], "ends in .zarr"),
        (["--k", "4", "--out", "absent/out.zarr"], "no folder absent"),
        (["--k", "4", "--out", "there.zarr"], "is there already"),
        (["--k", "4", "--memory", "10MiB"], "more than the cap of 10.0 MiB"),
        (["--k", "4", "--memory", "much"], "use a size such as 1GiB"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_two(
    digits_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    (tmp_path / "there.zarr").write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "reconstruct", digits_folder, *options)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_with_several_experiments_is_refused_by_name(tmp_path: Path) -> None:
    for seed in (0, 1):
        learn(tmp_path, (2,), seed=seed)
    result = CliRunner().invoke(group, ["reconstruct", str(tmp_path), "--k", "2"])
    assert "holds several experiments: give the folder of one of digits-" in str(result.exception)
