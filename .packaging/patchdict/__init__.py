"""Out-of-core K-means dictionaries of image patches: all public names of the three folders.

Names load their module when they are first used, so that importing the package costs nothing.
"""

from typing import Any

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
