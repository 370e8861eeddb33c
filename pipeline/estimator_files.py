"""A fitted estimator handed on: as scikit-learn's own."""

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning


def sklearn_kmeans(
    centroids: np.ndarray, rows: np.dtype, *, inertia: float | None = None, n_iter: int = 1
) -> KMeans:
    """A fitted KMeans of scikit-learn with these centroids.

    Its `predict` takes rows of the type of its centroids alone, and integers where these are
    float64. So they are float32 for rows of float32, else float64. It has no `labels_`.

    Args:
        centroids: (k, d).
        rows: type of those that it was learned from.
        inertia: SSE of these rows; None: not known, and then no attribute either.
        n_iter: steps of its fit.
    """
    centres = np.array(centroids, np.float32 if rows == np.float32 else np.float64, order="C")
    model = KMeans(len(centres), init=centres, n_init=1, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of equal centroids
        model.fit(centres)  # sets what is none of its public attributes
    usual = KMeans().get_params()
    model.set_params(**{name: usual[name] for name in ("init", "n_init", "max_iter")})
    del model.labels_, model.inertia_
    model.cluster_centers_, model.n_iter_ = centres, n_iter
    if inertia is not None:
        model.inertia_ = inertia
    return model
