"""Other images than the experiment's, which say their layout and their level of white."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray

from tests.damage import files_of
from tests.test_analysis.commands import refused, run
from tests.test_analysis.test_html_report.small_runs import learn, small_images


def test_other_images_in_another_unit_are_brought_to_the_dictionary_s(tmp_path: Path) -> None:
    folder = learn(tmp_path / "runs", (3,), dataset=small_images(tmp_path / "images.npy"), patch=3)
    own = run("encode", folder, "--k", 3)["codes"]
    images = np.load(tmp_path / "images.npy")
    np.save(tmp_path / "deep.npy", images.astype(np.uint16) * 16)
    asked = ("encode", folder, "--k", 3, "--dataset", tmp_path / "deep.npy", "--white", 4080)
    path = Path(run(*asked)["codes"])
    opened = xarray.open_zarr(path)["codes"]
    np.testing.assert_array_equal(opened, xarray.open_zarr(own)["codes"])
    found, expected = run("decode", path), run("decode", own)
    for name in ("mse", "psnr", "peak", "positions", "coded"):
        assert found[name] == expected[name], name
    assert run(*asked)["reused"]
    whole = files_of(path)
    shutil.rmtree(path)
    assert not run(*asked, "--scheduler", "processes:1")["reused"]
    assert files_of(path) == whole


def test_codes_of_another_white_are_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = learn(tmp_path / "runs", (3,), dataset=small_images(tmp_path / "images.npy"), patch=3)
    np.save(tmp_path / "deep.npy", np.load(tmp_path / "images.npy").astype(np.uint16) * 16)
    asked = ("encode", folder, "--k", 3, "--dataset", tmp_path / "deep.npy", "--white")
    run(*asked, 4080)
    assert "holds other codes" in refused(capsys, *asked, 4095)
    assert "white '0' is not valid" in refused(capsys, *asked, 0)


def test_other_images_have_a_layout_of_their_own(tmp_path: Path) -> None:
    folder = learn(
        tmp_path / "runs", (3,), dataset=small_images(tmp_path / "images.npy", 3), patch=3
    )
    own = run("encode", folder, "--k", 3)["codes"]
    np.save(tmp_path / "turned.npy", np.load(tmp_path / "images.npy").transpose(0, 3, 1, 2))
    asked = ("encode", folder, "--k", 3, "--dataset", tmp_path / "turned.npy", "--layout", "NCHW")
    found = run(*asked)["codes"]
    np.testing.assert_array_equal(xarray.open_zarr(found)["codes"], xarray.open_zarr(own)["codes"])
    assert run("decode", found)["mse"] == run("decode", own)["mse"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--white", "4095"], "are of other images: say which (--dataset)"),
        (["--layout", "NHW"], "are of other images: say which (--dataset)"),
        (["--dataset", "digits", "--layout", "HAT"], "layout 'HAT' is none"),
        (["--dataset", "digits", "--white", "much"], "white 'much' is not valid"),
    ],
)
def test_what_cannot_be_is_one_line(
    digits_folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    before = sorted(digits_folder.rglob("*"))
    assert message in refused(capsys, "encode", digits_folder, "--k", 4, *options)
    assert sorted(digits_folder.rglob("*")) == before
