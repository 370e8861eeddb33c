"""What lies under `OUT`."""

from collections import Counter
from datetime import datetime
from typing import Any

from pipeline.kmeans.checkpoint import unfinished_fits
from pipeline.option_values import named_today
from pipeline.runtime.memory import in_words as size_in_words
from pipeline.runtime.progress import rounded
from storage.atomic import held_by
from storage.codes.code_store import CODES, FEATURES, open_codes
from storage.dictionary_store import finished_dictionaries, root_attributes
from storage.errors import PatchDictError
from storage.layout import (
    DICTIONARIES,
    METADATA,
    ExperimentLayout,
    find_experiments,
    group_name,
    patch_store_locks,
    patch_stores,
    unfinished_patch_stores,
)
from storage.patch_store import open_patches
from storage.places.place import Place, stats_below
from storage.places.remote import Stat

_SCORES = ("mse", "heldout_mse", "pixel_mse", "heldout_pixel_mse")
_NO_OPTIONS = ("rows", "cols", "seed")  # of what a store records of its patches


def take_inventory(out: Place) -> dict[str, Any]:
    """Plain JSON: `stores` (store, rows, dim, bytes, codec), `unfinished` and `damaged` paths,
    `extracting` (store; at_work: who builds it now, in words), `experiments` (experiment; dataset;
    options: of patches and fit; differs: those of them that experiments differ in; bytes: of all in
    its folder; report: its path or null; at_work: who sweeps, encodes or drops there now, in words;
    dictionaries: k, mse, heldout_mse, bytes, made (time of its file); stages: k, stage, mse,
    heldout_mse, of later stages; unfinished: k, passes, mse, seconds, of later stages stage, too;
    codes: codes (path), k, stages, dataset, split, stride, images, bytes; features: the same of
    features).
    """
    stores, damaged = [], []
    for path in patch_stores(out):
        try:
            store = open_patches(path)
        except PatchDictError as error:
            damaged.append(str(error))
            continue
        stores.append(
            {
                "store": str(path),
                "rows": store.n_rows,
                "dim": store.dim,
                "bytes": store.stored_bytes,
                "codec": store.codec,
            }
        )
    experiments = []
    for experiment in find_experiments(out):
        try:
            finished = finished_dictionaries(experiment.dictionaries)
        except PatchDictError as error:
            damaged.append(str(error))
            continue
        files = stats_below(experiment.folder)
        experiments.append(
            {
                "experiment": str(experiment.folder),
                **_facts(experiment, files),
                "at_work": _at_work(experiment.locks()),
                "dictionaries": _dictionaries(finished, files),
                "stages": _stages(experiment, damaged),
                "unfinished": _unfinished(experiment),
                "codes": _codes(experiment, CODES, damaged),
                "features": _codes(experiment, FEATURES, damaged),
            }
        )
    _tell_apart(experiments)
    return {
        "stores": stores,
        "unfinished": [str(path) for path in unfinished_patch_stores(out)],
        "damaged": damaged,
        "extracting": [
            {"store": str(store), "at_work": holder}
            for store, lock in patch_store_locks(out).items()
            for holder in _at_work([lock])
        ],
        "experiments": experiments,
    }


def _at_work(locks: list[Place]) -> list[str]:
    """Who holds some of these locks now, each once."""
    holders = map(held_by, locks)
    return list(dict.fromkeys(holder.rstrip(",") for holder in holders if holder))


def _unfinished(experiment: ExperimentLayout) -> list[dict[str, Any]]:
    """Fits that were broken off, those of later stages after the others."""
    return unfinished_fits(experiment.folder) + [
        {**fit, "stage": number}
        for k, last in experiment.stages().items()
        for number in range(2, last + 1)
        for fit in unfinished_fits(experiment.stage(k, number).folder)
    ]


def _stages(experiment: ExperimentLayout, damaged: list[str]) -> list[dict[str, Any]]:
    """The dictionaries of later stages; what is wrong with others is added to `damaged`."""
    found = []
    for k, last in experiment.stages().items():
        for number in range(2, last + 1):
            try:
                finished = finished_dictionaries(experiment.stage(k, number).dictionaries)
            except PatchDictError as error:
                damaged.append(str(error))
                continue
            found += [
                {"k": k, "stage": number, "mse": one["mse"], "heldout_mse": one["heldout_mse"]}
                for one in finished.values()
            ]
    return found


def _codes(experiment: ExperimentLayout, kind: str, damaged: list[str]) -> list[dict[str, Any]]:
    """The codes, or features, that lie beside the dictionaries, in the same way."""
    found = []
    for path in experiment.code_stores() if kind == CODES else experiment.feature_stores():
        try:
            store = open_codes(path, kind)
        except PatchDictError as error:
            damaged.append(str(error))
            continue
        facts, source = store.decoding, store.attributes["source"]
        found.append(
            {
                kind: str(path),
                "k": facts["k"],
                "stages": 1 + len(facts.get("later", {})),
                "dataset": source["name"],
                "split": source["split"],
                "stride": facts["spec"]["stride"],
                "images": store.array.shape[-3 if kind == CODES else 0],
                "bytes": store.stored_bytes,
            }
        )
    return found


def _facts(experiment: ExperimentLayout, files: dict[str, Stat]) -> dict[str, Any]:
    """What an experiment is of, and what it takes."""
    root = root_attributes(experiment.dictionaries)
    spec, source = root["spec"], root["source"]
    options: dict[str, Any] = {name: root[name] for name in ("dataset", "test") if name in root}
    options |= {"patch": f"{spec['rows']}x{spec['cols']}"}
    options |= {name: value for name, value in spec.items() if name not in _NO_OPTIONS}
    options |= source.get("stated", {}) | named_today(root["fit"])
    return {
        "dataset": source["name"],
        "options": options | {"patches": root["train_store"]},
        "bytes": sum(stat.st_size for stat in files.values()),
        "report": str(experiment.report) if experiment.report.name in files else None,
    }


def _dictionaries(
    finished: dict[int, dict[str, Any]], files: dict[str, Stat]
) -> list[dict[str, Any]]:
    """Scores of the dictionaries, what they take, and when they were written."""
    taken = Counter[str]()
    for name, file in files.items():
        taken["/".join(name.split("/")[:2])] += file.st_size
    found = []
    for k, scores in finished.items():
        folder = f"{DICTIONARIES}/{group_name(k)}"
        if (metadata := files.get(f"{folder}/{METADATA}")) is None:  # it was dropped meanwhile
            continue
        made = datetime.fromtimestamp(metadata.st_mtime).astimezone()
        found.append(
            {
                "k": k,
                **{name: scores[name] for name in _SCORES if name in scores},
                "bytes": taken[folder],
                "made": made.isoformat(" ", "seconds"),
            }
        )
    return found


def _tell_apart(experiments: list[dict[str, Any]]) -> None:
    """Add to each the options in which they differ; the patches' name where nothing else does."""
    every = [experiment["options"] for experiment in experiments]
    names = list(dict.fromkeys(name for options in every for name in options))
    differ = [name for name in names if any(one.get(name) != every[0].get(name) for one in every)]
    shown = [name for name in differ if name != "patches"]
    for experiment, options in zip(experiments, every, strict=True):
        own = {name: options.get(name) for name in shown}
        alike = [other for other in every if all(other.get(n) == own[n] for n in own)]
        experiment["differs"] = own | ({"patches": options["patches"]} if len(alike) > 1 else {})


def in_words(inventory: dict[str, Any]) -> str:
    """What `take_inventory` returned, as lines; empty where there is nothing."""
    lines = [
        f"{store['rows']:>12,} rows  {store['store']}, {size_in_words(store['bytes'])}"
        for store in inventory["stores"]
    ]
    lines += [f"   unfinished  {path}" for path in inventory["unfinished"]]
    lines += [f"   extracting  {one['store']}: {one['at_work']}" for one in inventory["extracting"]]
    lines += [f"      damaged  {reason}" for reason in inventory["damaged"]]
    return "\n".join(lines + [line for one in inventory["experiments"] for line in _lines(one)])


def _lines(experiment: dict[str, Any]) -> list[str]:
    """What is told of one experiment."""
    entries = experiment["dictionaries"]
    sizes = ", ".join(str(entry["k"]) for entry in entries)
    lines = [f"{experiment['experiment']}: K = {sizes or 'none yet'}"]
    lines += [f"      at work  {holder}" for holder in experiment["at_work"]]
    if differs := experiment["differs"]:
        told = (f"{name}={'–' if value is None else value}" for name, value in differs.items())
        lines.append(f"      differs  {', '.join(told)}")
    if entries:
        mse = " to ".join(_range(entries, "mse"))
        heldout = " to ".join(_range(entries, "heldout_mse"))
        lines.append(f"          MSE  {mse}" + f", held-out {heldout}" * bool(heldout))
        days = sorted({entry["made"][:16] for entry in entries})  # to the minute
        lines.append(f"         made  {' to '.join(dict.fromkeys((days[0], days[-1])))}")
    lines.append(
        f"         size  {size_in_words(experiment['bytes'])}, of which dictionaries"
        f" {size_in_words(sum(entry['bytes'] for entry in entries))}"
        + ("" if experiment["report"] else "; no report yet")
    )
    lines += [
        f"   unfinished  {_place(fit)} after {fit['passes']} passes,"
        f" MSE {rounded(fit['mse'])}: the same"
        f" {'encode' if 'stage' in fit else 'sweep'} goes on"
        for fit in experiment["unfinished"]
    ]
    lines += [
        f"        stage  {one['stage']} of K = {one['k']}, MSE {rounded(one['mse'])}"
        for one in experiment["stages"]
    ]
    return lines + [
        f"{kind:>13}  K = {one['k']}"
        + (f" in {one['stages']} stages" if one["stages"] > 1 else "")
        + f", {one['images']:,} images ({one['dataset']}, {one['split']}), stride"
        f" {one['stride']}, {one['bytes']:,} bytes  {one[kind]}"
        for kind in (CODES, FEATURES)
        for one in experiment[kind]
    ]


def _range(entries: list[dict[str, Any]], name: str) -> list[str]:
    """The score of the smallest dictionary and of the largest; in pixels where it is known so."""
    pixels = {"mse": "pixel_mse", "heldout_mse": "heldout_pixel_mse"}[name]
    scores = [entry.get(pixels, entry[name]) for entry in entries]
    return list(
        dict.fromkeys(rounded(score) for score in (scores[0], scores[-1]) if score is not None)
    )


def _place(fit: dict[str, Any]) -> str:
    """Which dictionary an unfinished fit is of."""
    return (f"stage {fit['stage']} of " if "stage" in fit else "") + f"K = {fit['k']}"
