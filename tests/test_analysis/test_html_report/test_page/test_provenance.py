"""The commands on the page learn the same dictionaries, and nobody's folders are told."""

import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from analysis.command_line import group as analysis_group
from analysis.experiment import Experiment, open_experiment
from analysis.html_report.page.provenance import (
    commands,
    export_command,
    file_elsewhere,
    learning_order,
)
from pipeline.command_line import group
from tests.test_analysis.test_html_report.small_runs import learn
from tests.test_analysis.test_html_report.test_page.conftest import Reported


def starts_of(order: list[int]) -> dict[int, int | None]:
    """What each K starts from when they are learned in that order."""
    found: dict[int, int | None] = {}
    for k in order:
        found[k] = max((smaller for smaller in found if smaller < k), default=None)
    return found


@pytest.mark.parametrize(
    ("starts", "order"),
    [
        ({5: None, 9: 5, 20: 9}, [[5, 9, 20]]),
        ({5: None, 20: 5, 9: 5}, [[5, 20], [9]]),
        ({5: None, 20: None}, [[20], [5]]),
        ({5: None, 20: 12, 9: 5}, [[5, 9, 12, 20]]),
    ],
    ids=["at once", "later between", "later before", "through one that is gone"],
)
def test_the_order_is_part_of_what_was_learned(
    starts: dict[int, int | None], order: list[list[int]]
) -> None:
    assert learning_order(starts) == order


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12, unique=True))
def test_any_order_of_learning_is_found_again(order: list[int]) -> None:
    starts = starts_of(order)
    sweeps = learning_order(dict(sorted(starts.items())))
    assert starts_of([k for sizes in sweeps for k in sizes]) == starts
    assert all(sizes == sorted(sizes) for sizes in sweeps)


@pytest.fixture
def learned(strokes: np.ndarray, tmp_path: Path) -> Experiment:
    """Of odd options and names, and its middle K last."""
    dataset = tmp_path / "first" / "it's $HOME.npy"
    dataset.parent.mkdir()
    np.save(dataset, strokes)
    for sizes in ((3, 20), (8,)):
        odd = {"patch": (3, 4), "threshold": 0.123456789, "tol": 1.5e-7, "seed": 12345678901}
        out = dataset.parent / "all runs"
        folder = learn(out, sizes, dataset=str(dataset), max_iter=3, breathing=1, **odd)
    return open_experiment(folder)


def words_of(command: str) -> list[str]:
    """What a shell gives to python."""
    script = 'python() { printf "%s\\0" "$@"; }\n' + command
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    return told.split("\0")[:-1]


def test_the_printed_commands_learn_the_same_dictionaries(
    learned: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "second"
    other.mkdir()
    shutil.copy(learned.facts["dataset"], other)
    monkeypatch.chdir(other)
    for command in commands(learned):
        program, words = words_of(command)[:2], words_of(command)[2:]
        assert program == ["-m", "pipeline"]
        result = CliRunner().invoke(group, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    again = open_experiment(other / "all runs" / learned.folder.name)
    assert again.sizes == learned.sizes == [3, 8, 20]
    for k, node in learned.nodes.items():
        assert again.nodes[k].attrs["started_from"] == node.attrs["started_from"]
        np.testing.assert_array_equal(again.centroids(k), learned.centroids(k))
    assert again.facts["digest"] == learned.facts["digest"]
    words = shlex.split(export_command(again, 8))
    assert words[0] == "patchdict"
    result = CliRunner().invoke(analysis_group, words[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert list(other.rglob("*.parquet"))


def test_images_outside_the_folder_of_out_are_told_by_name(
    learned: Experiment, strokes: np.ndarray, tmp_path: Path
) -> None:
    assert file_elsewhere(learned) is None
    np.save(tmp_path / "apart.npy", strokes)
    folder = learn(tmp_path / "deep" / "runs", (2,), dataset=str(tmp_path / "apart.npy"))
    experiment = open_experiment(folder)
    assert file_elsewhere(experiment) == "apart.npy"
    assert "--dataset apart.npy" in commands(experiment)[0]


def test_no_folder_of_the_machine_is_told(reported: Reported) -> None:
    folder = reported.path.parent
    for file in (reported.path, *(folder / "figures").iterdir()):
        content = file.read_bytes()
        for private in (folder.parents[1], Path.home(), Path.cwd()):
            assert bytes(private) + b"/" not in content, file
            assert b'"' + bytes(private) + b'"' not in content, file
