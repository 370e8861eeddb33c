"""Tiles: every window of every image in exactly one of them, whatever their side."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from storage import PatchSpec
from storage.tiles import TILE_BYTES, TileGrid, tile_side, windows_of, working_bytes

SIZES = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=5)
SPECS = st.builds(
    PatchSpec,
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 6),
    border=st.sampled_from(["valid", "reflect"]),
)


@given(SIZES, SPECS, st.sampled_from([None, 1, 2, 4]), st.booleans())
def test_every_window_lies_in_one_tile(
    sizes: list[tuple[int, int]], spec: PatchSpec, side: int | None, equal: bool
) -> None:
    if equal:
        sizes = [sizes[0]] * len(sizes)
    grid = TileGrid(np.array(sizes, np.int64), spec, side)
    whole = [spec.extended(*size) for size in sizes]
    found = [np.zeros(size, int) for size in whole]
    for number in range(len(grid)):
        tile = grid.locate(number)
        assert tile.image == grid.images_of(np.array([number]))[0]
        rows, cols = tile.rows, tile.cols
        assert rows.stop <= whole[tile.image][0]
        assert cols.stop <= whole[tile.image][1]
        for top in range(rows.start, rows.stop - spec.rows + 1, spec.stride):
            for left in range(cols.start, cols.stop - spec.cols + 1, spec.stride):
                found[tile.image][top, left] += 1
    windows = windows_of(grid.sizes, spec)
    for (down, across), marks in zip(windows.tolist(), found, strict=True):
        assert marks.max() <= 1
        assert marks.sum() == down * across
        assert (marks[:: spec.stride, :: spec.stride][:down, :across] == 1).all()
    assert grid.windows == windows.prod(axis=1).sum()
    assert grid.too_small == (windows.min(axis=1) == 0).sum()
    batches = list(grid.batches(np.arange(len(grid)), 2))
    assert [int(tile) for batch in batches for tile in batch] == list(range(len(grid)))
    for batch in batches:
        assert len(batch) <= (2 if side is None else 1)
        assert len({sizes[image] for image in grid.images_of(batch)}) == 1


def test_memory_follows_the_tile_not_the_image() -> None:
    spec = PatchSpec(8, 8)
    assert tile_side(np.array([[28, 28]]), spec, 1, 1) is None
    sides = {tile_side(np.array([[n, n]]), spec, 1, 1) for n in (4_000, 40_000)}
    (side,) = sides
    assert side is not None
    assert working_bytes((side + 7, side + 7), spec, 1, 1) <= TILE_BYTES
    assert working_bytes((2 * side + 7, 2 * side + 7), spec, 1, 1) > TILE_BYTES
