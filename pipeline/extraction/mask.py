"""Masks: images that say where patches of others are kept."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from storage.errors import InputError
from storage.images.source import ImageSource, open_mask
from storage.images.views import held_out
from storage.patch_spec import PatchSpec
from storage.tiles import Tile, read_extended


@dataclass(frozen=True)
class Mask:
    """Where patches of a source are kept: where the mask is set, not 0 in any channel.

    source: of as many images as the other, or of one for all. by: as in `ImageOptions`.
    """

    source: ImageSource
    by: str

    @classmethod
    def of(cls, images: ImageSource) -> "Mask | None":
        """The mask that a source's options name.

        Raises: InputError: it is not there, or of other sizes than the images.
        """
        options = images.options
        if options.mask is None:
            return None
        found = open_mask(options.mask)
        if options.heldout not in (None, 1) and not _fits(found, images):
            part = held_out(found.reader, options.heldout, images.split == "test")
            found = ImageSource(found.name, "train", part)
        if options.heldout == 1 and len(found) > 1:
            raise InputError(
                f"the mask {options.mask} has {len(found)} images, those of the training images:"
                " give one for all, or hold some out (heldout) in place of test"
            )
        if options.on_error == "skip" and len(found) > 1:
            raise InputError(
                f"the mask {options.mask} has many images, and some of {images.where} may be"
                " skipped: give one for all, or refuse unreadable images (on_error)"
            )
        if not _fits(found, images):
            sizes = {tuple(size) for size in found.sizes[:9].tolist()}
            raise InputError(
                f"the mask {options.mask} has {len(found)} images of {sorted(sizes)[0]} … where"
                f" {len(images)} of the sizes of {images.where} are expected, or one for all"
            )
        return cls(found, options.mask_by)

    def window(self, tile: Tile, spec: PatchSpec) -> np.ndarray:
        """Which pixels of a tile are set, (rows, columns) bool; extended as the image is."""
        place = 0 if len(self.source) == 1 else tile.image
        read = partial(self.source.reader.read, place)
        pixels = read_extended(read, self.source.sizes[place], tile.rows, tile.cols, spec)
        return np.asarray((pixels != 0).any(axis=2) if pixels.ndim == 3 else pixels != 0)


def _fits(mask: ImageSource, images: ImageSource) -> bool:
    return len(mask) in (1, len(images)) and bool((mask.sizes == images.sizes).all())
