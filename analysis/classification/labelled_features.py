"""Features of images of known class, made block after block, none of them kept."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray

from analysis.encoding.encoding import Encoding
from analysis.encoding.pooling import FeatureOptions, Features
from pipeline import Progress
from storage import ImageSource

Block = tuple[np.ndarray, np.ndarray]  # features, (n, p) float32, and classes, (n,) int64


class ChosenImages:
    """Some images of a source, as an array that is read piece by piece.

    source: all of one size. which: (n,) their numbers.
    """

    def __init__(self, source: ImageSource, which: np.ndarray) -> None:
        self.shape, self.dtype = (len(which), *source.image_shape), source.dtype
        self._source, self._which = source, which

    def __getitem__(self, place: Any) -> np.ndarray:
        if isinstance(place, tuple):  # a window of one image
            index, rows, cols = place
            return self._source.reader.read(int(self._which[index]), rows, cols)
        return self._source.read(self._which[place])


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of the images of a split by one dictionary, or by several, side by side.

    Attributes:
        sources: the images, as each dictionary knows them.
        labels: (images,) int64, their classes, from 0 on.
        nodes: the dictionaries.
        options: which features.
        stride: in pixels; None: each dictionary's own.
        threads: that make features at the same time.
        progress: told of images as their features are there.
        shift: pixels by which pools are moved in four more copies of an image; 0: there are none.
    """

    sources: Sequence[ImageSource]
    labels: np.ndarray
    nodes: Sequence[xarray.DataTree]
    options: FeatureOptions
    stride: int | None
    threads: int
    progress: Progress
    shift: int = 0

    def blocks(self, which: np.ndarray) -> Iterator[Block]:
        """Features and classes of some images, in order, and in blocks.

        All copies of an image lie together, that which is as it is first.
        """
        works, n = self._works(which), len(which)
        step = min(work.chunks[0] for work in works)

        def made(part: slice) -> np.ndarray:
            return np.concatenate([work.copies(part) for work in works], axis=2)

        with ThreadPoolExecutor(self.threads, "features") as pool:
            waiting = deque[tuple[slice, Future[np.ndarray]]]()
            for first in range(0, n, step):
                part = slice(first, min(first + step, n))
                waiting.append((part, pool.submit(made, part)))
                if len(waiting) > self.threads:
                    yield self._done(which, *waiting.popleft())
            while waiting:
                yield self._done(which, *waiting.popleft())

    def _works(self, which: np.ndarray) -> list[Features]:
        """What makes the features of some images, by each dictionary."""
        found = []
        for source, node in zip(self.sources, self.nodes, strict=True):
            encoding = Encoding.of(ChosenImages(source, which), node, stride=self.stride)
            found.append(Features.of(encoding, node, self.options, self.shift))
        return found

    def _done(self, which: np.ndarray, part: slice, made: "Future[np.ndarray]") -> Block:
        found, labels = made.result(), self.labels[which[part]]
        self.progress.advance(len(found))
        n, copies, width = found.shape
        return found.reshape(n * copies, width), np.repeat(labels, copies)

    @cached_property
    def _every(self) -> list[Features]:
        return self._works(np.arange(len(self.labels)))

    @property
    def copies(self) -> int:
        """Rows of features of an image."""
        return len(self._every[0].pools.ways)

    @property
    def width(self) -> int:
        """Features of a copy of an image."""
        return sum(work.shape[1] for work in self._every)

    @property
    def block(self) -> int:
        """Values of a block, at most."""
        return min(work.chunks[0] for work in self._every) * self.copies * self.width

    @property
    def engine_bytes(self) -> int:
        """What labelling, or activating, takes, in bytes, at most."""
        return sum(work.engine_bytes for work in self._every)

    @property
    def task_bytes(self) -> int:
        """What a thread takes beside that, in bytes, at most: a block in work, one that waits."""
        images = sum(2 * source.piece_bytes for source in self.sources)
        # Features by each dictionary, which are then put side by side.
        return max(work.task_bytes for work in self._every) + images + 3 * 4 * self.block
