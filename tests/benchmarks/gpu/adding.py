"""The time of the sums: all rows anew, or those whose labels changed."""

from functools import partial

import torch

from tests.benchmarks.gpu.ceilings import Ceilings
from tests.benchmarks.gpu.rates import BYTES, MOST_BYTES, changed
from tests.benchmarks.gpu.sampling import centroids_of, on_device, sample_rows
from tests.benchmarks.gpu.settings import Settings, make_kernels
from tests.benchmarks.gpu.timing import median_seconds
from tests.benchmarks.tables import number

SHARES = (0.0, 0.05, 1.0)  # of the labels that change


def measure(settings: Settings, ceilings: Ceilings) -> list[dict[str, str]]:
    """A row for each d and K: milliseconds, and bytes of rows a second for all of them."""
    table = []
    device = settings.torch_device
    for dim in settings.dims:
        found, _ = sample_rows(settings, dim, min(settings.rows, MOST_BYTES // dim))
        rows = on_device(found, device)
        for k in settings.k:
            centroids = centroids_of(settings, rows, k, BYTES)
            kernels = make_kernels(settings, dim, BYTES)
            kernels.load(centroids)
            labels = torch.empty(len(rows), dtype=torch.int32, device=device)
            kernels.label(rows, labels)
            totals = kernels.totals(k)
            add = partial(totals.add, rows, labels)
            whole = median_seconds(device, add, settings.repeats)
            row = {"d": str(dim), "K": str(k), "rows": f"{len(rows):,}"}
            row["add, ms"] = number(whole * 1e3)
            row["of the copy's rate"] = f"{number(100 * rows.numel() / whole / ceilings.copy)} %"
            for share in SHARES:
                move = partial(totals.move, rows, changed(labels, k, share), labels)
                seconds = median_seconds(device, move, settings.repeats)
                row[f"move {share:.0%}, ms"] = number(seconds * 1e3)
            table.append(row)
    return table
