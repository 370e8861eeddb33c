"""What is kept of an unfinished fit: one file of arrays and facts, replaced whole.

Arrays as numpy's savez writes them, without pickle, and a CRC32C of all bytes at the end.
"""

import io
import json
import zipfile
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from storage.atomic import staged, write_whole
from storage.errors import IntegrityError
from storage.places.place import Place
from storage.places.remote import RemotePlace

SCHEMA = 1
_FACTS = "facts"
_BLOCK = 1 << 20  # bytes


def write_checkpoint(path: Place, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    """Put arrays and facts, plain JSON, into the file at `path`, all or nothing."""
    text = json.dumps({"schema": SCHEMA, **facts}).encode()
    members: dict[str, Any] = {_FACTS: np.frombuffer(text, np.uint8), **arrays}
    if isinstance(path, RemotePlace):
        memory = io.BytesIO()
        _write(memory, members)
        write_whole(path, memory.getvalue())
        return
    with staged(path) as staging, staging.open("wb+") as file:
        _write(file, members)


def _write(file: BinaryIO, members: dict[str, Any]) -> None:
    """Arrays, and the checksum of all bytes before it."""
    np.savez(file, **members)
    file.seek(0)
    checksum = google_crc32c.Checksum()
    while block := file.read(_BLOCK):
        checksum.update(block)
    file.write(checksum.digest())


def read_checkpoint(path: Place) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The arrays and facts of a file, or None where there is none.

    Raises: IntegrityError when it is damaged or of another schema version.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if google_crc32c.Checksum(data[:-4]).digest() != data[-4:]:
        raise IntegrityError(f"{path} is damaged: its checksum does not fit")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        facts: dict[str, Any] = json.loads(arrays.pop(_FACTS).tobytes())
        schema = facts.pop("schema")
    except (ValueError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{path} is not the state of a fit ({error})") from error
    if schema != SCHEMA:
        raise IntegrityError(f"{path} has schema version {schema} where {SCHEMA} is expected")
    return arrays, facts
