"""What is kept of an unfinished fit: one file of arrays and facts, replaced whole.

A zip file of .npy arrays, as numpy's savez writes it: the CRC-32 of each array is checked when it
is read, and nothing is unpickled.
"""

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import IntegrityError

SCHEMA = 1
_FACTS = "facts"
# What a zip file with flipped bits, or the arrays in it, may raise.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
)


def write_checkpoint(path: Path, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    """Put arrays and facts, plain JSON, into the file at `path`, all or nothing."""
    text = json.dumps({"schema": SCHEMA, **facts}).encode()
    staging = path.with_name(path.name + ".partial")
    with staging.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_FACTS: np.frombuffer(text, np.uint8), **arrays})
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)


def read_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The arrays and facts of a file, or None where there is none.

    Raises: IntegrityError when it is damaged or of another schema version.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        facts: dict[str, Any] = json.loads(arrays.pop(_FACTS).tobytes())
        schema = facts.pop("schema")
    except _DAMAGE as error:
        raise IntegrityError(
            f"{path} is damaged ({type(error).__name__}: {error}): delete it, the fit starts anew"
        ) from error
    if schema != SCHEMA:
        raise IntegrityError(
            f"{path} has schema version {schema} where {SCHEMA} is expected: delete it, the fit"
            " starts anew"
        )
    return arrays, facts
