"""Writes .npy files, whole or wrong, for tests."""

import io
import struct

import numpy as np

HEADER = "{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


def npy_bytes(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    """The array as a .npy file of that format version holds it."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


def npy_parts(
    header: str | bytes, data: bytes, version: tuple[int, int] = (1, 0), length: int | None = None
) -> bytes:
    """A file of any header, which claims to be `length` bytes long."""
    text = header.encode() if isinstance(header, str) else header
    size = struct.pack("<H" if version[0] == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + size + text + data
