"""All that a sweep stored, but for what differs from one run to the next."""

from typing import Any

from storage import open_dictionaries
from storage.places.place import Place, place_of

MEASURED = {"seconds", "peak_memory", "memory", "scheduler"}  # of the run, not of its result


def numbers_of(experiment: str | Place) -> dict[str, Any]:
    """Arrays, as bytes, and attributes by dictionary."""
    tree = open_dictionaries(place_of(experiment) / "dictionaries.zarr")
    found: dict[str, Any] = {}
    for name, node in tree.children.items():
        arrays = {a: v.to_numpy().tobytes() for a, v in node.data_vars.items()}
        found[name] = {**arrays, **node.attrs}
        for measured in MEASURED:
            found[name].pop(measured, None)
    return found
