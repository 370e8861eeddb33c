"""Commands as they are typed."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from analysis.command_line import group
from pipeline import command_line
from pipeline.upkeep.status import take_inventory
from storage.layout import building_place
from tests.damage import DAMAGES, files_of


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(group, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def assert_damage_is_mended(path: Path, chunk: str, *command: object) -> None:
    """The command writes a damaged chunk of a store again, that one alone, as it was."""
    before = files_of(path)
    for name, damage in DAMAGES.items():
        damage(path / chunk, np.random.default_rng(0))
        (experiment,) = take_inventory(path.parent)["experiments"]
        assert experiment["codes"] or experiment["features"], name
        mended = run(*command)
        assert (mended["chunks"], mended["reused"]) == (1, False), name
        assert files_of(path) == before, name
    assert not building_place(path).exists()


def invoke(*arguments: object) -> str:
    return CliRunner().invoke(group, [*map(str, arguments)], catch_exceptions=False).stdout


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command ends with, exit code 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["patchdict", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            command_line.run(group)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line
