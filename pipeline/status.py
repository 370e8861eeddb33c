"""What lies under `OUT`, and whether it is whole."""

from pathlib import Path
from typing import Any

from pipeline.kmeans.checkpoint import unfinished_fits
from pipeline.runtime.progress import Progress, rounded
from storage.dictionary_store import finished_dictionaries
from storage.errors import InputError, PatchDictError
from storage.layout import find_experiments, patch_stores, unfinished_patch_stores
from storage.patch_store import open_patches
from storage.verification import chunk_count, verify_store


def take_inventory(out: Path) -> dict[str, Any]:
    """Plain JSON: `stores` (store, rows, dim, bytes, codec), `unfinished` and `damaged` paths,
    `experiments` (experiment, dictionaries: k, mse, heldout_mse; unfinished: k, passes, mse,
    seconds).
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
                "unfinished": unfinished_fits(experiment.folder),
            }
        )
    return {
        "stores": stores,
        "unfinished": [str(path) for path in unfinished_patch_stores(out)],
        "damaged": damaged,
        "experiments": experiments,
    }


def in_words(inventory: dict[str, Any]) -> str:
    """What `take_inventory` returned, as lines; empty where there is nothing."""
    lines = [f"{store['rows']:>12,} rows  {store['store']}" for store in inventory["stores"]]
    lines += [f"   unfinished  {path}" for path in inventory["unfinished"]]
    lines += [f"      damaged  {reason}" for reason in inventory["damaged"]]
    for experiment in inventory["experiments"]:
        sizes = ", ".join(str(entry["k"]) for entry in experiment["dictionaries"])
        lines.append(f"{experiment['experiment']}: K = {sizes or 'none yet'}")
        lines += [
            f"   unfinished  K = {fit['k']} after {fit['passes']} passes,"
            f" MSE {rounded(fit['mse'])}: the same sweep goes on"
            for fit in experiment["unfinished"]
        ]
    return "\n".join(lines)


def verify(path: Path, progress: Progress) -> dict[str, Any]:
    """Verify a store, or all stores in an experiment's folder or an `OUT`.

    Returns: plain JSON: ok, chunks (how many were met), bad (chunk, reason; see `Finding`).
    Raises: InputError where there is no store.
    """
    stores = _stores(path)
    progress.start("Verifying", sum(map(chunk_count, stores)), "chunks")
    chunks, bad = 0, []
    for store in stores:
        try:
            for finding in verify_store(store):
                if finding is None or finding.chunk >= 0:
                    chunks += 1
                    progress.advance(1)
                if finding is not None:
                    bad.append({"chunk": finding.chunk, "reason": finding.reason})
        except InputError as error:  # not a store at all, which does not hide the others
            if store == path:
                raise
            bad.append({"chunk": -1, "reason": str(error)})
    progress.finish()
    return {"ok": not bad, "chunks": chunks, "bad": bad}


def _stores(path: Path) -> list[Path]:
    """The stores that a path means: itself, or what lies in it."""
    if not path.is_dir():
        raise InputError(f"no patch store at {path}: run extract first")
    if path.suffix == ".zarr" or (path / "zarr.json").is_file():
        return [path]
    found = sorted(
        store
        for pattern in ("*.zarr", "*/*.zarr")
        for store in path.glob(pattern)
        if not store.name.startswith(".")
    )
    if not found:
        raise InputError(f"no stores in {path}: give a store, or the OUT of a sweep")
    return found
