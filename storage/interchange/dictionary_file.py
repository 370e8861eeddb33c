"""A dictionary as one file to hand on, npz or safetensors: its arrays and a card, plain JSON.

The arrays are called as in the dictionary store; the card says what they are and how they were
made. An npz is as numpy's savez writes it, without pickle, with a text more, `card`; in safetensors
the card is its metadata. The card holds a checksum, the CRC32C of all else in it and of all arrays,
so that damage is noticed in both. The same dictionary gives the same bytes.
"""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from storage.dictionary_store import with_axes
from storage.errors import InputError, IntegrityError
from storage.images.formats.npz import read_npz

if TYPE_CHECKING:
    import xarray

KIND, SCHEMA = "patchdict dictionary", 1
_CARD, _CHECKSUM = "card", "checksum"
_OWN = ("format", "schema", "estimator")  # of the card, and no attributes of a dictionary
Arrays = dict[str, np.ndarray]


def npz_file(arrays: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> bytes:
    """Arrays and card, plain JSON, as the content of an .npz file."""
    found, text = _prepared(arrays, card)
    members = found | {_CARD: np.array(text)}
    file = io.BytesIO()
    # as np.savez does, but without the time
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in members.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return file.getvalue()


def safetensors_file(arrays: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> bytes:
    """The same as the content of a .safetensors file.

    Raises: InputError where the library is missing.
    """
    try:
        save: Callable[..., bytes] = import_module("safetensors.numpy").save
    except ImportError as error:
        raise missing_extra("write safetensors") from error
    found, text = _prepared(arrays, card)
    return save(found, {_CARD: text})


def read_dictionary_file(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the card of a file, whichever of the two formats it has.

    Raises: InputError: no such file, another kind of file, or the library is missing;
        IntegrityError: it is damaged, or of another schema version.
    """
    if not path.is_file():
        opened = ", open_dictionaries opens dictionaries.zarr" if path.is_dir() else ""
        raise InputError(f"no file {path}: give one that export or save wrote{opened}")
    with path.open("rb") as file:
        start = file.read(9)
    if start[:2] == b"PK":
        arrays, text = _read_npz(path)
    elif start[8:] == b"{":  # behind the length of the header
        arrays, text = _read_safetensors(path)
    else:
        raise _foreign(path)
    try:
        card = json.loads(text)
        if card["format"] != KIND:
            raise _foreign(path)
        stated = card.pop(_CHECKSUM, None)
    except (KeyError, TypeError, ValueError):
        raise _foreign(path) from None
    if card.get("schema") != SCHEMA:
        raise IntegrityError(
            f"{path} has schema version {card.get('schema')} where {SCHEMA} is expected: read it"
            " with the version of patchdict that wrote it"
        )
    if _checksum(card, arrays) != stated:
        raise IntegrityError(f"{path} is damaged, its checksum does not fit: fetch it again")
    return arrays, card


def load_dictionary(path: str | Path) -> "xarray.Dataset":
    """Open a dictionary that `export` wrote as npz or safetensors, or that an estimator saved.

    Args:
        path: of the file.

    Returns:
        A Dataset as a node of `open_dictionaries`, in memory: centroids (atom, row, col[, channel])
        in pixel levels, count, sse, and the history of the fit over `iteration`; what its images
        and patches are is in the attributes, so that `reconstruct` takes it. Of an estimator's file
        there is no sse, and centroids of rows that were no patches are (atom, feature).

    Raises:
        InputError: no such file, another kind of file, or safetensors is not installed.
        IntegrityError: it is damaged, or of another schema version.
    """
    arrays, card = read_dictionary_file(Path(path))
    try:
        return as_dataset(arrays, {name: card[name] for name in card if name not in _OWN})
    except (KeyError, ValueError) as error:  # arrays that were put together by others
        raise IntegrityError(
            f"{path} holds no dictionary ({error}): fetch it again, or write it anew"
        ) from error


def as_dataset(arrays: Mapping[str, np.ndarray], attributes: dict[str, Any]) -> "xarray.Dataset":
    """The arrays of a dictionary as a node of `open_dictionaries`."""
    import xarray

    from storage.interchange.dictionary_tree import handed_out  # loads xarray

    return handed_out(xarray.Dataset(with_axes(arrays), attrs=attributes))


def missing_extra(task: str) -> InputError:
    """What to say where a library is missing; task: what cannot be done without it."""
    return InputError(f"cannot {task}: install what does it: pip install 'patchdict[export]'")


def _prepared(arrays: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> tuple[Arrays, str]:
    """Arrays and card as both formats hold them."""
    found = {
        name: np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        for name, array in sorted(arrays.items())  # zarr lists them in any order
    }
    whole = {"format": KIND, "schema": SCHEMA, **card}
    return found, json.dumps(whole | {_CHECKSUM: _checksum(whole, found)})


def _checksum(card: Mapping[str, Any], arrays: Arrays) -> str:
    """Eight hexadecimal digits."""
    checksum = google_crc32c.Checksum(json.dumps(card).encode())
    for name, array in sorted(arrays.items()):
        checksum.update(f"{name} {array.dtype.str} {array.shape}".encode())
        checksum.update(array.tobytes())
    return checksum.hexdigest().decode()


def _read_npz(path: Path) -> tuple[Arrays, str]:
    """Arrays and card of a file; each array is checked to be as long as the file has bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise IntegrityError(f"{path} is not a whole .npz file: fetch it again") from error
    if _CARD not in names:
        raise _foreign(path)
    try:
        found = {name: np.array(read_npz(str(path), name)) for name in names}
    except InputError as error:
        raise IntegrityError(str(error)) from error
    return found, str(found.pop(_CARD))


def _read_safetensors(path: Path) -> tuple[Arrays, str]:
    """The same of the other format."""
    try:
        library: Any = import_module("safetensors")
    except ImportError as error:
        raise missing_extra(f"open {path}") from error
    try:
        with library.safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(_CARD, "")
            return {name: file.get_tensor(name) for name in file.keys()}, text  # noqa: SIM118  # no mapping
    except (library.SafetensorError, ValueError, TypeError) as error:
        raise IntegrityError(
            f"{path} is not a whole .safetensors file ({error}): fetch it again"
        ) from error


def _foreign(path: Path) -> InputError:
    return InputError(
        f"{path} is not a dictionary that patchdict wrote: give an .npz or .safetensors file of"
        " export or save"
    )
