"""What a wheel holds: one package, patchdict, with the three folders of the checkout inside it.

Modules of such common names as `storage` must not lie at the top of an environment, where another
distribution may have its own, or a user a `pipeline.py` in the working folder. So the folders move
one level down as the wheel is built, and what names their modules is rewritten. In a checkout, and
in an editable installation of it, they stay where they are.
"""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "patchdict"
FOLDERS = ("storage", "pipeline", "analysis")
ENDINGS = (".py", ".pyi", ".js", ".css", ".html", ".typed")  # a notebook is none of them
_NAMES = "|".join(FOLDERS)
_IMPORTED = re.compile(rf"^(\s*)from ({_NAMES})\b(?=[\w.]* import\b)", re.MULTILINE)
_WHOLE = re.compile(rf"^(\s*)import ({_NAMES})$", re.MULTILINE)
_DOTTED = re.compile(rf"^\s*import ((?:{_NAMES})(?:\.\w+)+)$", re.MULTILINE)
_OTHERS = re.compile(rf"^\s*import (?:{_NAMES})\b.*$", re.MULTILINE)
_IN_STRING = re.compile(rf"""(?<=["'])(?=(?:{_NAMES})(?:\.[a-z]\w*)+["'])""")
_COMMAND = re.compile(rf"\bpython -m (?:{_NAMES})\b")


def moved(code: str) -> str:
    """The code with all that names a module of ours one level down.

    These are imports, strings that are the name of a module, and commands in texts.
    Raises: ValueError for an import of a module of ours whose name would no longer be bound.
    """
    code = _IMPORTED.sub(rf"\1from {PACKAGE}.\2", code)
    code = _WHOLE.sub(rf"\1from {PACKAGE} import \2", code)
    for name in set(_DOTTED.findall(code)):  # it is used by its whole name
        code = re.sub(rf"""(?<![\w."']){re.escape(name)}\b""", f"{PACKAGE}.{name}", code)
    if left := _OTHERS.search(code):
        raise ValueError(f"{left[0].strip()!r} cannot be moved: write it as from … import …")
    code = _IN_STRING.sub(f"{PACKAGE}.", code)
    return _COMMAND.sub(f"python -m {PACKAGE}", code)


def write_package(root: Path, target: Path) -> None:
    """Write the package that a wheel of the checkout at `root` holds, as the folder `target`."""
    for folder in (root / ".packaging" / PACKAGE, *(root / name for name in FOLDERS)):
        inside = target if folder.name == PACKAGE else target / folder.name
        for file in sorted(folder.rglob("*")):
            if file.suffix not in ENDINGS or "__pycache__" in file.parts:
                continue
            copy = inside / file.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            text = file.read_text(encoding="utf-8")
            copy.write_text(moved(text) if file.suffix in (".py", ".pyi") else text, "utf-8")


class CustomBuildHook(BuildHookInterface):
    """Gives hatchling the rewritten package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is written; version: "standard", or "editable"."""
        if version == "standard":
            self._folder = tempfile.mkdtemp()
            write_package(Path(self.root), Path(self._folder, PACKAGE))
            build_data["force_include"][f"{self._folder}/{PACKAGE}"] = PACKAGE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """After the wheel was written."""
        if version == "standard":
            shutil.rmtree(self._folder)
