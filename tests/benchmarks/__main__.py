"""`make bench`: measures this project and its peers in one run and prints tables."""

import os
import platform
import statistics
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np

from pipeline.extraction.extract import extract
from pipeline.rows.source import StoreSource, block_count, read_ahead
from pipeline.runtime.machine import processor
from storage import PatchSpec, PatchStore
from storage.images.source import open_images
from tests.benchmarks import (
    converging,
    extracting,
    floor,
    lance_stream,
    large_patches,
    remote,
    stepping,
    streaming,
)
from tests.benchmarks.peers import optional
from tests.benchmarks.tables import show

MNIST = Path(__file__).parents[2].parent / "shared" / "data" / "mnist"
ROWS, SIZES = 1 << 21, [100, 1000, 10000]  # of most tables
WIDER_ROWS = 1 << 19  # of patches of more than 5×5
LARGE_ROWS = 100_000  # of whole fits on large patches: the table takes ten minutes or so


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


@dataclass
class Bench:
    """What the tables are asked for.

    data: folder of MNIST. folder: for what is made. rows, sizes: None where each table has its own.
    figures: folder that curves are drawn into.
    """

    data: Path
    folder: Path
    rows: int | None
    sizes: list[int] | None
    repeats: int
    figures: Path | None

    @cached_property
    def store(self) -> PatchStore:
        return extracting.store_of("mnist", self.data, PatchSpec(5, 5), self.folder / "5")

    def extract(self) -> None:
        table = extracting.measure(self.data, self.folder, self.repeats)[1]
        show("Extraction of all MNIST 5×5 patches", table)

    def codec(self) -> None:
        show("Codecs", extracting.measure_codecs(self.data, self.folder / "codecs"))

    def step(self, name: str, rows: np.ndarray, sizes: list[int], **options: int) -> None:
        title = f"{name} on {len(rows):,} rows in memory, ns per row"
        table = stepping.measure(rows, sizes, self.repeats, statistics.median, **options)
        show(title, table)

    def full_pass(self) -> None:
        part = first_rows(self.store, self.rows or ROWS)
        self.step("Full-batch pass (assign and sum)", part, self.sizes or SIZES)

    def wide(self) -> None:
        images = open_images("mnist", "train", self.data).images
        np.save(self.folder / "tinted.npy", tinted(images[:4000]))
        for name, dataset, side in (
            ("9×9 patches of MNIST, d = 81", "mnist", 9),
            ("7×7 patches of tinted MNIST, d = 147", str(self.folder / "tinted.npy"), 7),
        ):
            spec = PatchSpec(side, side)
            store = extracting.store_of(dataset, self.data, spec, self.folder / f"{side}")
            part = first_rows(store, self.rows or WIDER_ROWS)
            self.step(f"{name}: full-batch pass", part, self.sizes or SIZES, passes=12)

    def large(self) -> None:
        for name, part, size in large_patches.kinds(self.data):
            sizes = self.sizes or [size]
            self.step(f"{name}: full-batch pass", part[: self.rows], sizes, passes=12)

    def converge(self) -> None:
        spec, out = PatchSpec(5, 5), self.folder / "heldout"
        heldout, *_ = extract(
            "mnist", patch=spec, split="test", out=out, data=self.data, memory="8GiB"
        )
        part, held = first_rows(self.store, self.rows or ROWS), first_rows(heldout, heldout.n_rows)
        for k in self.sizes or [1000]:
            curves = converging.measure(part, k)
            table = converging.compared(f"K = {k}, {len(part):,} rows", curves, held)
            show("Fits from seeding to end, and when ours is as good", table)
            self.draw(
                "soonest.png",
                {f"K = {k:,} on {len(part):,} patches of MNIST, two threads": curves},
            )

    def converge_large(self) -> None:
        for k in self.sizes or [1000]:
            panels = {}
            for side in (8, 16):
                part = large_patches.colour_patches(side)[: self.rows or LARGE_ROWS]
                name = f"{side}×{side}×3 bytes of photographs, d = {part.shape[1]}"
                panels[f"{name}, K = {k:,}"] = curves = converging.measure(
                    part, k, converging.LARGE_WAYS
                )
                table = converging.compared(f"{name}, K = {k}, {len(part):,} rows", curves)
                show("Fits on large patches, and when ours is as good", table)
            self.draw("soonest_large.png", panels)

    def draw(self, name: str, panels: dict[str, list[converging.Curve]]) -> None:
        if self.figures is not None:
            converging.draw(panels).savefig(self.figures / name, dpi=200)

    def floor(self) -> None:
        part = first_rows(self.store, self.rows or floor.ROWS)
        for k in self.sizes or [100, 1000]:
            show("How far from the best that much time finds", floor.measure(part, k))

    def stored(self) -> None:
        title = f"Passes over all {self.store.n_rows:,} rows, from the store"
        show(title, streaming.measure(self.store, self.sizes or SIZES))

    def remote(self) -> None:
        (k,), rows = self.sizes or [100], self.rows or remote.ROWS
        table = remote.measure(self.data, self.folder / "local", k, rows, self.repeats)
        show(f"A sweep of {rows:,} rows into a bucket: seconds (requests)", table)

    def lance(self) -> None:
        if optional("lance") is None:
            return
        spec = PatchSpec(5, 5, sample=str(self.rows) if self.rows else None)
        store = extracting.store_of("mnist", self.data, spec, self.folder / "lance")

        def sse(centroids: np.ndarray) -> float:
            return converging.score(StoreSource(store), centroids) * store.n_rows * store.dim

        table = lance_stream.measure(store, self.data, self.sizes or [1024, 10000], sse)
        show(f"Out of core: {store.n_rows:,} rows of MNIST 5×5; ours with held-out scores", table)


TABLES = {
    "extract": Bench.extract,
    "codec": Bench.codec,
    "pass": Bench.full_pass,
    "wide": Bench.wide,
    "large": Bench.large,
    "converge": Bench.converge,
    "converge-large": Bench.converge_large,
    "floor": Bench.floor,
    "lance": Bench.lance,
    "store": Bench.stored,
    "remote": Bench.remote,
}


@click.command()
@click.option("--rows", type=click.IntRange(1), help="Rows of a table; default: each its own.")
@click.option("--k", help="Sizes of dictionaries, as in 100,1000; default: each table its own.")
@click.option("--repeats", default=3, show_default=True, help="Measurements; medians are shown.")
@click.option("--only", default=",".join(TABLES), show_default=True, help="Tables.")
@click.option(
    "--figures",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder that curves are drawn into.",
)
def main(rows: int | None, k: str | None, repeats: int, only: str, figures: Path | None) -> None:
    """Measure extraction, full-batch passes and whole fits against the peers."""
    data = Path(os.environ.get("MNIST_DIR", MNIST))
    if not (data / "train-images-idx3-ubyte.gz").is_file():
        sys.exit(f"no MNIST files in {data}: set MNIST_DIR")
    wanted = only.split(",")
    if unknown := [name for name in wanted if name not in TABLES]:
        sys.exit(f"no table {', '.join(unknown)}: use {', '.join(TABLES)}")
    sizes = [int(size) for size in k.split(",")] if k else None
    click.echo(machine())
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(data, Path(place), rows, sizes, repeats, figures)
        for name in wanted:
            TABLES[name](bench)


if __name__ == "__main__":
    main()
