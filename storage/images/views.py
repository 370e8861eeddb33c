"""Parts of a source: some of its channels, some of its images, some rows of each."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from storage.errors import InputError
from storage.images.reader import ImageReader


class _View:
    """What another reader reads, as it is; an `ImageReader`."""

    def __init__(self, base: ImageReader) -> None:
        self._base = base
        self.where, self.dtype, self.channels = base.where, base.dtype, base.channels
        self.sizes, self.piece = base.sizes, base.piece
        self.resident_bytes = base.resident_bytes
        self.channels_read: int = getattr(base, "channels_read", base.channels)
        self.classes: tuple[str, ...] = getattr(base, "classes", ())

    @property
    def labels(self) -> np.ndarray | None:
        """Class of each image, where its reader knows them."""
        found: np.ndarray | None = getattr(self._base, "labels", None)
        return found

    def read(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        """The window of one image."""
        return self._base.read(index, rows, cols)

    def name(self, index: int) -> str:
        """Names one image."""
        return self._base.name(index)


class LabelledImages(_View):
    """Images whose classes are stated."""

    def __init__(self, base: ImageReader, classes: tuple[str, ...], labels: np.ndarray) -> None:
        super().__init__(base)
        self.classes, self._labels = classes, labels

    @property
    def labels(self) -> np.ndarray | None:
        """Class of each image."""
        return self._labels


class SelectedChannels(_View):
    """Some channels of each image; of one alone there is no axis."""

    def __init__(self, base: ImageReader, channels: Sequence[int]) -> None:
        super().__init__(base)
        if not base.channels or max(channels) >= base.channels:
            raise InputError(
                f"{base.where} has no channel {max(channels)}: use numbers from 0 to"
                f" {base.channels - 1}"
                if base.channels
                else f"{base.where} holds grey images, without channels to choose from"
            )
        self._chosen: Any = list(channels) if len(channels) > 1 else channels[0]
        self.channels = len(channels) if len(channels) > 1 else 0

    def read(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        """The window of one image."""
        return np.ascontiguousarray(self._base.read(index, rows, cols)[..., self._chosen])


class SelectedImages(_View):
    """Some images; chosen: their numbers, ascending."""

    def __init__(self, base: ImageReader, chosen: np.ndarray) -> None:
        super().__init__(base)
        self._chosen, self.sizes = chosen, base.sizes[chosen]

    @property
    def labels(self) -> np.ndarray | None:
        """Class of each of them, where its reader knows them."""
        found = super().labels
        return None if found is None else found[self._chosen]

    def read(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        """The window of one image."""
        return self._base.read(int(self._chosen[index]), rows, cols)

    def name(self, index: int) -> str:
        """Names one image."""
        return self._base.name(int(self._chosen[index]))


class SelectedRows(_View):
    """The rows of each image from `starts` on, up to `stops`; both (n,) int64."""

    def __init__(self, base: ImageReader, starts: np.ndarray, stops: np.ndarray) -> None:
        super().__init__(base)
        self._starts = starts
        self.sizes = np.stack([stops - starts, base.sizes[:, 1]], axis=1)

    def read(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        """The window of one image."""
        start = int(self._starts[index])
        return self._base.read(index, slice(rows.start + start, rows.stop + start), cols)


def held_out(base: ImageReader, share: float, test: bool) -> ImageReader:
    """The images that are held out, or the others.

    Of many images some, drawn with a fixed seed; where the share is less than one image, the lower
    rows of each, which no patch of the others reaches into.

    Args:
        base: all images.
        share: of the images, or of each one's rows, that is held out, in (0, 1).
        test: those that are, or the others.

    Raises:
        InputError: images with too few rows.
    """
    if share == 1:
        return base
    n = len(base.sizes)
    count = round(n * share)
    if 1 <= count < n:
        order = np.random.default_rng(0).permutation(n)
        return SelectedImages(base, np.sort(order[:count] if test else order[count:]))
    rows = base.sizes[:, 0]
    cut = rows - np.maximum(1, np.rint(rows * share)).astype(np.int64)
    if cut.min() < 1:
        raise InputError(f"{base.where} has too few rows to hold out {share:g} of them")
    return SelectedRows(base, cut, rows) if test else SelectedRows(base, np.zeros_like(cut), cut)
