"""What turns one thing on disk into the next: extraction, the K-means engine, the sweep.

Names load their module when they are first used, so that importing the package costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
