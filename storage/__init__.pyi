from .dictionary_store import (
    Dictionary,
    finished_dictionaries,
    group_name,
    open_dictionaries,
)
from .errors import (
    BusyError,
    DeviceError,
    InputError,
    IntegrityError,
    MemoryBudgetError,
    PatchDictError,
    WorkerError,
)
from .geometry import PatchSpec
from .image_writer import write_images
from .patch_store import PatchStore, open_patches
from .sources import ImageSource, class_names, open_images, open_labels

__all__ = [
    "BusyError",
    "DeviceError",
    "Dictionary",
    "ImageSource",
    "InputError",
    "IntegrityError",
    "MemoryBudgetError",
    "PatchDictError",
    "PatchSpec",
    "PatchStore",
    "WorkerError",
    "class_names",
    "finished_dictionaries",
    "group_name",
    "open_dictionaries",
    "open_images",
    "open_labels",
    "open_patches",
    "write_images",
]
