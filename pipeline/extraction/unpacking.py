"""Images as a file of raw pixels, where tiles would decode much of them again and again."""

from uuid import uuid4

from pipeline.execution.scheduler import Scheduler
from pipeline.extraction.tasks import TiledImages
from pipeline.runtime.progress import Progress
from storage.images.formats.raw import RawReader, unpack
from storage.layout import PIXELS
from storage.mapped_files import scratch_folder
from storage.places.place import Place
from storage.places.remote import RemotePlace


def unpacked(
    tiled: TiledImages, store: Place, scheduler: Scheduler, progress: Progress
) -> RawReader | None:
    """The images in a file in the folder of a store that is built; None where they stay packed.

    Behind a URL there is no such folder: the file lies in one of this machine then.

    Args:
        tiled: the images.
        store: that they are unpacked for.
        scheduler: of the tasks that read them.
        progress: is told what is done.
    """
    if not tiled.better_unpacked:
        return None
    place, beside = store / PIXELS, "beside the store"
    if isinstance(place, RemotePlace):
        if scheduler.remote:
            progress.note(f"images are decoded for each chunk again: {store} holds no scratch file")
            return None
        place = scratch_folder() / f"{uuid4().hex}-{PIXELS}"
        beside = f"in {place.parent}"
    label, size = f"Unpacking {tiled.source.split} images", tiled.source.nbytes / 1e6
    progress.note(f"{label}: {size:.0f} MB {beside}")
    return unpack(tiled.source.reader, place)
