from .dictionary_store import Dictionary, finished_dictionaries
from .errors import (
    BusyError,
    DeviceError,
    InputError,
    IntegrityError,
    MemoryBudgetError,
    PatchDictError,
    WorkerError,
)
from .images.datasets import class_names
from .images.labels import open_labels
from .images.options import ImageOptions
from .images.source import ImageSource, open_images
from .images.writer import write_images
from .interchange.dictionary_file import load_dictionary
from .interchange.dictionary_tree import DictionaryTree, open_dictionaries
from .layout import group_name
from .patch_spec import PatchSpec
from .patch_store import PatchStore, open_patches

__all__ = [
    "BusyError",
    "DeviceError",
    "Dictionary",
    "DictionaryTree",
    "ImageOptions",
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
    "load_dictionary",
    "open_dictionaries",
    "open_images",
    "open_labels",
    "open_patches",
    "write_images",
]
