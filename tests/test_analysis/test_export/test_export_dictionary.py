"""`export`: what is written is the dictionary, and what cannot be is refused in one line."""

import io
import json
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from click.testing import CliRunner

from analysis import export_dictionary, reconstruct
from analysis.command_line import FORMAT_NAMES, group, main
from analysis.export.formats import FORMATS
from storage import InputError, load_dictionary, open_dictionaries, open_images
from storage.plain_attributes import parsed
from tests.test_analysis.test_html_report.small_runs import learn, small_images

CARDED = ("npz", "safetensors")


def command(*arguments: object) -> Any:
    return CliRunner().invoke(group, ["export", *map(str, arguments)])


def refused(*arguments: object) -> str:
    """What the command says of these arguments, one line."""
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(told):
        patch.setattr(sys, "argv", ["patchdict", "export", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 2
    (line,) = told.getvalue().splitlines()
    return line.removeprefix("error: ")


@pytest.fixture
def tree(digits_folder: Path) -> xarray.DataTree:
    return open_dictionaries(digits_folder / "dictionaries.zarr")


def test_the_command_line_knows_the_formats() -> None:
    assert tuple(FORMATS) == FORMAT_NAMES


@pytest.mark.parametrize("name", CARDED)
def test_what_is_loaded_is_the_dictionary(
    name: str, tree: xarray.DataTree, digits_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "handed on"
    result = export_dictionary(tree["k00060"], name, path)
    assert result["bytes"] == path.stat().st_size
    found, node = load_dictionary(path), tree["k00060"].to_dataset()
    xarray.testing.assert_equal(found, node)
    for variable in node.variables:
        assert found[variable].attrs == node[variable].attrs
    kept = {key: value for key, value in node.attrs.items() if key not in ("scheduler", "complete")}
    assert kept.items() <= found.attrs.items()
    assert parsed(found.attrs) == result["card"]
    image = open_images("digits", "test").images[:2]
    np.testing.assert_array_equal(reconstruct(image, found), reconstruct(image, tree["k00060"]))
    assert str(digits_folder.parent).encode() not in path.read_bytes()


def test_the_card_says_what_it_is(tree: xarray.DataTree, tmp_path: Path) -> None:
    card = export_dictionary(tree["k00012"], "npz", tmp_path / "a.npz")["card"]
    told = ("k", "patch", "preprocessing", "distance", "unit", "dataset", "licence")
    assert [card[name] for name in told] == [
        *(12, "5x5", "none", "euclidean", "squared grey levels", "digits", "CC BY 4.0")
    ]
    assert card["mse"] == tree["k00012"].attrs["mse"]
    assert card["heldout_mse"] == tree["k00012"].attrs["heldout_mse"]
    assert set(card["versions"]) > {"patchdict", "numpy"}


def test_what_was_loaded_is_handed_on_with_the_same_card(
    tree: xarray.DataTree, tmp_path: Path
) -> None:
    first = export_dictionary(tree["k00004"], "npz", tmp_path / "a.npz")
    second = export_dictionary(load_dictionary(tmp_path / "a.npz"), "safetensors", tmp_path / "b")
    assert second["card"] == first["card"]


@pytest.mark.parametrize(
    ("channels", "dtype", "patch"),
    [((3,), np.uint8, "5x5x3"), ((), np.uint16, "5x5"), ((), np.float32, "5x5")],
)
def test_colour_more_bits_and_floats(
    channels: tuple[int, ...], dtype: type, patch: str, tmp_path: Path
) -> None:
    """Of files nobody knows the licence, and their names may be those of a set."""
    path = small_images(tmp_path / "digits.npy", *channels)
    pixels = np.load(path)
    if dtype == np.uint16:
        pixels = pixels.astype(dtype) * dtype(257)
    elif dtype == np.float32:
        pixels = pixels.astype(dtype) / dtype(255)
    np.save(path, pixels)
    folder = learn(tmp_path / "runs", (3,), dataset=path)
    node = open_dictionaries(folder / "dictionaries.zarr")["k00003"]
    for name in CARDED:
        card = export_dictionary(node, name, tmp_path / name)["card"]
        assert (card["patch"], "licence" in card, "dataset" in card) == (patch, False, False)
        found = load_dictionary(tmp_path / name)
        np.testing.assert_array_equal(reconstruct(pixels, found), reconstruct(pixels, node))
        assert str(tmp_path).encode() not in (tmp_path / name).read_bytes()


def test_the_command_writes_into_the_experiment_and_says_what_opens_it(
    digits_folder: Path, tmp_path: Path
) -> None:
    done = command(digits_folder.parent, "--k", 12, "--format", "npz", "--force")
    assert done.exit_code == 0
    path = digits_folder / "exports" / "digits-5x5-s1-t0-k00012.npz"
    first, second = done.stdout.splitlines()
    size = f"{path.stat().st_size:,} bytes"
    assert first.startswith(f"{path}: 12 centroids of 5×5, MSE ")
    assert first.endswith(f", digits (CC BY 4.0), {size}")
    assert second == "opened by patchdict.load_dictionary(PATH), or numpy.load(PATH)"
    out = tmp_path / "b.npz"
    done = command(digits_folder, "--k", 12, "--format", "npz", "--out", out, "--json")
    assert json.loads(done.stdout)["path"] == str(out)
    assert out.read_bytes() == path.read_bytes()


def test_what_is_there_is_replaced_only_by_force(digits_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npz"
    out.write_text("mine")
    arguments = (digits_folder, "--k", 12, "--format", "npz", "--out", out)
    told = refused(*arguments)
    assert told == f"{out} is there already: replace it (--force), or choose another name"
    assert out.read_text() == "mine"
    assert command(*arguments, "--force").exit_code == 0
    assert len(load_dictionary(out)["centroids"]) == 12
    assert list(tmp_path.iterdir()) == [out]


def test_the_command_refuses_in_one_line(digits_folder: Path, tmp_path: Path) -> None:
    usual = ("--k", 12, "--format", "npz", "--out")
    told = refused(digits_folder, "--k", 13, "--format", "npz")
    assert told == f"{digits_folder} has no dictionary of K = 13: use 4, 12, 60"
    told = refused(digits_folder, "--k", 12, "--format", "tar")
    assert "'tar' is not one of 'npz', 'safetensors', 'sklearn'" in told
    told = refused(tmp_path, *usual, tmp_path / "a.npz")
    assert told.startswith(f"no finished dictionaries under {tmp_path}")
    told = refused(digits_folder / "dictionaries.zarr", *usual, tmp_path / "a.npz")
    assert told.endswith(f"is a part of an experiment: give its folder, {digits_folder}")
    told = refused(tmp_path / "absent", *usual, tmp_path / "a.npz")
    assert told.startswith(f"no folder {tmp_path / 'absent'}")
    told = refused(digits_folder, *usual, tmp_path / "absent" / "a.npz")
    assert told == f"no folder {tmp_path / 'absent'} to write a.npz into: make it first"
    told = refused(digits_folder, *usual, tmp_path)
    assert told == f"{tmp_path} is a folder: give the name of a file"
    told = refused(digits_folder, *usual, "a.safetensors")
    assert told == (
        "a.safetensors has the ending of safetensors: give one that ends in .npz, or --format"
        " safetensors"
    )


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc to be refused by")
def test_a_target_that_cannot_be_written_is_named(digits_folder: Path) -> None:
    told = refused(digits_folder, "--k", 12, "--format", "npz", "--out", "/proc/a.npz")
    assert told.startswith("cannot use /proc/a.npz: No such file or directory; check the name")


def test_what_is_no_dictionary_is_refused(tree: xarray.DataTree, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'there are no centroids in it: .*tree\["k00100"\]'):
        export_dictionary(tree, "npz", tmp_path / "a.npz")
    with pytest.raises(InputError, match="no format 'tar': use npz, safetensors, sklearn"):
        export_dictionary(tree["k00004"], "tar", tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []
