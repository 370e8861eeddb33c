"""Files behind URLs as files of this machine: fetched once, checked, and kept."""

import atexit
import hashlib
import json
import logging
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from storage.atomic import remove_orphans, staged, write_whole
from storage.errors import InputError, RemoteError
from storage.mapped_files import scratch_folder
from storage.places.place import Place
from storage.places.remote import RemotePlace

FOLDER = "urls"  # in DATA
_log = logging.getLogger(__name__)  # warnings reach standard error by themselves


def fetched(url: str, data: Place | None) -> Path:
    """The file of a URL in the folder of downloads, if that is a folder; else in `own_folder`.

    It is fetched where it is not there, where its SHA-256 is no longer that of what was fetched, or
    where the server has another one since, by size, tag or date; one that cannot be asked is told.

    Raises: InputError: there is nothing at the URL. RemoteError: it cannot be fetched.
    """
    place, folder = RemotePlace.of(url), data if isinstance(data, Path) else own_folder()
    target = folder / FOLDER / hashlib.sha256(url.encode()).hexdigest()[:10] / place.name
    note = target.with_name(f"{target.name}.json")
    known = _known(target, note)
    try:
        there = _facts(place.head())
    except FileNotFoundError:
        raise InputError(f"there is no {url}: check the address") from None
    except RemoteError as error:
        if known is None:
            raise
        _log.warning("%s; %s, which was fetched before, is used", error, target)
        return target
    if known is None or {name: known[name] for name in there} != there:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_orphans(target)
        with staged(target) as staging:
            there = _facts(place.fetch(staging))
            facts = {"url": url, "sha256": _sum(staging), **there}
        write_whole(note, json.dumps(facts).encode())
    return target


@lru_cache(maxsize=1)
def own_folder() -> Path:
    """A folder of this process for what is kept behind a URL, which goes with it."""
    folder = tempfile.mkdtemp(prefix="patchdict-", dir=scratch_folder())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _facts(meta: dict[str, Any]) -> dict[str, Any]:
    """What tells one version of an object from another: plain JSON."""
    changed = meta["last_modified"].isoformat()
    return {"size": meta["size"], "e_tag": meta["e_tag"], "last_modified": changed}


def _known(target: Path, note: Path) -> dict[str, Any] | None:
    """What was noted of a file as it was fetched; None where it is no longer that one."""
    try:
        facts: dict[str, Any] = json.loads(note.read_bytes())
        return facts if facts["sha256"] == _sum(target) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
