"""How the dictionaries were made, and the commands that learn them again.

Files are told by their names, folders as seen from the one that holds OUT: a page that is passed
on says nothing of the machine's folders.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.experiment import Experiment
from analysis.text import count, listed, number, size_range
from pipeline import named_today
from storage import PatchSpec

_PROGRAM = "python -m pipeline sweep"


def provenance(experiment: Experiment) -> list[tuple[str, str]]:
    """What the dictionaries were made of, with and on, as pairs of name and text."""
    facts, last = experiment.facts, experiment.nodes[experiment.sizes[-1]].attrs
    source, spec = facts["source"], experiment.spec
    largest = source["image_shape"][:2]
    sizes = size_range([source.get("smallest_image", largest), largest])
    words = {"heldout": "share held out"}
    told = "".join(f", {words.get(n, n)} {value}" for n, value in _stated(experiment).items())
    heldout = facts["heldout_rows"]
    fit = ", ".join(f"{name} {value}" for name, value in _fit_options(experiment).items())
    return [
        (
            "Images",
            f"{source['name']}, {count(source['images'], 'training image')} of {sizes} pixels,"
            f" {source['dtype']}{told}; SHA-256 of the pixels {source['fingerprint']}",
        ),
        (
            "Patches",
            f"{spec.rows}×{spec.cols} pixels, stride {spec.stride},"
            f"{' border reflected,' if spec.border == 'reflect' else ''} {_rule(spec)};"
            f" {facts['n_rows']:,} rows to learn from,"
            f" {f'{heldout:,} held out' if heldout else 'none held out'}",
        ),
        ("Stores", listed([facts[f"{split}_store"] for split in experiment.splits])),
        ("Fit", fit),
        ("Effort", _effort(experiment)),
        ("Machine", _machine(experiment)),
        ("Versions", listed([f"{name} {text}" for name, text in last["versions"].items()])),
        ("Configuration", f"SHA-256 of all that the numbers depend on begins {facts['digest']}"),
    ]


def _stated(experiment: Experiment) -> dict[str, str]:
    """What was stated of the images, as the command line takes it."""
    stated = {
        n: _option(value) for n, value in experiment.facts["source"].get("stated", {}).items()
    }
    if "mask" in stated:
        stated["mask"] = _seen_from_out(stated["mask"], experiment)
    return {name.replace("_", "-"): value for name, value in stated.items()}


def _option(value: Any) -> str:
    """A value as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _rule(spec: PatchSpec) -> str:
    """Which patches are kept, and how many of them are drawn."""
    if spec.keep == "nonblank":
        told = "every patch that is not blank" if spec.threshold == 0 else "by mean level"
        text = f"threshold {spec.threshold:g} ({told})"
    else:
        text = f"keep {spec.keep}"
    return text if spec.sample is None else f"{text}, a random sample of {spec.sample} of them"


def _effort(experiment: Experiment) -> str:
    """Passes, seconds and memory of all fits together."""
    curve, nodes = experiment.curve, experiment.nodes.values()
    text = (
        f"{int(curve['passes'].sum()):,} passes, {int(curve['rows_seen'].sum()):,} rows seen,"
        f" {number(float(curve['seconds'].sum()), 3)} s of fitting and scoring; largest resident"
        f" size of the process {_mebibytes(max(node.attrs['peak_memory'] for node in nodes))}"
    )
    caps = sorted({node.attrs["memory"] for node in nodes if "memory" in node.attrs})
    return f"{text}, allowed {listed([_mebibytes(cap) for cap in caps])}" if caps else text


def _machine(experiment: Experiment) -> str:
    """Where the dictionaries were learned; several where they were learned in several places."""
    found = []
    for node in experiment.nodes.values():
        machine = node.attrs.get("machine")
        where = f"on {node.attrs['device']}"
        if node.attrs.get("engine"):  # older dictionaries do not say
            where += f" by the {node.attrs['engine']} engine"
        if machine:
            where = (
                f"{machine['processor']}, {count(machine['threads'], 'thread')},"
                f" {_mebibytes(machine['memory'])}, {machine['system']}; {where}"
            )
        if node.attrs.get("scheduler"):
            where += f", spread by {node.attrs['scheduler']}"
        found.append(where)
    return "; ".join(dict.fromkeys(found))


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _fit_options(experiment: Experiment) -> dict[str, Any]:
    """Options of the fit as the command line names them."""
    return {
        name.replace("_", "-"): value
        for name, value in named_today(experiment.facts["fit"]).items()
        if value is not None
    }


def file_elsewhere(experiment: Experiment) -> str | None:
    """Name of the file or folder of images where it lies outside the folder that holds OUT."""
    dataset = experiment.facts["dataset"]
    name = Path(dataset).name
    return name if os.path.isabs(dataset) and _dataset(experiment) == name else None


def _dataset(experiment: Experiment) -> str:
    """A named data set, or a path as seen from the folder that holds OUT; its name if elsewhere."""
    return _seen_from_out(str(experiment.facts["dataset"]), experiment)


def _seen_from_out(dataset: str, experiment: Experiment) -> str:
    """The same of any images."""
    if not os.path.isabs(dataset):  # as paths are stored
        return dataset
    if not isinstance(experiment.folder, Path):  # nobody's folder lies beside a bucket
        return Path(dataset).name
    inside = os.path.relpath(dataset, experiment.folder.resolve().parents[1])
    # Behind ./ it is a file, even if it is called as a data set.
    return Path(dataset).name if inside.startswith(os.pardir) else os.path.join(os.curdir, inside)


def commands(experiment: Experiment) -> list[str]:
    """Commands that learn the same dictionaries, one after the other in the folder that holds OUT.

    There are several where a K was learned after a larger one: a warm start begins with the largest
    of the smaller dictionaries that are there, so the order is part of what made them.
    """
    facts, spec = experiment.facts, experiment.spec
    before = {
        "dataset": _dataset(experiment),
        "out": _out(experiment),
        "patch": f"{spec.rows}x{spec.cols}",
        "stride": spec.stride,
    }
    if spec.keep == "nonblank":
        before["threshold"] = repr(spec.threshold)
    else:
        before["keep"] = spec.keep
    if spec.border != "valid":
        before["border"] = spec.border
    if spec.sample is not None:
        before["sample"] = spec.sample
    if facts.get("test"):
        before["test"] = _seen_from_out(str(facts["test"]), experiment)
    before |= _stated(experiment)
    order = [experiment.sizes]
    if facts["fit"]["init"] == "warm":
        starts = {k: node.attrs["started_from"] for k, node in experiment.nodes.items()}
        order = learning_order(starts)
    found = []
    for sizes, computed in _by_place(experiment, order):
        options = before | {"k": ",".join(map(str, sizes))} | _fit_options(experiment) | computed
        words = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items()]
        found.append(" \\\n    ".join([_PROGRAM, *words]))
    return found


def export_command(experiment: Experiment, k: int) -> str:
    """The command that writes the centroids as a table, in the folder that holds OUT."""
    folder = shlex.quote(f"{_out(experiment)}/{experiment.folder.resolve().name}")
    return f"patchdict export {folder} --k {k} --format parquet"


def _out(experiment: Experiment) -> str:
    """OUT as seen from the folder that holds it, or its URL."""
    out = experiment.folder.resolve().parent
    return out.name if isinstance(out, Path) else str(out)


def learning_order(started_from: Mapping[int, int | None]) -> list[list[int]]:
    """Sweeps, each of ascending K, by which every K starts from the K that it started from.

    started_from: K -> the K of its warm start, None for a start of its own. A K that others started
    from is learned too, if it is no longer there.
    """
    starts = dict(started_from)
    for start in started_from.values():
        if start is not None and start not in starts:
            starts[start] = max((k for k in starts if k < start), default=None)
    sweeps: list[list[int]] = []
    waiting = set(starts)
    while waiting:
        # Next is a K whose start is there, and that no other start passes over.
        ready = [
            k
            for k in sorted(waiting)
            if starts[k] not in waiting and not any((starts[j] or 0) < k < j for j in waiting)
        ]
        larger = [k for k in ready if sweeps and k > sweeps[-1][-1]]
        if not larger:
            sweeps.append([])
        k = (larger or ready or sorted(waiting))[0]
        sweeps[-1].append(k)
        waiting.remove(k)
    return sweeps


def _by_place(
    experiment: Experiment, order: list[list[int]]
) -> list[tuple[list[int], dict[str, str]]]:
    """The sweeps, parted where another device or engine took over, with their options."""
    found: list[tuple[list[int], dict[str, str]]] = []
    for sizes in order:
        for at, k in enumerate(sizes):
            computed = _computed_by(experiment, k)
            if at == 0 or computed != found[-1][1]:
                found.append(([], computed))
            found[-1][0].append(k)
    return found


def _computed_by(experiment: Experiment, k: int) -> dict[str, str]:
    """Options of where a dictionary was learned, as far as its numbers depend on them."""
    node = experiment.nodes.get(k, experiment.nodes[experiment.sizes[0]]).attrs
    found = {"device": str(node["device"]).partition(":")[0]}
    if node.get("engine"):
        found["engine"] = node["engine"]
    # Sums of floats are those of the way they are added up; of integers they are exact.
    if node.get("scheduler") and str(experiment.facts["source"]["dtype"]).startswith("float"):
        found["scheduler"] = "processes:2"
    return found
