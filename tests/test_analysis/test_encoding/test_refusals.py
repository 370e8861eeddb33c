"""What cannot be encoded or decoded is one line that says why, and nothing is written."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage import InputError
from tests.damage import DAMAGES, files_of, flip_bit
from tests.test_analysis.commands import invoke, refused, run
from tests.test_analysis.test_html_report.small_runs import learn, small_images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k", "5"], "has no dictionary of K = 5: use 4, 12, 60"),
        (["--k", "many"], "'many' is not a valid integer"),
        ([], "Missing option '--k'"),
        (["--k", "4", "--stride", "0"], "stride 0 is too small"),
        (["--k", "4", "--split", "all"], "Invalid value for '--split'"),
        (["--k", "4", "--out", "codes.npy"], "ends in .zarr"),
        (["--k", "4", "--out", "absent/out.zarr"], "absent to write out.zarr into"),
        (["--k", "4", "--out", "there.zarr"], "is there already, and holds no codes"),
        (["--k", "4", "--memory", "10MiB"], "more than the cap of 10.0 MiB"),
        (["--k", "4", "--memory", "much"], "use a size such as 1GiB"),
        (["--k", "4", "--scheduler", "tomorrow"], "scheduler"),
        (["--k", "4", "--dataset", "absent.npy"], "absent.npy"),
        (["--k", "4", "--dataset", "memory://absent.zarr"], "cannot open memory://absent.zarr"),
        (["--k", "4", "--dataset", "colour.npy"], "do not fit the dictionary"),
        (["--k", "4", "--dataset", "small.npy"], "patch 5x5 is larger than the images"),
        (["--k", "4", "--dataset", "deep.npy"], "uint16 where the dictionary knows"),
        (["--k", "4", "--dataset", "dark.npy"], "the pixels reach 15 where the dictionary knows"),
        (["--k", "4", "--dataset", "unequal"], "have several sizes"),
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
    images = np.random.default_rng(0).integers(1, 255, (3, 9, 9), np.uint8)
    (tmp_path / "there.zarr").write_bytes(b"mine")
    np.save(tmp_path / "colour.npy", np.stack([images] * 3, axis=3))
    np.save(tmp_path / "small.npy", images[:, :4])
    np.save(tmp_path / "deep.npy", images.astype(np.uint16) * 250)
    np.save(tmp_path / "dark.npy", images // 16)
    (tmp_path / "unequal").mkdir()
    for name, image in (("a.png", images[0]), ("b.png", images[1, :7])):
        Image.fromarray(image).save(tmp_path / "unequal" / name)
    before = sorted([*tmp_path.rglob("*"), *digits_folder.rglob("*")])
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "encode", digits_folder, *options)
    left = {*tmp_path.rglob("*"), *digits_folder.rglob("*")}.difference(before)
    assert {path.suffix for path in left} <= {".lock"}


def test_a_target_that_holds_other_codes_is_left_as_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = folder.parent / "mine.zarr"
    run("encode", folder, "--k", 4, "--out", target)
    before = files_of(target)
    for other in (["--k", 12], ["--k", 4, "--split", "train"], ["--k", 4, "--stride", 2]):
        assert "holds other codes" in refused(capsys, "encode", folder, *other, "--out", target)
    assert files_of(target) == before
    assert run("encode", folder, "--k", 4, "--out", target)["reused"]


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damaged_codes_are_not_decoded(
    folder: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    path = Path(run("encode", folder, "--k", 4)["codes"])
    DAMAGES[damage](path / "codes" / "c" / "0" / "0" / "0", np.random.default_rng(0))
    line = refused(capsys, "decode", path, "--out", folder / "images.zarr")
    assert f"chunk 0 of {path}/codes " in line
    assert "run the same encode again" in line
    assert not (folder / "images.zarr").exists()


def test_a_cluster_that_does_not_answer_leaves_damaged_codes_where_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.execution.connection.CONNECT_SECONDS", 0.5)
    path = Path(run("encode", folder, "--k", 4)["codes"])
    flip_bit(path / "codes" / "c" / "0" / "0" / "0", 99)
    before = files_of(path)
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        invoke("encode", folder, "--k", 4, "--scheduler", "tcp://127.0.0.1:1")
    assert files_of(path) == before


def test_what_cannot_be_decoded_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(run("encode", folder, "--k", 4)["codes"])
    assert "no codes at absent.zarr: run encode first" in refused(capsys, "decode", "absent.zarr")
    dictionaries = folder / "dictionaries.zarr"
    assert "is not a store of codes" in refused(capsys, "decode", dictionaries)
    assert "ends in .zarr" in refused(capsys, "decode", path, "--out", "images.npy")
    assert "is there already" in refused(capsys, "decode", path, "--out", dictionaries)
    assert "more than the cap" in refused(capsys, "decode", path, "--memory", "10MiB")
    assert "absent" in refused(capsys, "decode", path, "--dataset", "absent.npy")
    flip_bit(path / "zarr.json", 800)
    assert "delete it, and run the same encode again" in refused(capsys, "decode", path)
    (path / "zarr.json").unlink()
    assert "has lost its metadata" in refused(capsys, "decode", path)


def test_codes_whose_dictionary_changed_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = small_images(tmp_path / "images.npy")
    first, second = (learn(tmp_path, (3,), dataset=images, seed=seed) for seed in (0, 1))
    path = Path(run("encode", first, "--k", 3)["codes"])
    other = ["--experiment", second]
    assert "or has changed since" in refused(capsys, "decode", path, *other)
    path.rename(second / path.name)  # it is found where it was
    assert run("decode", second / path.name)["k"] == 3
    shutil.rmtree(first)
    line = refused(capsys, "decode", second / path.name)
    assert "is not the one of K = 3 that the codes are of, or has changed since" in line
    assert "holds other codes, of another dictionary" in refused(capsys, "encode", second, "--k", 3)
