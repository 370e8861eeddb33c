"""A fitted estimator as a file, without pickle, and as scikit-learn's own."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from pipeline.estimator_parameters import OF_ROWS
from pipeline.preprocessing import Preprocessing
from pipeline.rows.cluster_sums import ClusterSums
from storage.atomic import check_file_name, remove_orphans, write_whole
from storage.dictionary_store import HISTORY, is_preprocessed
from storage.errors import InputError, IntegrityError
from storage.interchange.dictionary_file import (
    Arrays,
    as_dataset,
    npz_file,
    read_dictionary_file,
)
from storage.patch_store import PatchStore
from storage.plain_attributes import parsed

if TYPE_CHECKING:
    import xarray

_ESTIMATOR = "estimator"  # of the card: what is no array
_FACTS = ("n_iter_", "inertia_", "stopped_")


class SavedModel(BaseEstimator):
    """Part of an estimator with `cluster_centers_`: how it is saved, loaded, and handed on."""

    cluster_centers_: np.ndarray
    counts_: np.ndarray
    n_features_in_: int
    history_: dict[str, list[Any]]
    feature_names_in_: np.ndarray
    _taken: ClusterSums
    _row_type: np.dtype
    preprocessing_: Preprocessing | None
    _of_rows: dict[str, Any]
    _patches: dict[str, Any]  # what is known of rows that are patches: shape; spec, source

    def _note_patches(self, rows: Any) -> None:
        """Keep what the rows say of themselves as patches."""
        shape = getattr(rows, "patch_shape", None) or tuple(getattr(rows, "shape", ()))[1:]
        self._patches = {"shape": shape} if len(shape) in (2, 3) else {}
        if isinstance(rows, PatchStore):
            told = {"spec": rows.spec.to_dict(), "source": rows.source}
        else:
            attributes = getattr(rows, "attrs", None)  # of xarray, as stores hand it out
            told = parsed(attributes) if isinstance(attributes, dict) else {}
        self._patches |= {
            name: told[name] for name in ("spec", "source") if isinstance(told.get(name), dict)
        }

    def _dictionary(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and attributes of the dictionary that was learned."""
        check_is_fitted(self, "cluster_centers_")
        centroids, facts, made = self.cluster_centers_, vars(self), self.preprocessing_
        patches, history = facts.get("_patches", {}), facts.get("history_", {})
        arrays = {
            "centroids": centroids.reshape(len(centroids), *patches.get("shape", (-1,))),
            "count": self.counts_,
            **{name: np.array(values) for name, values in history.items()},
            **({} if made is None else made.arrays),
        }
        pixels = max(self._taken.n_rows, 1) * centroids.shape[1]
        attributes = {
            "k": len(centroids),
            **({} if made is None else made.attributes),
            "mse": facts["inertia_"] / pixels,
            **{name: patches[name] for name in ("spec", "source") if name in patches},
        }
        return arrays, attributes

    def to_xarray(self) -> "xarray.Dataset":
        """The dictionary that was learned, as a node of `open_dictionaries`, in memory.

        All functions that take a dictionary take the fitted estimator, too, by this.

        Returns:
            A Dataset of centroids, (atom, row, col[, channel]) where the rows are known to be
            patches, else (atom, feature); count, sse (squared pixel levels, of the rows that each
            centroid was learned from), and the history of the fit.

        Raises: NotFittedError.
        """
        arrays, attributes = self._dictionary()
        sse = self._taken.sse(self.cluster_centers_)
        return as_dataset(arrays | {"sse": sse}, attributes)

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator as an .npz file, without pickle, in place of what is there.

        What `fit` and `partial_fit` learned is in it, so that both go on from `load` as from here;
        not the observer `progress`, and no `labels_`. `load_dictionary` opens it, too.

        Raises: NotFittedError; InputError where random_state is a generator, or where
            no file can be.
        """
        arrays, card = self._dictionary()
        path, parameters, facts = Path(path), self.get_params(deep=False), vars(self)
        check_file_name(path)
        taken = self._taken
        arrays |= {"sums": taken.sums, "squares": taken.squares, "origin": taken.origin}
        parameters["progress"] = None
        if not isinstance(parameters["init"], str):
            arrays["init"] = np.asarray(parameters.pop("init"))
        if not isinstance(parameters["random_state"], (int, np.integer, type(None))):
            raise InputError(
                "random_state is a generator, which only pickle could save: set an integer, as in"
                " set_params(random_state=0)"
            )
        card[_ESTIMATOR] = {
            "parameters": {name: _plain(value) for name, value in parameters.items()},
            "row_type": self._row_type.name,
            "feature_names": _plain(facts.get("feature_names_in_")),
            **{name: _plain(facts[name]) for name in _FACTS if name in facts},
        }
        remove_orphans(path)
        write_whole(path, npz_file(arrays, card))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The estimator in a file that `save` wrote, or that `export` wrote as npz or safetensors.

        The latter predicts with the parameters' defaults, but for what is done to rows; for
        `partial_fit` each of its centroids is taken for the mean of its rows.

        Raises: InputError: no such file, or another kind; IntegrityError: it is damaged, or of
            another version.
        """
        arrays, card = read_dictionary_file(Path(path))
        try:
            return cls._restored(arrays, card)
        except KeyError as error:
            raise InputError(
                f"{path} holds no {error} of an estimator: give a file that save wrote, or export"
                " of a sweep's dictionary"
            ) from error

    @classmethod
    def _restored(cls, arrays: Arrays, card: dict[str, Any]) -> Self:
        """The estimator of a file's content."""
        told = card.get(_ESTIMATOR) or _told_by_card(card)
        parameters = told["parameters"] | ({"init": arrays["init"]} if "init" in arrays else {})
        if unknown := sorted(set(parameters) - set(cls().get_params())):
            raise IntegrityError(
                f"this version of patchdict knows no parameter {unknown[0]!r}: use that which wrote"
                " the file"
            )
        model = cls(**parameters)
        shape = arrays["centroids"].shape[1:]
        model._patches = {"shape": shape} if len(shape) > 1 else {}
        model._patches |= {name: card[name] for name in ("spec", "source") if name in card}
        centroids = arrays["centroids"].reshape(card["k"], -1)
        model.preprocessing_ = Preprocessing.stored(card, arrays)
        model._of_rows = {name: getattr(model, name) for name in OF_ROWS}
        model.cluster_centers_, model.counts_ = centroids, arrays["count"]
        model.n_features_in_, model._row_type = centroids.shape[1], np.dtype(told["row_type"])
        if "sums" in arrays:
            sums, squares, origin = (arrays[name] for name in ("sums", "squares", "origin"))
            model._taken = ClusterSums(sums, model.counts_, squares, origin)
        else:
            model._taken = _sums_of_means(centroids, model.counts_, arrays["sse"], model._row_type)
        for name in _FACTS:
            if name in told:
                setattr(model, name, told[name])
        if history := {name: arrays[name].tolist() for name in HISTORY if name in arrays}:
            model.history_ = history
        if told.get("feature_names"):
            model.feature_names_in_ = np.array(told["feature_names"], object)
        return model

    def to_sklearn(self) -> KMeans:
        """The same as a fitted KMeans of scikit-learn, see `sklearn_kmeans`.

        Raises: NotFittedError; InputError where rows are preprocessed.
        """
        check_is_fitted(self, "cluster_centers_")
        if self.preprocessing_ is not None:
            raise InputError(
                "KMeans has no room for how rows are preprocessed before they meet these centroids:"
                " save the estimator (save)"
            )
        found = vars(self)
        model = sklearn_kmeans(
            self.cluster_centers_,
            self._row_type,
            inertia=found["inertia_"],
            n_iter=found["n_iter_"],
        )
        if "_labels" in found:
            model.labels_ = np.array(found["_labels"])
        if "feature_names_in_" in found:
            model.feature_names_in_ = found["feature_names_in_"]
        return model


def _told_by_card(card: dict[str, Any]) -> dict[str, Any]:
    """What `save` tells of an estimator, of a dictionary that was learned by a sweep."""
    made, asked = is_preprocessed(card), card.get("fit", {})
    of_rows = {name: asked[name] for name in OF_ROWS if name in asked}  # streams go by them, too
    return {
        "parameters": {"n_clusters": card["k"]} | of_rows,
        "row_type": "float32" if made else card.get("source", {}).get("dtype", "float64"),
        "inertia_": card["sse"],
        "n_iter_": card["passes"],
        "stopped_": card["stopped"],
    }


def _sums_of_means(
    centroids: np.ndarray, counts: np.ndarray, sse: np.ndarray, rows: np.dtype
) -> ClusterSums:
    """Sums of rows of which each centroid is the mean, with these counts and errors."""
    taken = ClusterSums.zeros(centroids, rows)
    wide = centroids.astype(np.float64) - taken.origin  # 0 for float rows
    sums = counts[:, np.newaxis] * wide
    if taken.sums.dtype == np.int64:
        sums = np.rint(sums)
    # those that leave these errors
    squares = sse + ((2 * sums - counts[:, np.newaxis] * wide) * wide).sum(axis=1)
    if taken.squares.dtype == np.int64:
        squares = np.rint(squares)
    return ClusterSums(
        sums.astype(taken.sums.dtype), counts, squares.astype(taken.squares.dtype), taken.origin
    )


def _plain(value: Any) -> Any:
    """As JSON has it: of numpy's numbers and arrays Python's."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


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
