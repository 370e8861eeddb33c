from .dictionary_store import Dictionary, group_name, open_dictionaries
from .errors import BusyError, InputError, IntegrityError, MemoryBudgetError, PatchDictError
from .geometry import PatchSpec
from .patch_store import PatchStore, open_patches
from .sources import ImageSource, open_images

__all__ = [
    "BusyError",
    "Dictionary",
    "ImageSource",
    "InputError",
    "IntegrityError",
    "MemoryBudgetError",
    "PatchDictError",
    "PatchSpec",
    "PatchStore",
    "group_name",
    "open_dictionaries",
    "open_images",
    "open_patches",
]
