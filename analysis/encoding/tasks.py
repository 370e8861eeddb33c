"""What workers run: one chunk of codes, or of features, made and written."""

from dataclasses import dataclass, replace
from functools import lru_cache

from analysis.encoding.encoding import Encoding
from analysis.encoding.pooling import FeatureOptions, Features
from analysis.encoding.staged_codes import StagedCodes
from analysis.encoding.stages import stored_stages
from analysis.encoding.work import Work, place_of
from analysis.experiment import open_experiment
from storage import ImageOptions, IntegrityError, open_images
from storage.codes.code_writer import write_codes
from storage.places.place import Place


@dataclass(frozen=True)
class CodeTask:
    """What workers are told: small enough to be sent with every chunk.

    Attributes:
        experiment: folder of the dictionary.
        k: its size.
        stride: in pixels.
        most, chunk: see `Encoding`.
        dataset, split, data, options: by which `open_images` finds the images.
        kind: shape and type that they must have.
        fingerprint: of the images, for those who had others of the same path open.
        dictionary: sum of the centroids that they must have.
        features: which; None: codes.
        later: sums of the centroids of the later stages.
        white: of the images, if they have another unit than the dictionary.
    """

    experiment: Place
    k: int
    stride: int
    most: int
    chunk: int
    dataset: str
    split: str
    data: Place
    options: ImageOptions
    kind: tuple[tuple[int, ...], str]
    fingerprint: str
    dictionary: str
    features: FeatureOptions | None = None
    later: tuple[str, ...] = ()
    white: float | None = None


def write_chunk(task: Work | CodeTask, staging: Place, index: tuple[int, ...]) -> None:
    """Make one chunk of the store that is built at `staging`, and write it."""
    work = _opened(task) if isinstance(task, CodeTask) else task
    place = place_of(work, index)
    write_codes(staging, place, work.made(place), work.name)


@lru_cache(maxsize=1)
def _opened(task: CodeTask) -> Work:
    """Images and dictionary, opened once in each worker."""
    images = open_images(task.dataset, task.split, task.data, task.options)
    experiment = open_experiment(task.experiment, task.data)
    node = experiment.dictionary(task.k)
    found = Encoding.of(images, node, stride=task.stride, white=task.white)
    found = replace(found, most=task.most, chunk=task.chunk)
    kind = found.images.shape, found.images.dtype.name
    later = stored_stages(experiment, task.k)[1:] if task.later else []
    staged = StagedCodes.of(found, later[: len(task.later)])
    if (kind, *staged.sums) != (task.kind, task.dictionary, *task.later):
        raise IntegrityError(
            f"{images.where}, or the dictionary in {task.experiment}, changed while images were"
            " encoded, or is not the same on all workers: run it again"
        )
    if task.features is not None:
        return Features.of(found, node, task.features)
    return staged if task.later else found
