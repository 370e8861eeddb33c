"""Rows that are mapped from a file do not enter memory for good."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import StreamingKMeans
from pipeline.rows.source import ArraySource, block_count, read_ahead


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the resident pages")
@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "<f4"])
def test_pages_of_a_mapped_file_are_let_go(layout: str, dtype: str, tmp_path: Path) -> None:
    shape = (1 << 20, 24)
    rows = np.lib.format.open_memmap(
        tmp_path / "rows.npy", "w+", dtype, shape, fortran_order=layout == "F"
    )
    rows[:] = np.arange(24)
    del rows
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    mapped.sum()  # looked at before
    source = ArraySource(mapped)
    size = source.block_rows * 24 * source.dtype.itemsize
    for index in range(block_count(source)):  # none is read while pages are counted
        block = source.read_block(index)
        np.testing.assert_array_equal(block[-1], np.arange(24))
        assert resident_of(tmp_path / "rows.npy") < max(4 * size, mapped.nbytes // 2)
    assert resident_of(tmp_path / "rows.npy") < 1 << 20


def resident_of(file: Path) -> int:
    """Bytes of a mapped file that count as resident."""
    parts = re.split(r"\n(?=[0-9a-f]+-)", Path("/proc/self/smaps").read_text())
    sizes = [re.search(r"Rss: +(\d+) kB", part) for part in parts if str(file) in part]
    return sum(int(size[1]) for size in sizes if size) * 1024


@pytest.mark.parametrize("mode", ["c", "r+"])
def test_what_was_written_to_a_mapped_file_stays(mode: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((50, 4), np.uint8))
    rows = np.load(tmp_path / "rows.npy", mmap_mode=mode)
    rows[7] = 9
    (block,) = read_ahead(ArraySource(rows))
    assert block.sum() == rows.sum() == 36
    assert not np.shares_memory(block, rows)


def test_a_mapped_file_is_clustered_as_the_same_rows_in_memory(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 99, (500, 6)).astype(">u2")
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    here, there = (StreamingKMeans(5, random_state=0).fit(x) for x in (rows, mapped))
    np.testing.assert_array_equal(here.cluster_centers_, there.cluster_centers_)
    np.testing.assert_array_equal(here.labels_, there.labels_)
    np.testing.assert_array_equal(here.predict(mapped), there.predict(rows))
    assert there.n_features_in_ == 6
