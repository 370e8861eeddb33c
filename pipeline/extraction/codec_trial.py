"""Which codec packs the rows of a store best: tried on some of them, before any is written."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from pipeline.extraction.tasks import TiledImages, cut_rows
from storage.patch_spec import Codec, chosen_codec, codecs, trial_plans
from storage.patch_writer import stored_bytes


def try_codecs(
    tiled: TiledImages, order: np.ndarray, offsets: np.ndarray, sums: np.ndarray
) -> Codec:
    """The codec of a store. Sizes decide, never a clock: the same rows get the same everywhere.

    order, offsets, sums: as for `cut_rows`. Memory: less than writing a chunk.
    """
    channels, itemsize = tiled.source.channels, tiled.source.dtype.itemsize
    candidates = codecs(tiled.spec, channels, itemsize)
    if len(candidates) == 1:
        return candidates[0]
    sizes = [0] * len(candidates)
    for plan in trial_plans(cast(Sequence[int], offsets), tiled.spec.dim(channels) * itemsize):
        rows = cut_rows(tiled, plan, order, offsets, sums)
        sizes = [n + stored_bytes(rows, one) for n, one in zip(sizes, candidates, strict=True)]
    return chosen_codec(candidates, sizes)
