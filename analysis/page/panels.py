"""Which interactive charts stand in for which figure of the paper."""

from collections.abc import Mapping

import numpy as np
from bokeh.plotting import figure

from analysis.experiment import Experiment
from analysis.findings import Findings
from analysis.page.charts import Axis, by_size, mark_elbow, over_k


def panels(experiment: Experiment, found: Findings) -> Mapping[str, list[figure]]:
    """Charts by the name of the figure that shows the same; none where there is one K alone."""
    if len(found.sizes) == 1:
        return {}
    return {"use": _use(experiment), "mse": _mse(experiment, found)}


def _mse(experiment: Experiment, found: Findings) -> list[figure]:
    curve = experiment.curve
    lines = {"training": curve["mse"].values}
    if found.heldout is not None:
        lines["held out"] = curve["heldout_mse"].values
    largest = max(float(np.max(values)) for values in lines.values())
    label, k = f"MSE ({found.pixels.unit})", curve["k"].values
    linear = over_k("mse", lines, k, Axis(label, span=(0, 1.05 * largest)), "0,0.[00]", log=False)
    logarithmic = over_k("mse-log", lines, k, Axis(label, log=True), "0,0.[00]")
    if found.elbow is not None:
        mark_elbow(linear, found.elbow, None)
    return [linear, logarithmic]


def _use(experiment: Experiment) -> list[figure]:
    curve = experiment.curve
    k = curve["k"].values
    shares = {
        "live": 100 * curve["live"].values / k,
        "perplexity": 100 * curve["perplexity"].values / k,
        "hold half of the patches": 100 * curve["half"].values / k,
    }
    ranked = {}
    for size, node in experiment.nodes.items():
        counts = np.sort(node["count"].values)[::-1]
        counts = counts[counts > 0]
        # Evenly spread on a logarithmic axis.
        ranks = np.unique(np.geomspace(1, len(counts), 150).round().astype(int))
        ranked[size] = (ranks, 100 * counts[ranks - 1] / counts.sum())
    return [
        over_k("use", shares, k, Axis("per cent of K", span=(0, 104)), "0.0"),
        by_size(
            "ranked-use",
            ranked,
            Axis("centroids by use, rank", log=True),
            Axis("share of patches (%)", log=True),
            "0.0000",
        ),
    ]
