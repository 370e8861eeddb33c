"""`make bench`: measures this project and its peers in one run and prints tables."""

import os
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import click

from tests.benchmarks import extracting, stepping

MNIST = Path(__file__).parents[2].parent / "shared" / "data" / "mnist"


def machine() -> str:
    """Processor, cores, memory and versions, in a line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].partition(":")[2].strip() if names else model
    packages = " ".join(
        f"{name} {version(name)}" for name in ("torch", "scikit-learn", "faiss-cpu")
    )
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}"


def show(title: str, rows: list[dict[str, str]]) -> None:
    """Print a table as Markdown."""
    columns = list(rows[0])
    click.echo(f"\n### {title}\n")
    click.echo("| " + " | ".join(columns) + " |")
    click.echo("|" + "---|" * len(columns))
    for row in rows:
        click.echo("| " + " | ".join(row[column] for column in columns) + " |")


@click.command()
@click.option("--rows", default=1 << 20, show_default=True, help="Rows of a full-batch step.")
@click.option("--k", default="100,1000,10000", show_default=True)
@click.option("--repeats", default=3, show_default=True, help="Measurements; medians are shown.")
def main(rows: int, k: str, repeats: int) -> None:
    """Measure extraction and full-batch steps on MNIST 5×5 against the peers."""
    data = Path(os.environ.get("MNIST_DIR", MNIST))
    if not (data / "train-images-idx3-ubyte.gz").is_file():
        sys.exit(f"no MNIST files in {data}: set MNIST_DIR")
    click.echo(machine())
    with tempfile.TemporaryDirectory() as folder:
        store, table = extracting.measure(data, Path(folder), repeats)
        show("Extraction of all MNIST 5×5 patches", table)
        sizes = [int(size) for size in k.split(",")]
        show(
            f"Full-batch step (assign and sum) on {rows:,} rows in memory, ns per row",
            stepping.measure(store, rows, sizes, repeats, statistics.median),
        )


if __name__ == "__main__":
    main()
