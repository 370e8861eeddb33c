"""Extraction: images into a patch store, unless it is there."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import USUAL_MEMORY, PatchOptions
from pipeline.execution.scheduler import Scheduler
from pipeline.extraction.build import Extracted, PatchBuild
from pipeline.extraction.tasks import ImageReference
from pipeline.runtime.progress import Progress, shown
from storage.atomic import remove_orphans, scratch
from storage.errors import InputError
from storage.images.arrays import array_source, one_image
from storage.images.formats.raw import write_raw
from storage.images.options import ImageOptions
from storage.images.source import ImageSource, open_images
from storage.layout import PIXELS, patch_store_path
from storage.mapped_files import scratch_folder
from storage.patch_spec import PatchSpec
from storage.places.place import Place
from storage.places.remote import RemotePlace


def extract(
    images: str | Path | np.ndarray | Iterable[Any] | ImageSource,
    *,
    count: int | None = None,
    patch: int | str | tuple[int, int] | PatchSpec = 5,
    stride: int = 1,
    threshold: float = 0.0,
    split: str = "train",
    out: str | Place = "runs",
    data: str | Place = "data",
    scheduler: str | Scheduler | None = "",
    memory: int | str = USUAL_MEMORY,
    progress: Progress | None = None,
    **stated: Any,
) -> Extracted:
    """Cut images into a patch store under `out`, unless it is there.

    Chunks of one that is there are checked, and written again where they are damaged. Memory: some
    32 MB for each task at work, and images that are not mapped from a file.

    Args:
        images: name of a data set or path of a file, as for `open_images`; an array of numpy (also
            masked), xarray, Dask, zarr, h5py or torch, (n, rows, columns[, channels]), or a list of
            images of any sizes, integers of 8 or 16 bits or floats in 0…1; an ImageSource; or, with
            `count`, what yields images: a file under `out` holds them meanwhile.
        count: number of images that are yielded.
        patch: size in pixels, as in 5, "5x7" or (5, 7); or all of the patch geometry, for which the
            next two are not read.
        stride: step between patches in pixels.
        threshold: share of the way from black to white that a kept patch's mean is above; 0: what
            is not blank.
        split: "train" or "test", of a data set; arrays and files are "train".
        out: folder of everything that is made, or its URL; the store lies in its folder `patches`.
        data: folder of downloads.
        scheduler: where tasks run: "" or None (threads), "processes:N", or an address of Dask.
        memory: cap on the resident memory of the process tree, in bytes or as in "1GiB".
        progress: is told what is done.
        **stated: more of what `PatchSpec` (keep, sample, border) and `ImageOptions` have.

    Returns: store (PatchStore), reused, repaired.
    Raises: InputError, MemoryBudgetError; IntegrityError where something else has the store's name.
    """
    spec = patch if isinstance(patch, PatchSpec) else None
    _check_stated(images, spec, set(stated))
    if spec:
        patch, stride, threshold = (spec.rows, spec.cols), spec.stride, spec.threshold
    size = str(patch) if isinstance(patch, (int, np.integer)) else patch
    given: dict[str, Any] = {"patch": size, "stride": stride, "threshold": threshold}
    given |= {"out": out, "data": data, "memory": memory} | stated
    given["dataset"] = str(images) if isinstance(images, (str, Path)) else "the array"
    running = scheduler if isinstance(scheduler, Scheduler) else None
    options = PatchOptions.checked(**given, scheduler=running.address if running else scheduler)
    with ExitStack() as stack:
        if count is not None or isinstance(images, Iterator):
            images = stack.enter_context(_drained(images, count, split, options))
        source, reference = _opened(images, split, options)
        told, cap = stack.enter_context(shown(progress)), options.memory
        running = running or stack.enter_context(Scheduler(options.scheduler, cap, told))
        work = PatchBuild(source, reference, spec or options.spec, running, told, cap)
        return work.done_under(options.out)


def _check_stated(images: Any, spec: PatchSpec | None, stated: set[str]) -> None:
    """Raise InputError for what would be ignored, because others state it."""
    rules = {"keep", "sample", "border"}
    if isinstance(images, ImageSource) and (more := sorted(stated - rules)):
        raise InputError(f"the ImageSource states what its images are: give it {more[0]}")
    if spec and (more := sorted(stated & rules)):
        raise InputError(f"the PatchSpec says which patches are cut: give it {more[0]}")


def open_split(
    options: PatchOptions, split: str, scheduler: Scheduler, progress: Progress
) -> PatchBuild:
    """The build of the store of a split of the data set that these options name; not done yet."""
    opened = _opened(options.dataset, split, options)
    return PatchBuild(*opened, options.spec, scheduler, progress, options.memory)


def _open_test(dataset: str, stated: ImageOptions, options: PatchOptions) -> ImageSource:
    """The test images beside training images, whose range holds for both.

    Raises: InputError for images of another type, or with other channels.
    """
    train = open_images(options.dataset, "train", options.data, options.stated)
    test = open_images(dataset, "test", options.data, stated)
    kinds = [
        f"{one.dtype.name}, {one.reader.channels or 'without'} channels" for one in (train, test)
    ]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"the test images {dataset} are {kinds[1]} where the training images are {kinds[0]}:"
            " convert them"
        )
    if stated.white is None and train.finds_range:
        levels = train.levels
        black = levels.black if train.dtype.kind == "i" else None
        stated = replace(stated, white=levels.white, black=black)
        return open_images(dataset, "test", options.data, stated)
    return test


@contextmanager
def _drained(
    images: Any, count: int | None, split: str, options: PatchOptions
) -> Iterator[ImageSource]:
    """Images that are yielded one by one, in a file that is there as long as the context."""
    if isinstance(images, (str, Path, ImageSource)) or not isinstance(images, Iterable):
        raise InputError("count is of images that are yielded one by one: leave it out")
    if not isinstance(count, (int, np.integer)) or count < 1:
        raise InputError("images that are yielded one by one have a number: give it as count=1000")
    each = (one_image(image, options.stated) for image in images)
    place = patch_store_path(options.out, "images").with_name(PIXELS)
    beside = scratch_folder() / PIXELS if isinstance(place, RemotePlace) else place
    beside.parent.mkdir(parents=True, exist_ok=True)
    remove_orphans(beside)
    with scratch(beside) as file:
        reader = write_raw(each, int(count), file, "the images")
        yield ImageSource("images", split, reader, options.stated)


def _opened(
    images: Any, split: str, options: PatchOptions
) -> tuple[ImageSource, ImageReference | None]:
    """The images, and by what workers find them; None where they must be sent."""
    if isinstance(images, (str, Path)):
        dataset, stated = options.splits.get(split, (options.dataset, options.stated))
        if split == "test" and stated.heldout is not None:
            source = _open_test(dataset, stated, options)
        else:
            source = open_images(dataset, split, options.data, stated)
        return source, ImageReference(dataset, split, options.data, source.options)
    if isinstance(images, ImageSource):
        return images, None
    return array_source(images, split, options.stated), None
