"""Residual stages: dictionaries of what those before leave, codes of several, and back."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from click.testing import CliRunner

from analysis import decode, encode, open_stages
from analysis.command_line import combined
from analysis.encoding import encoding
from analysis.encoding.stages import stage_curves
from analysis.experiment import open_experiment
from pipeline.kmeans import checkpoint
from storage import (
    InputError,
    IntegrityError,
    MemoryBudgetError,
    open_dictionaries,
    open_images,
    open_patches,
)
from storage.layout import building_place
from tests.damage import files_of, flip_bit
from tests.oracles import squared_distances
from tests.test_analysis.commands import refused, run
from tests.test_analysis.test_html_report.small_runs import learn, small_images

K = 12


def flat(node: xarray.DataTree) -> np.ndarray:
    return np.asarray(node["centroids"]).reshape(K, -1)


def labels_of(rows: np.ndarray, nodes: list[xarray.DataTree]) -> tuple[np.ndarray, np.ndarray]:
    """Labels in each stage, (stages, n), and what is left, by numpy alone."""
    left, labels = rows.astype(np.float32), []
    for node in nodes:
        labels.append(np.argmin(squared_distances(left, flat(node)), axis=1))
        left = left - flat(node)[labels[-1]]
    return np.array(labels), left


def test_scores_of_stages_are_those_of_numpy(learned: Path) -> None:
    nodes = open_stages(learned, K, 3)
    facts = open_experiment(learned).facts
    for split, name in (("train", "mse"), ("test", "heldout_mse")):
        rows = open_patches(learned.parent / "patches" / f"{facts[f'{split}_store']}.zarr").array[:]
        for count in (1, 2, 3):
            labels, left = labels_of(np.asarray(rows), nodes[:count])
            mse = np.square(left, dtype=np.float64).mean()
            assert nodes[count - 1].attrs[name] == pytest.approx(mse, rel=1e-6)
            if split == "train":
                counted = np.bincount(labels[-1], minlength=K)
                np.testing.assert_array_equal(nodes[count - 1]["count"], counted)


def test_mse_falls_with_each_stage(learned: Path) -> None:
    nodes = open_stages(learned, K, 3)
    for name in ("mse", "heldout_mse"):
        scores = [node.attrs[name] for node in nodes]
        assert scores == sorted(scores, reverse=True)
        assert scores[1] < 0.8 * scores[0]


def test_stages_leave_the_experiment_as_it_was(digits_folder: Path, learned: Path) -> None:
    before, after = files_of(digits_folder), files_of(learned)
    assert {name: after[name] for name in before} == before
    added = {name.split("/")[0] for name in after.keys() - before.keys()}
    assert {name for name in added if not name.startswith(".")} == {
        "k00012-stage2",
        "k00012-stage3",
    }
    tree = open_dictionaries(learned / "k00012-stage2" / "dictionaries.zarr")
    assert [*tree.children] == ["k00012"]
    assert set(tree["k00012"].variables) == set(
        open_dictionaries(learned / "dictionaries.zarr")["k00012"].variables
    )
    verify = CliRunner().invoke(combined(), ["verify", str(learned.parent), "--json"])
    assert json.loads(verify.stdout.splitlines()[-1])["ok"]


def test_codes_of_stages_are_those_of_numpy_and_decode_to_their_sums(staged: Path) -> None:
    made = run("encode", staged, "--k", K, "--stages", 2, "--stride", 5)
    path = staged / "codes-k00012x2-digits-test-s5.zarr"
    assert (made["codes"], made["stages"], made["reused"]) == (str(path), 2, False)
    nodes = open_stages(staged, K, 2)
    images = open_images("digits", "test").images[:]
    patches = images[:, :5, :5].reshape(-1, 25)  # one position at stride 5
    labels, _ = labels_of(patches, nodes)
    blank = ~patches.any(axis=1)
    opened = xarray.open_zarr(path)["codes"]
    assert opened.dims == ("stage", "image", "row", "col")
    assert opened["stage"].values.tolist() == [1, 2]
    found = opened.values.reshape(2, -1)
    np.testing.assert_array_equal(found[:, ~blank], labels[:, ~blank])
    assert (found[:, blank] == opened.attrs["no_code"]).all()
    rebuilt = decode(path, nodes).values
    sums = flat(nodes[0]).astype(np.float64)[labels[0]] + flat(nodes[1])[labels[1]]
    sums[blank] = 0
    np.testing.assert_allclose(rebuilt[:, :5, :5].reshape(-1, 25), sums, atol=1e-4)
    assert not rebuilt[:, 5:].any()
    told = run("decode", path)
    assert (told["stages"], told["unscored"]) == (2, None)
    errors = np.square(images - rebuilt).mean()
    assert told["mse"] == pytest.approx(errors)
    coded = (~blank).sum() / len(blank)
    fixed = np.log2(K + (coded < 1)) + coded * np.log2(K)
    assert told["bits_per_pixel"]["fixed"] == pytest.approx(fixed / 64)
    shares = [np.unique(found[0], return_counts=True)[1] / len(blank)]
    shares += [np.unique(found[1, ~blank], return_counts=True)[1] / (~blank).sum()]
    entropy = [-(share @ np.log2(share)) for share in shares]
    assert told["bits_per_pixel"]["entropy"] == pytest.approx(
        (entropy[0] + coded * entropy[1]) / 64
    )


@pytest.mark.usefixtures("chunks")
def test_codes_on_disk_are_the_lazy_ones_and_overlap(staged: Path) -> None:
    nodes = open_stages(staged, K, 3)
    path = run("encode", staged, "--k", K, "--stages", 3)["codes"]
    lazy = encode(open_images("digits", "test"), nodes)
    assert lazy.chunks == ((3,), (64, 64, 64, 64, 41), (4,), (4,))
    stored = xarray.open_zarr(path)["codes"].load()
    xarray.testing.assert_identical(stored, lazy.compute())
    rebuilt = decode(lazy, nodes)
    np.testing.assert_array_equal(decode(path, nodes), rebuilt)
    np.testing.assert_array_equal(decode(stored[:, 3], nodes), rebuilt[3])
    turned = stored.transpose("row", "image", "stage", "col")
    np.testing.assert_array_equal(decode(turned, nodes), rebuilt)
    images = open_images("digits", "test").images[:]
    np.testing.assert_array_equal(encode(images[3], nodes), stored[:, 3])
    errors = []
    for count in (1, 2, 3):  # the first stages are what they are without the others
        codes = encode(images, nodes[:count])
        np.testing.assert_array_equal(codes.values.ravel(), stored[:count].values.ravel())
        errors.append(float(np.square(images - decode(codes, nodes[:count])).mean()))
    assert errors == sorted(errors, reverse=True)
    assert run("decode", path)["mse"] == pytest.approx(errors[2])


def test_colour_in_three_stages_comes_back(tmp_path: Path) -> None:
    folder = learn(tmp_path, (3,), dataset=small_images(tmp_path / "a.npy", 3), patch=3)
    scores = run("encode", folder, "--k", 3, "--stages", 3)["scores"]
    assert scores[0]["heldout_mse"] is None
    assert [one["bits"] for one in scores] == [np.log2(3)] * 3
    codes = folder / "codes-k00003x3-a-train-s1.zarr"
    nodes = open_stages(folder, 3, 3)
    lazy = encode(np.load(tmp_path / "a.npy"), nodes)
    np.testing.assert_array_equal(decode(lazy, nodes), decode(codes, nodes))


@pytest.mark.usefixtures("chunks")
def test_codes_of_stages_are_reused_mended_and_gone_on_with(staged: Path) -> None:
    asked = ("encode", staged, "--k", K, "--stages", 2)
    path = Path(run(*asked)["codes"])
    whole = files_of(path)
    assert run(*asked)["reused"]
    chunk = path / "codes" / "c" / "0" / "2" / "0" / "0"
    flip_bit(chunk, 77)
    assert run(*asked)["chunks"] == 1
    assert files_of(path) == whole
    path.rename(building_place(path))  # as a killed run leaves it
    (building_place(path) / chunk.relative_to(path)).unlink()
    assert run(*asked)["chunks"] == 1
    assert files_of(path) == whole
    shutil.rmtree(path)
    spread = ("--scheduler", "processes:2", "--memory", "2GiB")  # this process has all tests' code
    assert run(*asked, *spread)["chunks"] == 5
    assert files_of(path) == whole


def test_a_stage_that_was_broken_off_is_gone_on_with(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = flat(open_stages(staged, K, 2)[1])
    shutil.rmtree(staged / "k00012-stage2")
    saved, save = [0], checkpoint.write_checkpoint

    def broken(*given: Any) -> None:
        save(*given)
        saved[0] += 1
        if saved[0] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "SHARE", 1)  # each pass is saved
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_checkpoint", broken)
        with pytest.raises(KeyboardInterrupt):
            open_stages(staged, K, 2)
    assert len([*(staged / "k00012-stage2").glob("*.unfinished.npz")]) == 1
    resumed, load = list[str](), checkpoint.FitCheckpoint.load

    def loaded(self: Any, name: str) -> Any:
        found = load(self, name)
        resumed.extend([name] * (found is not None))
        return found

    monkeypatch.setattr(checkpoint.FitCheckpoint, "load", loaded)
    np.testing.assert_array_equal(flat(open_stages(staged, K, 2)[1]), expected)
    assert resumed
    assert not [*staged.rglob("*.unfinished.npz")]


def test_stages_that_are_there_are_not_learned_again(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(staged)
    monkeypatch.setattr("pipeline.stages.learning.Stage.learn", None)
    open_stages(staged, K, 3)
    assert files_of(staged) == before


def test_stages_of_another_dictionary_are_refused(staged: Path) -> None:
    shutil.rmtree(staged / "k00012-stage2")
    (staged / "k00012-stage3").rename(staged / "k00012-stage2")
    with pytest.raises(IntegrityError, match="move them away"):
        open_stages(staged, K, 2)
    assert not stage_curves(open_experiment(staged))  # nor are they drawn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k", "12", "--stages", "0"], "stages 0 is too small: use 1 or more"),
        (["--k", "12", "--stages", "two"], "'two' is not a valid integer"),
        (["--k", "5", "--stages", "2"], "has no dictionary of K = 5: use 4, 12, 60"),
    ],
)
def test_what_cannot_be_learned_is_one_line(
    learned: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    before = files_of(learned)
    assert message in refused(capsys, "encode", learned, *options)
    assert files_of(learned) == before


def test_stages_stay_within_the_cap(learned: Path) -> None:
    with pytest.raises(MemoryBudgetError, match="fitting K = 12 needs"):
        open_stages(learned, K, 4, memory=120 << 20)


def test_nothing_left_is_no_stage(tmp_path: Path) -> None:
    images = np.full((3, 4, 4), 9, np.uint8)
    images[1:] = np.array([30, 70])[:, np.newaxis, np.newaxis]
    np.save(tmp_path / "images.npy", images)
    folder = learn(tmp_path / "runs", (3,), dataset=str(tmp_path / "images.npy"), patch=2)
    command = [sys.executable, "-m", "analysis", "encode", folder, "--k", "3", "--stages", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = done.stderr.splitlines()[-1]  # after those of progress
    assert done.returncode == 2
    assert "there is no stage 2, of what is left: K = 3 is more than the 1 distinct rows" in line


def test_codes_whose_stages_are_gone_are_refused_in_one_line(
    staged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = run("encode", staged, "--k", K, "--stages", 3)["codes"]
    nodes = open_stages(staged, K, 3)
    with pytest.raises(InputError, match="codes are of 3 stages, not 1"):
        decode(codes, nodes[0])
    with pytest.raises(IntegrityError, match="is not the one of K"):
        decode(codes, [nodes[0], nodes[2], nodes[1]])
    damaged = next((staged / "k00012-stage2").rglob("centroids/c/0/0/0"))
    flip_bit(damaged, 99)
    assert "fails its checksum" in refused(capsys, "decode", codes)
    flip_bit(damaged, 99)
    shutil.rmtree(staged / "k00012-stage3")
    line = refused(capsys, "decode", codes)
    assert "the dictionary of stage 3 of K = 12 that the codes are of is not in" in line
    assert "encode again with --stages 3" in line


def test_codes_of_stages_that_are_wrong_are_refused(staged: Path) -> None:
    nodes = open_stages(staged, K, 2)
    codes = encode(open_images("digits", "test").images[:4], nodes).compute()
    wrong = codes.copy()
    wrong[1] = wrong[1].where(wrong[0] == 65535, 65535)  # none where the first stage has one
    with pytest.raises(InputError, match="hold 65535 where numbers below 12"):
        decode(wrong, nodes)
    with pytest.raises(InputError, match=r"give \(2, image, 4, 4\)"):
        decode(codes[:, :, :2], nodes)
    with pytest.raises(InputError, match="no dictionary to encode by"):
        encode(open_images("digits", "test"), [])


def test_work_of_stages_follows_the_cap(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = open_stages(staged, K, 2)
    expected = encode(open_images("digits", "test"), nodes).compute()
    monkeypatch.setattr(encoding, "PATCH_BYTES", 100 * 25 * 4)
    monkeypatch.setattr(encoding, "LEAST_POSITIONS", 1)
    np.testing.assert_array_equal(encode(open_images("digits", "test"), nodes), expected)
