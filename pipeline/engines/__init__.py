"""The assignment engines.

Names load their module when they are first used: what computes on a device needs few libraries.
"""

from pathlib import Path

import lazy_loader

from pipeline.runtime.kernel_cache import drop_stale

drop_stale(Path(__file__).parents[1])  # before numba reads any of them

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
