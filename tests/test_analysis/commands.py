"""Commands as they are typed."""

import json
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from analysis.command_line import group
from pipeline import command_line


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(group, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return dict(json.loads(result.stdout.splitlines()[-1]))


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
