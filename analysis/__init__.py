"""What people look at: MSE curves and the elbow, galleries, reconstructions, usage, the report.

Names load their module when they are first used, so that importing the package costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
