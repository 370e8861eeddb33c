"""Whole and as it was written, or an error: checksums of chunks, the seal of metadata.

Chunks end with their CRC32C, which `storage.strict_store` checks where bytes are read. Here is no
zarr, which takes its time to load: what the attributes alone tell is known at once.

Metadata are sealed by two attributes of a group, written last:
    checksums  {array: {place: 8 hex digits}}, the CRC32C of each chunk, place as in 3/0: a chunk
               of another store, or of another place, is no more whole than a damaged one
    seal       SHA-256 (hex) of the bytes of the group's zarr.json, with the seal's own digits as
               zeros, and of those of the arrays that `checksums` names
"""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import google_crc32c

from storage.atomic import write_whole
from storage.errors import DamageError, InputError, IntegrityError
from storage.layout import BEGUN, METADATA
from storage.places.place import Place, each, files_below
from storage.places.remote import RemotePlace

CHECKSUM_BYTES = 4  # at the end of every chunk
SEALING = ("checksums", "seal")  # the attributes that are the seal's own
_BLANK = b"0" * 64
_SEAL = re.compile(rb'"seal": "([0-9a-f]{64})"')

Checksums = dict[str, dict[str, str]]


def describe(root: Place, key: str) -> str:
    """Words for a chunk, as in: chunk 3 of runs/patches/NAME.zarr/patches."""
    array, _, place = f"/{key}".rpartition("/c/")
    return f"chunk {re.sub('(/0)+$', '', place)} of {root}{array}"


def checksum_of(data: Any) -> str:
    """The CRC32C at the end of a chunk's bytes, 8 hex digits."""
    return bytes(data[-CHECKSUM_BYTES:]).hex()


def chunk_fault(data: Any, stated: str | None) -> str | None:
    """What is wrong with the bytes of a chunk, None for nothing.

    data: bytes or (n,) uint8; None: there are none. stated: the checksum that the store states for
    it, "" if it states none; None: any.
    """
    if data is None:
        return "is missing"
    if len(data) <= CHECKSUM_BYTES:
        return f"is truncated to {len(data)} bytes" if len(data) else "is empty"
    found = google_crc32c.value(data[:-CHECKSUM_BYTES]).to_bytes(CHECKSUM_BYTES, "little")
    if found != bytes(data[-CHECKSUM_BYTES:]):
        return "fails its checksum"
    if stated is not None and stated != checksum_of(data):
        return "is not the one that was written there"
    return None


def file_fault(path: Place, stated: str | None) -> str | None:
    """`chunk_fault` of a chunk's file."""
    try:
        return chunk_fault(path.read_bytes(), stated)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return chunk_fault(None, stated)
    except OSError as error:
        return unreadable(error)


def file_faults(folder: Place, stated: dict[str, str]) -> Iterator[tuple[str, str | None]]:
    """`chunk_fault` of files in a folder: key and what is wrong, in order.

    stated: the checksum of each by its key.
    """
    faults = each(lambda key: file_fault(folder / key, stated[key]), stated, folder)
    return zip(stated, faults, strict=True)


def unreadable(error: OSError) -> str:
    """What is wrong with a file that the system cannot read, as from a bad sector."""
    return f"cannot be read ({error.strerror})"


def sealed_attributes(
    folder: Place, remedy: str, *, kind: str | None = None, schema: int | None = None
) -> dict[str, Any]:
    """Attributes of a group that is of this kind and schema, complete, and as it was sealed.

    kind, schema: what the group says of itself; None: nothing (a group inside another).
    remedy: what the errors tell to do.
    Raises: FileNotFoundError; InputError for another kind; IntegrityError for another schema, and
        for an unfinished group; DamageError where the metadata is not what was written.
    """
    try:
        raw = (folder / METADATA).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise DamageError(f"{folder / METADATA} {unreadable(error)}: {remedy}") from error
    try:
        attributes = json.loads(raw)["attributes"]
        found = attributes.get("kind"), attributes.get("schema"), attributes.get("complete")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamageError(f"{folder} has damaged metadata ({error}): {remedy}") from error
    broken = not _holds(folder, raw, attributes)
    # A seal that does not hold says that the words below are not those that were written.
    damaged = DamageError if broken and b'"seal"' in raw else None
    if found[0] != kind:
        raise (damaged or InputError)(
            f"{folder} is not a store of {kind} (its kind is {found[0]!r}): give one that is"
        )
    if found[1] != schema:
        raise (damaged or IntegrityError)(
            f"{folder} has schema version {found[1]} where {schema} is expected: {remedy}"
        )
    if found[2] is not True:
        raise (damaged or IntegrityError)(f"{folder} is unfinished: {remedy}")
    if broken:
        raise DamageError(f"{folder} has damaged metadata (its seal is broken): {remedy}")
    return dict(attributes)


def stated_checksums(attributes: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Checksum of each chunk by its key, from the attributes of a sealed group."""
    return {
        f"{prefix}{array}/c/{place}": checksum
        for array, places in attributes["checksums"].items()
        for place, checksum in places.items()
    }


def read_checksums(folder: Place) -> Checksums:
    """Checksums of all chunks that lie in a group.

    Raises: DamageError for one that fails its own.
    """
    arrays = sorted(metadata.parent.name for metadata in folder.glob(f"*/{METADATA}"))
    found: Checksums = {array: {} for array in arrays}
    files = {
        f"{array}/c/{place}": file
        for array in arrays
        for place, file in files_below(folder / array / "c")
    }
    for key, data in zip(
        files, each(lambda file: file.read_bytes(), files.values(), folder), strict=True
    ):
        if fault := chunk_fault(data, None):
            raise DamageError(f"{describe(folder, key)} {fault}: run the same command again")
        array, _, place = key.partition("/c/")
        found[array][place] = checksum_of(data)
    return found


def foreign_files(folder: Place, checksums: Checksums) -> list[Place]:
    """Files in a group that are none of its own."""
    own = {METADATA, *(f"{array}/{METADATA}" for array in checksums)}
    own |= stated_checksums({"checksums": checksums}).keys()
    return [file for key, file in files_below(folder) if key not in own]


def write_seal(folder: Place, checksums: Checksums) -> None:
    """Mark a group complete and seal it, in one step that a power cut does not undo.

    Behind a URL it is put only if there is none yet, or if it is still the one that was read:
    where another process sealed the group meanwhile, that stays.
    """
    place, begun = folder / METADATA, folder / BEGUN
    tag = None
    if isinstance(place, RemotePlace) and isinstance(begun, RemotePlace):
        try:
            found, tag = place.read_tagged()
        except FileNotFoundError:
            found = begun.read_bytes()
    else:
        found = place.read_bytes()
    document = json.loads(found)
    document["attributes"] |= {"complete": True, "checksums": checksums, "seal": _BLANK.decode()}
    raw = json.dumps(document, indent=2).encode()
    raw = _with_seal(raw, _digest(folder, raw, checksums).encode())
    if not isinstance(place, RemotePlace):
        write_whole(place, raw)
    elif tag is None:
        place.put_new(raw)
    else:
        place.put_over(raw, tag)


def _holds(folder: Place, raw: bytes, attributes: dict[str, Any]) -> bool:
    stated = _SEAL.findall(raw)
    try:
        digest = _digest(folder, _with_seal(raw, _BLANK), attributes["checksums"])
        return stated == [digest.encode()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _with_seal(raw: bytes, digits: bytes) -> bytes:
    return _SEAL.sub(b'"seal": "' + digits + b'"', raw)


def _digest(folder: Place, raw: bytes, checksums: Checksums) -> str:
    """SHA-256 of the metadata; raw: the group's own, with a blank seal."""
    digest = hashlib.sha256()
    arrays = [folder / name / METADATA for name in sorted(checksums)]
    for part in (raw, *each(lambda file: file.read_bytes(), arrays, folder)):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
