"""Features of images of known class, made block after block, none of them kept."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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
    """Features of the images of a split by one dictionary.

    Attributes:
        source: the images.
        labels: (images,) int64, their classes, from 0 on.
        node: the dictionary.
        options: which features.
        stride: in pixels; None: the dictionary's own.
        threads: that make features at the same time.
        progress: told of images as their features are there.
    """

    source: ImageSource
    labels: np.ndarray
    node: xarray.DataTree
    options: FeatureOptions
    stride: int | None
    threads: int
    progress: Progress

    def blocks(self, which: np.ndarray) -> Iterator[Block]:
        """Features and classes of some images, in order, and in blocks."""
        work = self.work(which)
        step, everything = work.chunks[0], slice(0, work.shape[1])
        with ThreadPoolExecutor(self.threads, "features") as pool:
            waiting = deque[tuple[slice, Future[np.ndarray]]]()
            for first in range(0, len(which), step):
                part = slice(first, min(first + step, len(which)))
                waiting.append((part, pool.submit(work.made, (part, everything))))
                if len(waiting) > self.threads:
                    yield self._done(which, *waiting.popleft())
            while waiting:
                yield self._done(which, *waiting.popleft())

    def work(self, which: np.ndarray) -> Features:
        """What makes the features of some images."""
        images = ChosenImages(self.source, which)
        encoding = Encoding.of(images, self.node, stride=self.stride)
        return Features.of(encoding, self.node, self.options)

    def _done(self, which: np.ndarray, part: slice, made: "Future[np.ndarray]") -> Block:
        rows = made.result()
        self.progress.advance(len(rows))
        return rows, self.labels[which[part]]
