"""What an extraction would write, told before: `extract --dry-run`."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.command_line import group


def run(*arguments: object) -> dict[str, object]:
    result = CliRunner().invoke(group, ["extract", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("options", [(), ("--sample", "30%"), ("--keep", "std>0.25")])
def test_what_is_foreseen_is_what_is_written(tmp_path: Path, options: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "mine.npy", rng.integers(0, 255, (40, 60, 50)).astype(np.uint8))
    given = ("--dataset", tmp_path / "mine.npy", "--out", tmp_path / "runs", "--patch", 4, *options)
    told = run(*given, "--dry-run")
    assert not (tmp_path / "runs").exists()
    made = run(*given)
    assert (told["store"], told["rows"], told["dim"]) == (made["store"], made["rows"], made["dim"])
    assert 0.8 < told["bytes"] / made["bytes"] < 1.2
    assert 0 < told["seconds"] < 60
    assert told["memory"] > 50 << 20
    assert (told["reused"], run(*given, "--dry-run")["reused"]) == (False, True)


def test_people_are_told_in_a_line(tmp_path: Path) -> None:
    words = ["extract", "--dataset", "digits", "--out", str(tmp_path / "runs"), "--dry-run"]
    told = CliRunner().invoke(group, words).stdout
    assert "24,000 rows of 25" in told
    assert told.endswith("; nothing is written\n")


def test_a_cap_that_is_too_small_is_refused_as_ever(tmp_path: Path) -> None:
    words = ["extract", "--dataset", "digits", "--dry-run", "--memory", "20MiB"]
    result = CliRunner().invoke(group, words)
    assert result.exit_code != 0
    assert "more than the cap" in str(result.exception)
