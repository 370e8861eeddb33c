"""`make bench`: measures this project and its peers in one run and prints tables."""

import os
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np

from pipeline.extraction.extract import extract
from pipeline.rows.source import StoreSource, block_count, read_ahead
from pipeline.runtime.machine import processor
from storage import PatchSpec, PatchStore
from storage.images.source import open_images
from tests.benchmarks import converging, extracting, large_patches, stepping, streaming
from tests.benchmarks.tables import show

MNIST = Path(__file__).parents[2].parent / "shared" / "data" / "mnist"
WIDER_ROWS = 1 << 19  # of patches of more than 5×5


def machine() -> str:
    """Processor, cores, memory and versions, in a line."""
    packages = " ".join(
        f"{name} {version(name)}" for name in ("torch", "numba", "scikit-learn", "faiss-cpu")
    )
    return f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}"


def first_rows(store: PatchStore, n: int) -> np.ndarray:
    """The first n rows of a store, in memory."""
    source = StoreSource(store)
    blocks = range(min(-(-n // source.block_rows), block_count(source)))
    return np.concatenate(list(read_ahead(source, blocks)))[:n]


def tinted(images: np.ndarray) -> np.ndarray:
    """Images in random colours on random colours, (n, rows, columns, 3) uint8."""
    rng = np.random.default_rng(0)
    ink, paper = rng.random((2, len(images), 1, 1, 3), dtype=np.float32)
    share = images[..., None] / np.float32(255)
    return (255 * (share * ink + (1 - share) * paper)).astype(np.uint8)


@click.command()
@click.option("--rows", default=1 << 21, show_default=True, help="Rows of a full-batch pass.")
@click.option("--k", default="100,1000,10000", show_default=True)
@click.option("--repeats", default=3, show_default=True, help="Measurements; medians are shown.")
@click.option(
    "--only", default="extract,pass,wide,large,store,converge", show_default=True, help="Tables."
)
@click.option("--soonest-k", default=1000, show_default=True, help="K of the curves.")
@click.option("--figure", type=click.Path(path_type=Path), help="Where the curves are drawn.")
def main(rows: int, k: str, repeats: int, only: str, soonest_k: int, figure: Path | None) -> None:
    """Measure extraction, full-batch passes and whole fits on MNIST 5×5 against the peers."""
    data = Path(os.environ.get("MNIST_DIR", MNIST))
    if not (data / "train-images-idx3-ubyte.gz").is_file():
        sys.exit(f"no MNIST files in {data}: set MNIST_DIR")
    sizes, median = [int(size) for size in k.split(",")], statistics.median
    click.echo(machine())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        store, table = extracting.measure(data, folder, repeats if "extract" in only else 1)
        show("Extraction of all MNIST 5×5 patches", table)
        if "pass" in only:
            title = f"Full-batch pass (assign and sum) on {rows:,} rows in memory, ns per row"
            show(title, stepping.measure(first_rows(store, rows), sizes, repeats, median))
        if "wide" in only:
            images = open_images("mnist", "train", data).images
            np.save(folder / "tinted.npy", tinted(images[:4000]))
            for name, dataset, side in (
                ("9×9 patches of MNIST, d = 81", "mnist", 9),
                ("7×7 patches of tinted MNIST, d = 147", str(folder / "tinted.npy"), 7),
            ):
                spec = PatchSpec(side, side)
                wide = extracting.store_of(dataset, data, spec, folder / f"{side}")
                part = first_rows(wide, WIDER_ROWS)
                title = f"{name}: full-batch pass on {len(part):,} rows in memory, ns per row"
                show(title, stepping.measure(part, sizes, repeats, median, passes=12))
        if "large" in only:
            for name, part, size in large_patches.kinds(data):
                title = f"{name}: full-batch pass on {len(part):,} rows in memory, ns per row"
                show(title, stepping.measure(part, [size], repeats, median, passes=12))
        if "converge" in only:
            heldout, *_ = extract(
                "mnist", patch=PatchSpec(5, 5), split="test", out=folder / "heldout", data=data
            )
            part, held = first_rows(store, rows), first_rows(heldout, heldout.n_rows)
            table = converging.measure(part, held, soonest_k, figure)
            show("Fits from seeding to end, and when ours is as good", table)
        if "store" in only:
            title = f"Passes over all {store.n_rows:,} rows, from the store"
            show(title, streaming.measure(store, sizes))


if __name__ == "__main__":
    main()
