"""`encode` and `decode` on the command line: codes on disk, made once, resumed, checked."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from click.testing import CliRunner
from PIL import Image

from analysis import decode, encode
from analysis.command_line import combined, group
from analysis.encoding import build, decoding, encoding, tasks
from storage import (
    DeviceError,
    ImageOptions,
    InputError,
    IntegrityError,
    open_dictionaries,
    open_images,
)
from storage.codes.code_writer import write_codes
from storage.layout import building_place
from tests.damage import files_of, flip_bit
from tests.test_analysis.commands import assert_damage_is_mended, invoke, run
from tests.test_analysis.test_html_report.small_runs import learn, small_images


@pytest.mark.parametrize("stride", [None, 5])
def test_codes_lie_beside_the_dictionaries_and_are_those_of_encode(
    folder: Path, stride: int | None
) -> None:
    given = [] if stride is None else ["--stride", stride]
    found = run("encode", folder, "--k", 12, *given)
    path = folder / f"codes-k00012-digits-test-s{stride or 1}.zarr"
    assert found["codes"] == str(path)
    side = 4 if stride is None else 1
    assert (found["images"], found["rows"], found["cols"]) == (297, side, side)
    assert (found["dtype"], found["no_code"], found["reused"]) == ("uint16", 65535, False)
    opened = xarray.open_zarr(path)["codes"]
    node = open_dictionaries(folder / "dictionaries.zarr").children["k00012"]
    expected = encode(open_images("digits", "test"), node, stride=stride)
    xarray.testing.assert_identical(opened.load(), expected.load())
    assert found["bytes"] == sum(len(b) for n, b in files_of(path).items() if "codes/c/" in n)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_decoded_images_are_the_reconstruction_s(folder: Path, split: str, stride: int) -> None:
    asked = ["--k", 60, "--split", split, "--stride", stride]
    codes = run("encode", folder, *asked)["codes"]
    found = run("decode", codes, "--out", folder / "decoded.zarr")
    expected = run("reconstruct", folder, *asked, "--out", folder / "rebuilt.zarr")
    for name in ("images", "k", "split", "stride", "peak", "mse", "psnr"):
        assert found[name] == expected[name], name
    assert found["unscored"] is None
    xarray.testing.assert_identical(
        xarray.open_zarr(folder / "decoded.zarr").load(),
        xarray.open_zarr(folder / "rebuilt.zarr").load(),
    )
    node = open_dictionaries(folder / "dictionaries.zarr").children["k00060"]
    np.testing.assert_array_equal(
        decode(codes, node).astype(np.float32), xarray.open_zarr(folder / "decoded.zarr")["rebuilt"]
    )


def test_bits_per_pixel_by_hand(tmp_path: Path) -> None:
    """Two centroids, of patches of 2 × 2 pixels side by side: one bit for four pixels."""
    images = np.zeros((2, 2, 4), np.uint8)
    images[0, :, :2], images[0, :, 2:], images[1] = 10, 200, 10
    np.save(tmp_path / "images.npy", images)
    given = {"dataset": str(tmp_path / "images.npy"), "patch": 2, "stride": 2}
    folder = learn(tmp_path / "runs", (2,), **given)
    found = run("decode", run("encode", folder, "--k", 2)["codes"])
    assert (found["positions"], found["coded"]) == (4, 4)
    assert found["bits_per_pixel"]["fixed"] == 1 / 4
    shares = np.array([1, 3]) / 4
    assert found["bits_per_pixel"]["entropy"] == pytest.approx(-(shares @ np.log2(shares)) / 4)
    assert found["bits_per_pixel"]["stored"] == 8 * found["bytes"] / 16
    assert (found["mse"], found["psnr"]) == (0, None)
    images[1] = 0  # two positions without a code: one symbol more
    np.save(tmp_path / "other.npy", images)
    codes = run("encode", folder, "--k", 2, "--dataset", tmp_path / "other.npy")["codes"]
    assert Path(codes).name == "codes-k00002-other-train-s2.zarr"
    found = run("decode", codes)
    assert (found["positions"], found["coded"], found["unscored"]) == (4, 2, None)
    assert found["bits_per_pixel"]["fixed"] == math.log2(3) / 4
    assert found["bits_per_pixel"]["entropy"] == 1.5 / 4


@pytest.mark.parametrize(
    ("dtype", "channels", "options"),
    [
        ("uint8", (3,), {}),
        ("uint16", (), {}),
        ("float32", (), {"border": "reflect"}),
        ("uint8", (), {"border": "reflect", "stride": 2, "nodata": 255}),
        ("int16", (), {"keep": "all"}),
    ],
)
def test_images_of_any_type_come_back_as_reconstruct_gives_them(
    tmp_path: Path, dtype: str, channels: tuple[int, ...], options: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    top = {"uint8": 255, "uint16": 4000, "float32": 1, "int16": 900}[dtype]
    images = np.zeros((6, 9, 10, *channels))
    images[:, 2:7, 3:8] = rng.random((6, 5, 5, *channels)) * top
    images[3] = top
    np.save(tmp_path / "images.npy", images.astype(dtype))
    folder = learn(tmp_path, (3,), dataset=str(tmp_path / "images.npy"), patch=(3, 2), **options)
    found = run("decode", run("encode", folder, "--k", 3)["codes"], "--out", tmp_path / "a.zarr")
    expected = run("reconstruct", folder, "--k", 3, "--out", tmp_path / "b.zarr")
    assert (found["mse"], found["psnr"]) == (expected["mse"], expected["psnr"])
    xarray.testing.assert_identical(
        xarray.open_zarr(tmp_path / "a.zarr").load(), xarray.open_zarr(tmp_path / "b.zarr").load()
    )


def test_other_images_have_the_layout_of_the_experiment_s(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(1, 256, (4, 3, 9, 10), np.uint8)
    for name, part in (("images", images), ("other", images[:2])):
        np.save(tmp_path / f"{name}.npy", part)
    given = {"dataset": str(tmp_path / "images.npy"), "patch": 3, "layout": "NCHW"}
    folder = learn(tmp_path / "runs", (3,), **given)
    expected = xarray.open_zarr(run("encode", folder, "--k", 3)["codes"])["codes"]
    found = run("encode", folder, "--k", 3, "--dataset", tmp_path / "other.npy")["codes"]
    np.testing.assert_array_equal(xarray.open_zarr(found)["codes"], expected[:2])
    assert run("decode", found)["unscored"] is None
    (tmp_path / "folder").mkdir()  # whose images need none
    for number, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "folder" / f"{number}.png")
    found = run("encode", folder, "--k", 3, "--dataset", tmp_path / "folder")["codes"]
    np.testing.assert_array_equal(xarray.open_zarr(found)["codes"], expected)


def test_of_a_named_set_the_test_images_are_encoded(folder: Path) -> None:
    assert run("encode", folder, "--k", 4, "--dataset", "digits")["split"] == "test"


@pytest.mark.parametrize("border", ["valid", "reflect"])
def test_large_images_go_square_by_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, border: str
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 50, 37, 3), np.uint8)
    images[1, 10:40] = 0
    np.save(tmp_path / "images.npy", images)
    given = {"dataset": str(tmp_path / "images.npy"), "patch": (4, 3), "border": border}
    folder = learn(tmp_path, (3,), **given)
    expected = run("reconstruct", folder, "--k", 3, "--out", tmp_path / "b.zarr")
    monkeypatch.setattr(encoding, "CHUNK_CODES", 1 << 8)
    monkeypatch.setattr(decoding, "WHOLE_VALUES", 60)
    monkeypatch.setattr(decoding, "SIDE", 16)
    made = run("encode", folder, "--k", 3)
    assert made["chunks"] == 2 * (3 if border == "valid" else 4) * 3
    found = run("decode", made["codes"], "--out", tmp_path / "a.zarr")
    assert (found["positions"], found["coded"] > 0) == (made["rows"] * made["cols"] * 2, True)
    assert found["mse"] == pytest.approx(expected["mse"], rel=1e-12)
    xarray.testing.assert_identical(
        xarray.open_zarr(tmp_path / "a.zarr").load(), xarray.open_zarr(tmp_path / "b.zarr").load()
    )


@pytest.mark.usefixtures("chunks")
def test_codes_that_are_there_are_reused_and_damaged_chunks_written_again(folder: Path) -> None:
    made = run("encode", folder, "--k", 4)
    path = Path(made["codes"])
    before = files_of(path)
    assert (made["chunks"], made["reused"]) == (5, False)
    again = run("encode", folder, "--k", 4)
    assert (again["chunks"], again["reused"]) == (0, True)
    assert files_of(path) == before
    assert_damage_is_mended(path, "codes/c/3/0/0", "encode", folder, "--k", 4)


@pytest.mark.usefixtures("chunks")
def test_a_run_that_was_broken_off_is_gone_on_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = files_of(Path(run("encode", folder, "--k", 4)["codes"]))
    shutil.rmtree(folder / "codes-k00004-digits-test-s1.zarr")
    write, left = write_codes, [2]

    def broken(*given: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise DeviceError("broken off")
        write(*given)

    monkeypatch.setattr("dask.system.CPU_COUNT", 1)  # no other thread goes on for a while
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "write_codes", broken)
        assert CliRunner().invoke(group, ["encode", str(folder), "--k", "4"]).exit_code
    staging = building_place(folder / "codes-k00004-digits-test-s1.zarr")
    assert len(list((staging / "codes" / "c").glob("*/*/*"))) == 2
    damaged = next((staging / "codes" / "c").glob("*/*/*"))
    flip_bit(damaged, 40)  # as a power cut may leave it
    found = run("encode", folder, "--k", 4)
    assert found["chunks"] == 4
    assert files_of(Path(found["codes"])) == expected
    assert not staging.exists()


@pytest.mark.usefixtures("chunks")
def test_worker_processes_write_the_same_bytes(folder: Path) -> None:
    expected = files_of(Path(run("encode", folder, "--k", 60)["codes"]))
    shutil.rmtree(folder / "codes-k00060-digits-test-s1.zarr")
    found = run("encode", folder, "--k", 60, "--scheduler", "processes:2")
    assert (found["chunks"], files_of(Path(found["codes"]))) == (5, expected)


def test_a_worker_that_finds_another_dictionary_or_other_images_says_so(
    folder: Path, tmp_path: Path
) -> None:
    task = tasks.CodeTask(
        folder, 4, 1, 64, 1024, "digits", "test", tmp_path, ImageOptions(), ((), ""), "", ""
    )
    node = open_dictionaries(folder / "dictionaries.zarr").children["k00004"]
    own = encode(open_images("digits", "test"), node).attrs["dictionary"]
    kind = (297, 8, 8), "uint8"
    for wrong in (replace(task, kind=kind), replace(task, dictionary=own)):
        with pytest.raises(IntegrityError, match="is not the same on all workers"):
            tasks.write_chunk(wrong, tmp_path / "staging", (0, 0, 0))
    assert not (tmp_path / "staging").exists()


def test_memory_of_a_chunk_follows_the_cap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = list[int]()

    def fits(needed: int, cap: int) -> bool:
        tried.append(needed)
        return len(tried) > 3

    monkeypatch.setattr(build, "fits", fits)
    assert run("encode", folder, "--k", 4)["images"] == 297
    assert tried == sorted(tried, reverse=True)
    assert len(set(tried)) == 4


def test_a_moved_experiment_takes_its_codes_along_and_originals_may_be_gone(
    tmp_path: Path,
) -> None:
    images = tmp_path / "old" / "images.npy"
    images.parent.mkdir()
    folder = learn(images.parent / "runs", (3,), dataset=small_images(images))
    before = run("decode", run("encode", folder, "--k", 3)["codes"])
    (tmp_path / "old").rename(tmp_path / "new")
    codes = tmp_path / "new" / "runs" / folder.name / "codes-k00003-images-train-s1.zarr"
    assert run("decode", codes) == before
    elsewhere = tmp_path / "codes-elsewhere.zarr"
    codes.rename(elsewhere)
    with pytest.raises(InputError, match="say where its experiment is"):
        invoke("decode", elsewhere)
    assert run("decode", elsewhere, "--experiment", codes.parent)["mse"] is None
    asked = ["--experiment", codes.parent, "--dataset", tmp_path / "new" / "images.npy"]
    assert run("decode", elsewhere, *asked) == before
    (tmp_path / "new" / "images.npy").unlink()
    found = run("decode", elsewhere, "--experiment", codes.parent)
    assert (found["mse"], found["psnr"]) == (None, None)
    assert "the originals are not at hand: " in found["unscored"]
    assert "images.npy" in found["unscored"]
    assert found["bits_per_pixel"] == before["bits_per_pixel"]


def test_people_are_told_in_words(folder: Path) -> None:
    told = invoke("encode", folder, "--k", 4)
    assert "297 images, 4,752 positions at stride 1, K = 4: " in told
    assert "are there already" in invoke("encode", folder, "--k", 4)
    told = invoke("decode", folder / "codes-k00004-digits-test-s1.zarr")
    assert "bits per pixel: " in told
    assert " dB by the span from black to white, 255 levels" in told


@pytest.mark.usefixtures("chunks")
def test_verify_finds_damaged_codes(folder: Path) -> None:
    path = Path(run("encode", folder, "--k", 4)["codes"])
    verify = ["verify", str(folder), "--json"]
    good = json.loads(CliRunner().invoke(combined(), verify).stdout.splitlines()[-1])
    assert good["ok"]
    flip_bit(path / "codes" / "c" / "2" / "0" / "0", 99)
    (path / "stray").touch()
    bad = json.loads(CliRunner().invoke(combined(), verify).stdout.splitlines()[-1])
    assert [found["reason"] for found in bad["bad"]] == [
        f"chunk 2 of {path}/codes fails its checksum",
        f"{path / 'stray'} does not belong to the store: move it away",
    ]
