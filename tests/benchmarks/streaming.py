"""Whole passes from the store: decoding, assigning, summing."""

import numpy as np

from pipeline.rows.source import StoreSource
from storage import PatchStore
from tests.benchmarks.stepping import EARLY, lloyd

LATE = 20


def measure(store: PatchStore, sizes: list[int]) -> list[dict[str, str]]:
    """A row for each K: seconds of a pass over all rows."""
    table = []
    for k in sizes:
        run = lloyd(StoreSource(store), k, LATE)
        table.append(
            {
                "K": str(k),
                "first pass, no guesses": f"{run.seconds[0]:.1f} s",
                "early pass": f"{run.early():.1f} s",
                "late pass": f"{run.late():.2f} s",
                f"all {LATE} passes": f"{np.sum(run.seconds):.0f} s",
                "rows skipped, early / late": (
                    f"{1 - run.effort[EARLY].scanned / store.n_rows:.0%}"
                    f" / {1 - run.effort[-1].scanned / store.n_rows:.0%}"
                ),
            }
        )
    return table
