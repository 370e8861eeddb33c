"""What people state of their images: the layout, the level of white, the value of no data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from storage.errors import InputError
from storage.images.axes import check_layout


@dataclass(frozen=True)
class ImageOptions:
    """What is stated of images; None: found out, or as usual.

    Attributes:
        layout: a letter for each axis, N (images), H (rows), W (columns), C (channels), as in
            NCHW; None: (images, rows, columns[, channels]).
        white: level of white; None: as `PixelRange.found` tells.
        nodata: value of pixels that hold no data; patches with such pixels are left out.
        channels: numbers of the channels that are taken, from 0 on; None: all.
        heldout: share of the images, in (0, 1), that make the test split: some of many, the lower
            rows of a few; 1: all do, it is a test set; None: there is none.
        black: level of black of signed pixels; None: the lowest pixel. Test images are told that of
            the training images.
        mask: path of images of the same sizes, or of one for all: patches are kept where it is set,
            not 0; None: everywhere.
        mask_by: "all" pixels of a kept patch are set, or its "centre".
        labels: path of a CSV file of the images' classes, see `read_labels`; not kept in stores.
        on_error: "refuse" a folder with an image that cannot be read, or "skip" such images.
    """

    layout: str | None = None
    white: float | None = None
    nodata: float | None = None
    channels: tuple[int, ...] | None = None
    heldout: float | None = None
    black: float | None = None
    mask: str | None = None
    mask_by: Literal["all", "centre"] = "all"
    on_error: Literal["refuse", "skip"] = "refuse"
    labels: str | None = None

    def __post_init__(self) -> None:
        if self.layout is not None:
            object.__setattr__(self, "layout", check_layout(self.layout))
        if self.channels is not None:
            channels = tuple(int(channel) for channel in self.channels)
            if not channels or min(channels) < 0 or len(set(channels)) < len(channels):
                raise InputError(f"channels {channels} are none: give numbers from 0 on, each once")
            object.__setattr__(self, "channels", channels)
        if self.heldout is not None and not 0 < self.heldout <= 1:
            raise InputError(f"heldout {self.heldout:g} is no share: use 0 < heldout < 1")

    @classmethod
    def of_source(cls, source: Mapping[str, Any]) -> "ImageOptions":
        """What was stated of a source, as stores describe it."""
        stated = dict(source.get("stated", {}))
        if "nodata" in stated:
            stated["nodata"] = float(stated["nodata"])
        return cls(**stated)

    def stated(self) -> dict[str, Any]:
        """What is stated, for JSON, which has no NaN; without the labels."""
        found = {name: value for name, value in asdict(self).items() if value is not None}
        found.pop("labels", None)
        for name, usual in (("on_error", "refuse"), ("mask_by", "all")):
            if found[name] == usual:
                del found[name]
        if self.nodata is not None and not math.isfinite(self.nodata):
            found["nodata"] = str(self.nodata)
        if self.channels is not None:
            found["channels"] = list(self.channels)
        return found

    def check(self, dtype: np.dtype, what: str) -> None:
        """Raise InputError for a white or a no-data value that pixels of this type cannot have."""
        if self.white is not None and not 0 < self.white < math.inf:
            raise InputError(f"white {self.white:g} is no level of pixels: give one above 0")
        if dtype.kind == "f":
            return
        reach = np.iinfo(dtype)
        for name, value in (("white", self.white), ("nodata", self.nodata)):
            if value is not None and not (value % 1 == 0 and reach.min <= value <= reach.max):
                raise InputError(
                    f"{name} {value:g} is no value of {what}, which holds {dtype.name}: use a whole"
                    f" number from {reach.min} to {reach.max}"
                )


UNSTATED = ImageOptions()


def identity_of(source: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a source, as stores describe it, from others.

    Without the range of its pixels and the one that is shown, which older stores do not have, and
    without what was stated: what of it matters is in the fingerprint.
    """
    apart = "range", "shown", "stated"
    return {name: value for name, value in source.items() if name not in apart}
