"""Dictionaries are dropped, with what was made of them."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from storage.atomic import exclusive, remove, scratch
from storage.errors import InputError
from storage.layout import (
    DICTIONARIES,
    METADATA,
    PARTIAL,
    ExperimentLayout,
    find_experiments,
    group_folders,
    lock_place,
    state_size,
    the_only,
)
from storage.places.place import Place, bytes_below, local
from storage.places.remote import RemotePlace


def drop(folder: Place, sizes: Sequence[int], *, dry_run: bool = False) -> dict[str, Any]:
    """Remove dictionaries, their later stages, codes, features and states of unfinished fits.

    Other dictionaries stay as they are, also those that started from one that goes; so do files
    that were exported. What is broken off leaves whole stores, and the same call goes on. A sweep
    that is asked for a dropped K learns it anew.

    Args:
        folder: of one experiment, or a sweep's OUT that holds one alone.
        sizes: K of the dictionaries, or of unfinished fits.
        dry_run: tell what would go, and remove nothing.

    Returns:
        Plain JSON: experiment, dropped and left (K), removed (paths), bytes (that they took),
        report (path of the report that tells of them still, or null).

    Raises:
        InputError: no experiment, or no such K.
        BusyError: a sweep, or what encodes by these dictionaries, is at work there.
    """
    layout = _experiment(folder)
    with ExitStack() as stack:
        if not dry_run:
            what = f"dropping dictionaries of {layout.folder}"
            stack.enter_context(exclusive(layout.lock, what))
        groups = group_folders(layout.dictionaries)
        left = [path for path in layout.half_written() if path.name[1:].isdecimal()]
        there = {int(path.name[1:]): path for path in left} | groups
        known = {*there, *map(state_size, layout.fit_states())}
        if unknown := sorted(set(sizes) - known):
            raise InputError(
                f"no dictionary of K = {_listed(unknown)} in {layout.folder}: there are"
                f" {_listed(sorted(known)) or 'none'}"
            )
        made = [path for k in sizes for path in layout.made_of(k)]
        # the dictionaries last: as long as one is there, the same call finds what is left
        going = [*made, *(there[k] for k in sizes if k in there)]
        taken = sum(map(_bytes, going))
        if not dry_run:
            for lock in _locks(made):
                stack.enter_context(exclusive(lock, f"dropping {lock.parent}"))
            for leftover in set(layout.half_written()) - set(going):
                remove(leftover)
            _remove(layout, going)
    return {
        "experiment": str(layout.folder),
        "dropped": sorted(sizes),
        "left": sorted(set(groups) - set(sizes)),
        "removed": [str(path) for path in going],
        "bytes": taken,
        "report": str(layout.report) if layout.report.is_file() else None,
    }


def _experiment(folder: Place) -> ExperimentLayout:
    """The one experiment in a folder."""
    found = find_experiments(folder)
    if not found:
        raise InputError(f"no dictionaries in {folder}: give the folder of an experiment")
    return ExperimentLayout(the_only(folder, [one.folder for one in found]))


def _locks(made: Sequence[Place]) -> list[Place]:
    """Locks of who writes later stages, codes and features."""
    stages = [ExperimentLayout(path).lock for path in made if (path / DICTIONARIES).is_dir()]
    stores = [
        path.with_name(path.name.removesuffix(PARTIAL)) for path in made if ".zarr" in path.name
    ]
    return stages + [lock_place(store) for store in dict.fromkeys(stores)]


def _remove(layout: ExperimentLayout, going: Sequence[Place]) -> None:
    """Take each out of its store in one step, then remove all of them.

    What is left of that after a kill, the next sweep or drop removes, see `half_written`.
    """
    if isinstance(layout.folder, RemotePlace):
        for path in going:  # without its metadata a group is none
            (path / METADATA).unlink(missing_ok=True)
            remove(path)
        return
    with scratch(local(layout.dictionaries, "drop")) as away:
        away.mkdir()
        for path in going:
            os.replace(local(path, "drop"), away / path.name)


def _bytes(path: Place) -> int:
    return path.stat().st_size if path.is_file() else bytes_below(path)


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))


def in_words(result: dict[str, Any], *, dry_run: bool = False) -> str:
    """What `drop` returned, as lines."""
    from pipeline.runtime.memory import in_words as size_in_words  # loads psutil

    left, stay = _listed(result["left"]), "stay" if len(result["left"]) > 1 else "stays"
    lines = [
        f"{'would drop' if dry_run else 'dropped'} K = {_listed(result['dropped'])}"
        f" ({size_in_words(result['bytes'])}); {f'K = {left} {stay}' if left else 'none is left'}"
    ]
    lines += [f"  {path}" for path in result["removed"]]
    if result["report"]:
        lines.append(
            f"{result['report']} tells of them still"
            + (f": patchdict report {result['experiment']}" if left else "")
        )
    return "\n".join(lines)
