"""`encode --features` on the command line: features on disk, made once, resumed, checked."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from click.testing import CliRunner

from analysis import features
from analysis.command_line import combined, group
from analysis.encoding import pooling, tasks
from storage import DeviceError, open_images
from storage.codes.code_writer import write_codes
from storage.layout import building_place
from tests.damage import files_of, flip_bit
from tests.test_analysis.commands import assert_damage_is_mended, invoke, refused, run
from tests.test_analysis.test_encoding.test_features import node


@pytest.mark.parametrize("kind", pooling.KINDS)
def test_features_lie_beside_the_dictionaries_and_are_those_of_python(
    folder: Path, kind: str
) -> None:
    asked = ["--k", 12, "--features", kind, "--pool", "quadrants"]
    found = run("encode", folder, *asked)
    path = folder / f"features-k00012-digits-test-s1-{kind}-quadrants.zarr"
    assert found["features"] == str(path)
    assert (found["kind"], found["pool"], found["width"]) == (kind, "quadrants", 48)
    assert (found["images"], found["dtype"], found["reused"]) == (297, "float32", False)
    opened = xarray.open_zarr(path)["features"]
    expected = features(open_images("digits", "test"), node(folder, 12), kind, "quadrants")
    xarray.testing.assert_identical(opened.load(), expected.load())
    assert found["bytes"] == sum(len(b) for n, b in files_of(path).items() if "features/c/" in n)
    assert run("encode", folder, *asked)["reused"]
    assert run("encode", folder, "--k", 12)["codes"].endswith("codes-k00012-digits-test-s1.zarr")


@pytest.mark.usefixtures("chunks")
def test_damaged_chunks_are_written_again(folder: Path) -> None:
    asked = ["--k", 4, "--features", "triangle", "--pool", "3"]
    made = run("encode", folder, *asked)
    path = Path(made["features"])
    assert path.name == "features-k00004-digits-test-s1-triangle-grid3.zarr"
    assert (made["chunks"], made["reused"]) == (5, False)
    assert_damage_is_mended(path, "features/c/3/0", "encode", folder, *asked)


@pytest.mark.usefixtures("chunks")
def test_a_run_that_was_broken_off_is_gone_on_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["--k", 4, "--features", "soft"]
    path = Path(run("encode", folder, *asked)["features"])
    expected = files_of(path)
    shutil.rmtree(path)
    write, left = write_codes, [2]

    def broken(*given: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise DeviceError("broken off")
        write(*given)

    monkeypatch.setattr("dask.system.CPU_COUNT", 1)
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "write_codes", broken)
        assert CliRunner().invoke(group, ["encode", str(folder), *map(str, asked)]).exit_code
    staging = building_place(path)
    chunks = sorted((staging / "features" / "c").glob("*/*"))
    assert len(chunks) == 2
    flip_bit(chunks[0], 40)
    assert run("encode", folder, *asked)["chunks"] == 4
    assert files_of(path) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("kind", ["triangle", "hard"])
def test_worker_processes_write_the_same_bytes(folder: Path, kind: str) -> None:
    asked = ["--k", 60, "--features", kind, "--pool", "quadrants"]
    path = Path(run("encode", folder, *asked)["features"])
    expected = files_of(path)
    shutil.rmtree(path)
    # more than the 1,030 MiB of two workers beside a process that has run other tests
    spread = ("--scheduler", "processes:2", "--memory", "2GiB")
    found = run("encode", folder, *asked, *spread)
    assert (found["chunks"], files_of(path)) == (5, expected)


@pytest.mark.usefixtures("chunks")
def test_verify_finds_damaged_features(folder: Path) -> None:
    path = Path(run("encode", folder, "--k", 4, "--features", "hard")["features"])
    verify = ["verify", str(folder), "--json"]
    assert json.loads(CliRunner().invoke(combined(), verify).stdout.splitlines()[-1])["ok"]
    flip_bit(path / "features" / "c" / "2" / "0", 99)
    bad = json.loads(CliRunner().invoke(combined(), verify).stdout.splitlines()[-1])
    assert [found["reason"] for found in bad["bad"]] == [
        f"chunk 2 of {path}/features fails its checksum"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--features", "best"], "Invalid value for '--features'"),
        (["--features", "triangle", "--tf-idf"], "tf-idf weighs words that are counted"),
        (["--features", "hard", "--pool", "rows"], "no pool 'rows'"),
        (["--features", "hard", "--pool", "9"], "grid:9 has more parts"),
        (["--pool", "quadrants"], "are of features: say which (--features)"),
        (["--tf-idf"], "are of features: say which (--features)"),
        (["--features", "hard", "--out", "there.zarr"], "holds other features"),
    ],
)
def test_bad_options_are_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    if "--out" in options:
        run("encode", folder, "--k", 4, "--features", "soft", "--out", "there.zarr")
        assert "holds no codes" in refused(
            capsys, "encode", folder, "--k", 4, "--out", "there.zarr"
        )
    assert message in refused(capsys, "encode", folder, "--k", 4, *options)


@pytest.mark.parametrize("name", ["colour.npy", "small.npy", "deep.npy"])
def test_images_that_do_not_fit_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    images = np.random.default_rng(0).integers(1, 255, (3, 9, 9), np.uint8)
    np.save(tmp_path / "colour.npy", np.stack([images] * 3, axis=3))
    np.save(tmp_path / "small.npy", images[:, :4])
    np.save(tmp_path / "deep.npy", images.astype(np.uint16) * 250)
    asked = ["--k", 4, "--features", "triangle", "--dataset", tmp_path / name]
    assert refused(capsys, "encode", folder, *asked)


def test_people_are_told_in_words(folder: Path) -> None:
    told = invoke("encode", folder, "--k", 4, "--features", "hard", "--tf-idf")
    assert "297 images, 4 tf-idf of hard features each at stride 1, K = 4: " in told
