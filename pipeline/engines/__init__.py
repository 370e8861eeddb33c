"""The assignment engines.

Names load their module when they are first used: what computes on a device needs few libraries.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
