"""`features`: images as a lazy array of pooled features."""

from typing import Any

import xarray

from analysis.encoding.encode import lazily, opened
from analysis.encoding.pooling import FeatureOptions, Features
from analysis.measures.codebook import AnyDictionary, node_of
from storage import PatchSpec


def features(
    images: Any,
    dictionary: AnyDictionary,
    kind: str = "hard",
    pool: str | int = "image",
    *,
    tf_idf: bool = False,
    spec: PatchSpec | dict[str, Any] | str | None = None,
    stride: int | None = None,
    white: float | None = None,
) -> xarray.DataArray:
    """What the patches of an image, or of each image of a stack, say of all centroids.

    Patches are pooled over parts of the image; those that are not kept, as where all is black, add
    nothing, and a pool without any is 0. Of a pool's patches features are

    - hard: the share whose nearest centroid it is, exact (a bag of visual words);
    - triangle: the sum of max(0, mean distance to all centroids − distance), as in Coates, Lee & Ng
      2011, An analysis of single-layer networks in unsupervised feature learning;
    - soft: the mean of exp(−distance² / (2 σ²)), divided by the sum of these over all centroids,
      where σ² is the dictionary's training MSE: the posterior of the mixture of round Gaussians
      that has the centroids as its means, and the variance that is likeliest for the patches.

    Args:
        images: as for `encode`.
        dictionary: as for `reconstruct`.
        kind: "hard", "triangle" or "soft".
        pool: parts of the image, by the position of a patch: "image", "quadrants", or "grid:N" (or
            N) for N × N parts.
        tf_idf: of hard features, multiply by ln(n / n_j), for n training patches of which n_j have
            centroid j (Sivic & Zisserman 2003, Video Google, who count words in all images, too).
        spec: as for `reconstruct`.
        stride: as for `reconstruct`.
        white: as for `reconstruct`.

    Returns:
        (image, feature), or (feature,) for one image: float32, backed by Dask, one task for each
        chunk of images. Coordinates: number of the image; `pool`, in reading order, and `atom`, the
        number of the centroid, of each feature. Triangles are in the centroids' unit. Memory, as it
        is computed: the pixels and patches of a part of a chunk in each task, the features of a
        chunk as float64, and the centroids.

    Raises:
        InputError: as `encode` does; an unknown kind or pool, tf-idf of other than hard features, a
            dictionary that does not say its MSE or counts, where they are needed.
    """
    options, dictionary = FeatureOptions.of(kind, pool, tf_idf), node_of(dictionary)
    encoding, alone = opened(images, dictionary, spec=spec, stride=stride, white=white)
    found = lazily(Features.of(encoding, dictionary, options))
    return found[0].drop_vars("image") if alone else found
