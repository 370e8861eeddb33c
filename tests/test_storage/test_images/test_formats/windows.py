"""What every reader must do: give of any window what the whole image has there."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from storage import ImageOptions, InputError
from storage.images.formats.registry import open_path
from storage.images.options import UNSTATED
from storage.images.reader import ImageReader

QUICK = settings(
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PARTS = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda pair: slice(*sorted(pair)))
WINDOWS = st.lists(st.tuples(st.integers(0, 99), PARTS, PARTS), min_size=1, max_size=6)
ALL = slice(None)


def opened(path: Path | str, options: ImageOptions = UNSTATED) -> ImageReader:
    """What reads the images of a path, none of which is an array yet."""
    found = open_path(str(path), options)
    assert isinstance(found, ImageReader)
    return found


def assert_windows(
    reader: ImageReader, images: list[np.ndarray], windows: list[tuple[int, slice, slice]]
) -> None:
    """The reader says what the images are, and reads windows of them, also in threads."""
    assert isinstance(reader, ImageReader)
    assert [tuple(size) for size in reader.sizes.tolist()] == [image.shape[:2] for image in images]
    assert reader.channels == (images[0].shape[2] if images[0].ndim > 2 else 0)
    assert reader.dtype == images[0].dtype
    assert reader.dtype.isnative
    assert reader.resident_bytes >= 0
    assert all(side >= 1 for side in reader.piece)
    picked = [(index % len(images), rows, cols) for index, rows, cols in windows]
    picked += [(index, ALL, ALL) for index in range(len(images))]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda window: reader.read(*window), picked))
    for (index, rows, cols), pixels in zip(picked, found, strict=True):
        assert pixels.dtype == reader.dtype
        np.testing.assert_array_equal(pixels, images[index][rows, cols])
        pixels[...] = 0  # a copy: what is kept stays as it is


def read_or_refuse(read: Callable[[], Any]) -> Any:
    """What is read, or None where it is refused in one line of ours."""
    try:
        return read()
    except InputError as error:
        told = str(error)
    assert told.isprintable()
    assert len(told) < 600
    return None


def whole(reader: ImageReader) -> list[np.ndarray]:
    """All images of a reader."""
    return [reader.read(index, ALL, ALL) for index in range(len(reader.sizes))]


def bend(content: bytes, faults: list[tuple[str, int, int]]) -> bytes:
    """The content with faults in it."""
    bent = bytearray(content)
    for fault, at, value in faults:
        if fault == "cut":
            del bent[at % (len(bent) + 1) :]
        elif bent:
            bent[at % len(bent)] = value
    return bytes(bent)


FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["cut", "byte", "byte"]), st.integers(0, 1 << 20), st.integers(0, 255)
    ),
    min_size=1,
    max_size=3,
)
