"""What lies under `OUT`, and whether it is whole."""

from pathlib import Path
from typing import Any

from pipeline.journal import unfinished_fits
from pipeline.progress import Progress
from storage.dictionary_store import finished_dictionaries
from storage.errors import PatchDictError
from storage.patch_store import open_patches, verify_chunks


def take_inventory(out: Path) -> dict[str, Any]:
    """Plain JSON: `stores` (store, rows, dim, bytes), `unfinished` and `damaged` paths,
    `experiments` (experiment, dictionaries: k, mse, heldout_mse; unfinished: k, passes, mse,
    seconds).
    """
    stores, damaged = [], []
    for path in sorted(out.glob("patches/*.zarr")):
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
            }
        )
    experiments = []
    for path in sorted(out.glob("*/dictionaries.zarr")):
        try:
            finished = finished_dictionaries(path)
        except PatchDictError as error:
            damaged.append(str(error))
            continue
        entries = [
            {"k": k, "mse": scores["mse"], "heldout_mse": scores["heldout_mse"]}
            for k, scores in finished.items()
        ]
        experiments.append(
            {
                "experiment": str(path.parent),
                "dictionaries": entries,
                "unfinished": unfinished_fits(path.parent),
            }
        )
    unfinished = [str(path) for path in sorted(out.glob("patches/*.zarr.partial"))]
    return {
        "stores": stores,
        "unfinished": unfinished,
        "damaged": damaged,
        "experiments": experiments,
    }


def verify_store(path: Path, progress: Progress) -> dict[str, Any]:
    """Plain JSON: ok, chunks, bad (chunk, reason)."""
    store = open_patches(path)
    progress.start("Verifying", store.n_chunks, "chunks")
    bad = []
    for finding in verify_chunks(store):
        progress.advance(1)
        if finding is not None:
            bad.append({"chunk": finding.index, "reason": finding.reason})
    progress.finish()
    return {"ok": not bad, "chunks": store.n_chunks, "bad": bad}
