"""What lies under `OUT`."""

from typing import Any

from pipeline.kmeans.checkpoint import unfinished_fits
from pipeline.runtime.progress import rounded
from storage.codes.code_store import open_codes
from storage.dictionary_store import finished_dictionaries
from storage.errors import PatchDictError
from storage.layout import (
    ExperimentLayout,
    find_experiments,
    patch_stores,
    unfinished_patch_stores,
)
from storage.patch_store import open_patches
from storage.places.place import Place


def take_inventory(out: Place) -> dict[str, Any]:
    """Plain JSON: `stores` (store, rows, dim, bytes, codec), `unfinished` and `damaged` paths,
    `experiments` (experiment, dictionaries: k, mse, heldout_mse; stages: k, stage, mse,
    heldout_mse, of later stages; unfinished: k, passes, mse, seconds, of later stages stage, too;
    codes: codes (path), k, stages, dataset, split, stride, images, bytes).
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
        entries = [
            {"k": k, "mse": scores["mse"], "heldout_mse": scores["heldout_mse"]}
            for k, scores in finished.items()
        ]
        experiments.append(
            {
                "experiment": str(experiment.folder),
                "dictionaries": entries,
                "stages": _stages(experiment, damaged),
                "unfinished": _unfinished(experiment),
                "codes": _codes(experiment, damaged),
            }
        )
    return {
        "stores": stores,
        "unfinished": [str(path) for path in unfinished_patch_stores(out)],
        "damaged": damaged,
        "experiments": experiments,
    }


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


def _codes(experiment: ExperimentLayout, damaged: list[str]) -> list[dict[str, Any]]:
    """The codes that lie beside the dictionaries, in the same way."""
    found = []
    for path in experiment.code_stores():
        try:
            store = open_codes(path)
        except PatchDictError as error:
            damaged.append(str(error))
            continue
        facts, source = store.decoding, store.attributes["source"]
        found.append(
            {
                "codes": str(path),
                "k": facts["k"],
                "stages": 1 + len(facts.get("later", {})),
                "dataset": source["name"],
                "split": source["split"],
                "stride": facts["spec"]["stride"],
                "images": store.array.shape[-3],
                "bytes": store.stored_bytes,
            }
        )
    return found


def in_words(inventory: dict[str, Any]) -> str:
    """What `take_inventory` returned, as lines; empty where there is nothing."""
    lines = [f"{store['rows']:>12,} rows  {store['store']}" for store in inventory["stores"]]
    lines += [f"   unfinished  {path}" for path in inventory["unfinished"]]
    lines += [f"      damaged  {reason}" for reason in inventory["damaged"]]
    for experiment in inventory["experiments"]:
        sizes = ", ".join(str(entry["k"]) for entry in experiment["dictionaries"])
        lines.append(f"{experiment['experiment']}: K = {sizes or 'none yet'}")
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
        lines += [
            f"        codes  K = {one['k']}"
            + (f" in {one['stages']} stages" if one["stages"] > 1 else "")
            + f", {one['images']:,} images ({one['dataset']}, {one['split']}), stride"
            f" {one['stride']}, {one['bytes']:,} bytes  {one['codes']}"
            for one in experiment["codes"]
        ]
    return "\n".join(lines)


def _place(fit: dict[str, Any]) -> str:
    """Which dictionary an unfinished fit is of."""
    return (f"stage {fit['stage']} of " if "stage" in fit else "") + f"K = {fit['k']}"
