"""A run whose measures are made up, for what is written and drawn of them."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import xarray

from analysis.experiment import Experiment
from analysis.html_report.measured import Measured
from analysis.html_report.samples import Composition, TypicalImage
from analysis.measures.elbow import Bend, ElbowInterval
from analysis.measures.kinds import KINDS, OF_COLOUR
from analysis.measures.pixel_scale import PixelScale
from storage import PatchSpec
from storage.images.pixel_range import PixelRange

GREY_LEVELS = PixelScale(PixelRange(0, 255.0), "grey levels")
EVEN = {kind: 0.0 if kind in OF_COLOUR else 1 / 8 for kind in KINDS}
EDGES = dict.fromkeys(KINDS, 0.0) | {"flat": 0.1, "edge": 0.625, "stroke": 0.2, "other": 0.075}
CHORD = ElbowInterval("chord", 200, 200, 300, 0.9, 204, {300: 200, 400: 200, 600: 200})
LINES = ElbowInterval("lines", 300, 200, 400, 0.5, 150, {600: 300})
MADE = Composition(16, 12, 9, 6.25, 500.0, 600.0, 1500.0)


def image_scores(
    classes: dict[int, tuple[int, float]], peak: float = 255.0, labels: bool = True
) -> xarray.Dataset:
    """Scores of images; classes: class -> how many, and the MSE of each."""
    mse = np.concatenate([np.full(images, error) for images, error in classes.values()])
    label = np.concatenate([np.full(images, name) for name, (images, _) in classes.items()])
    with np.errstate(divide="ignore"):
        psnr = 10 * np.log10(peak**2 / mse)
    columns = {"mse": mse, "psnr": psnr, "covered_mse": 2 * mse, "covered": np.full(len(mse), 0.5)}
    columns["pixels"] = np.full(len(mse), 64)
    found = xarray.Dataset(
        {name: ("image", values) for name, values in columns.items()}, attrs={"peak": peak}
    )
    return found.assign_coords(label=("image", label)) if labels else found


CLASSIFIED: dict[str, Any] = {
    "features": "triangle",
    "pool": "quadrants",
    "tf_idf": False,
    "stride": 1,
    "shift": 0,
    "beside": [],
    "train_images": 4000,
    "test_images": 1000,
    "classes": ["cat", "dog"],
    "by_k": [
        {"k": 100, "accuracy": 0.9, "low": 0.88, "high": 0.917, "test_errors": 100},
        {"k": 600, "accuracy": 0.91, "low": 0.89, "high": 0.926, "test_errors": 90},
    ],
    "left_out": [],
    "best": 600,
    "confusion": [[470, 30], [60, 440]],
    "learning": [{"labels_per_class": 10, "images": 20, "accuracies": [0.6, 0.7], "mean": 0.65}],
}
for _row in CLASSIFIED["by_k"]:
    _row |= {"width": 4 * _row["k"], "penalty": 0.1, "validation_accuracy": 0.92}
    _row |= {"classifier": "squared hinge"}

NUMBERS: dict[str, Any] = {
    "sizes": [100, 200, 300, 400, 500, 600],
    "mse": [3000.0, 2000.0, 1800.0, 1700.0, 1650.0, 1600.0],
    "heldout": [3100.0, 2200.0, 1950.0, 1800.0, 1700.0, 1625.0],
    "live": [100, 200, 300, 400, 500, 600],
    "perplexity": [90.0, 170.0, 220.0, 250.0, 290.0, 320.0],
    "half": [30, 55, 60, 75, 88, 101],
    "largest_share": [0.05, 0.03, 0.03, 0.025, 0.023, 0.021],
    "gini": [0.1, 0.2, 0.25, 0.3, 0.32, 0.34],
    "entropy": [6.5, 7.4, 7.8, 8.0, 8.2, 8.32],
    "converged": [True] * 6,
    "variance": 10000.0,
    "rows": 100_000,
    "pixels": GREY_LEVELS,
    "pictures": None,  # the scale on which they are shown, where it is another
    "patch_shape": (5, 5),
    "class_names": None,
    "kinds": (EVEN, EDGES),  # of the smallest and of the largest dictionary
    "kinds_by_use": (EDGES, EVEN),
    "within": [0.5, 0.6, 0.7, 0.8, 0.905, 0.95],  # a tenth of the largest level
    "elbow": 200,
    "exponent": -0.5,
    "chord": CHORD,
    "lines": LINES,
    "bend": Bend(300, -0.4, -0.15),
    "made": MADE,
    "classification": CLASSIFIED,
    "scores": image_scores({0: (300, 70.0), 1: (450, 20.0), 8: (750, 90.0)}),
}
COLUMNS = ("live", "perplexity", "half", "largest_share", "gini", "entropy", "converged")


def made_up(**changed: Any) -> Measured:
    """Measures with NUMBERS, some of them changed; heldout None: nothing is held out.

    Of lists that are too long for `sizes` the first are taken.
    """
    given = NUMBERS | changed
    sizes, pixels = given["sizes"], given["pixels"]
    n = len(sizes)
    splits = ["train"] if given["heldout"] is None else ["train", "test"]
    experiment = SimpleNamespace(
        name="digits",
        sizes=sizes,
        pixels=pixels,
        pictures=given["pictures"] or pixels,
        patch_shape=given["patch_shape"],
        splits=splits,
        spec=PatchSpec(*given["patch_shape"][:2]),
        class_names=given["class_names"],
        codebook=lambda _: (None, None),
        facts={"n_rows": given["rows"], "dim": int(np.prod(given["patch_shape"]))},
    )
    found = Measured(cast(Experiment, experiment))
    shares = {
        of: [given[name][0]] * (n - 1) + [given[name][1]]
        for of, name in (("of_centroids", "kinds"), ("of_patches", "kinds_by_use"))
    }
    made: dict[str, Any] = {
        **{name: given[name] for name in ("variance", "elbow", "exponent", "bend")},
        "curve": _curve(given, n),
        "elbows": {"chord": given["chord"], "lines": given["lines"]},
        "coverage": {
            k: xarray.Dataset(
                {"within": ("epsilon", [0.0, share, 1.0]), "rows": 4321},
                {"epsilon": experiment.pictures.span * np.array([0.0, 0.1, 1.0])},
            )
            for k, share in zip(sizes, given["within"], strict=False)
        },
        "held_out_parts": "images",
        "classes_known": True,
        "classification": given["classification"],
        "_scored": (dict.fromkeys((found.sizes[-1], given["elbow"]), given["scores"]), None),
        "kind_shares": xarray.Dataset(
            {
                of: (("k", "kind"), [list(share.values()) for share in several])
                for of, several in shares.items()
            },
            {"k": sizes, "kind": list(KINDS)},
        ),
        "_rebuilt": ([TypicalImage("test", 7, np.zeros((8, 8)), {})], given["made"]),
    }
    found.__dict__.update(made)  # where cached properties keep what was asked for
    return found


def _curve(given: dict[str, Any], n: int) -> xarray.Dataset:
    """The scores as `mse_curve` would have them."""
    mse = np.array(given["mse"][:n], float)
    heldout = np.full(n, np.nan) if given["heldout"] is None else np.array(given["heldout"][:n])
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            "mse": mse,
            "heldout_mse": heldout,
            "rmse": np.sqrt(mse),
            "psnr": 10 * np.log10(given["pixels"].span ** 2 / mse),
            "explained": 1 - mse / given["variance"],
            "rate": np.log2(given["sizes"]),
        }
    columns |= {name: np.array(given[name][:n]) for name in COLUMNS}
    return xarray.Dataset(
        {name: ("k", values) for name, values in columns.items()}, {"k": given["sizes"]}
    )
