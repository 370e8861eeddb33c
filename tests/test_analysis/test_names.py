"""The names that analysis hands on: its commands and its public functions."""

from pathlib import Path

import analysis
from analysis.command_line import combined
from pipeline.command_line import group as pipeline_group


def test_patchdict_has_all_commands_and_pipeline_keeps_its_own() -> None:
    added = {"report", "reconstruct", "encode", "decode", "classify", "compare", "export"}
    assert set(combined().commands) == pipeline_group.commands.keys() | added
    assert added.isdisjoint(pipeline_group.commands)


def test_no_module_hides_a_public_name() -> None:
    # `import analysis.gallery` would put the module where the function is looked up.
    modules = {path.stem for path in Path(analysis.__file__).parent.glob("*.py")}
    assert modules.isdisjoint(analysis.__all__)
