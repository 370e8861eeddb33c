"""Reads all of what lies under `OUT`, and names what is damaged."""

from typing import Any

from pipeline.runtime.progress import Progress
from storage.errors import InputError
from storage.layout import is_being_built
from storage.places.place import Place
from storage.verification import chunk_count, verify_store


def verify(path: Place, progress: Progress) -> dict[str, Any]:
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


def _stores(path: Place) -> list[Place]:
    """The stores that a path means: itself, or what lies in it."""
    if not path.is_dir():
        raise InputError(f"no patch store at {path}: run extract first")
    if path.suffix == ".zarr" or (path / "zarr.json").is_file():
        return [path]
    found = sorted(
        store
        for pattern in ("*.zarr", "*/*.zarr", "*/k*-stage*/*.zarr")
        for store in path.glob(pattern)
        if not store.name.startswith(".") and not is_being_built(store)
    )
    if not found:
        raise InputError(f"no stores in {path}: give a store, or the OUT of a sweep")
    return found
