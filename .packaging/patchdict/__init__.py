"""Out-of-core K-means dictionaries of image patches: all public names of the three folders.

Names load their module when they are first used, so that importing the package costs nothing.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Of an editable installation: before folders of the user's, which may hold modules of these names.
_CHECKOUT = Path(__file__).parents[2]
if (_CHECKOUT / ".packaging").is_dir():
    for _name in ("storage", "pipeline", "analysis"):
        _found = find_spec(_name)
        if _found is None or _found.origin != str(_CHECKOUT / _name / "__init__.py"):
            sys.path.insert(0, str(_CHECKOUT))
            break

import analysis
import pipeline
import storage

__all__ = sorted([*storage.__all__, *pipeline.__all__, *analysis.__all__])


def __getattr__(name: str) -> Any:
    for folder in (storage, pipeline, analysis):
        if name in folder.__all__:
            return getattr(folder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
