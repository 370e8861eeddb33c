"""Python in processes of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run_python(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run it with these arguments, in the root of the checkout unless another `cwd` is given."""
    usual = {"cwd": ROOT, "capture_output": True, "text": True, "check": False}
    return subprocess.run([sys.executable, *arguments], **(usual | options))
