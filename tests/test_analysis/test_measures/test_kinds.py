import time
from collections.abc import Callable

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

from analysis import centroid_kinds
from analysis.measures.kinds import COLOUR_RULE, FLAT, KINDS, OF_COLOUR, RULE, TINTED, kinds_of
from storage import InputError

Ink = Callable[[np.ndarray, np.ndarray], np.ndarray]
# Depth inside the ink at a place, with the patch from -1 to 1 both ways.
SHAPES: dict[str, list[Ink]] = {
    "edge": [
        lambda down, across: across - 0.2,
        lambda down, across: down + across,
        lambda down, across: 0.4 * down - across + 0.3,
    ],
    "corner": [
        lambda down, across: np.minimum(down + 0.2, across + 0.2),
        lambda down, across: np.minimum(0.1 - down, 0.1 - across),
    ],
    "stroke": [
        lambda down, across: 0.3 - abs(across),
        lambda down, across: 0.3 - abs(down + across) / 1.4,
        lambda down, across: 0.35 - abs(0.3 * down + across - 0.1),
    ],
    "curve": [
        lambda down, across: 0.35 - abs(np.hypot(down + 1, across + 1) - 1.2),
        lambda down, across: 0.35 - abs(np.maximum(down, across) - 0.1),
    ],
    "line end": [
        lambda down, across: np.minimum(0.3 - abs(across), down - 0.1),
        lambda down, across: 0.35 - np.hypot(np.maximum(down - 0.1, 0), across),
    ],
    "dot": [lambda down, across: 0.4 - np.hypot(down, across)],
    "other": [
        lambda down, across: 0.25 - np.minimum(abs(down), abs(across)),
        lambda down, across: 0.2 - np.minimum(abs(down), np.hypot(np.minimum(down, 0), across)),
    ],
}


def drawn(ink: Ink, rows: int, cols: int) -> np.ndarray:
    """The shape in light on dark, with soft sides; (rows, cols), 0 to 255."""
    down, across = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, cols), indexing="ij")
    return 255 * np.clip(0.5 + ink(down, across) * min(rows, cols) / 2, 0, 1)


def kind_of(patch: np.ndarray, largest: float = 255) -> str:
    return KINDS[int(kinds_of(patch[np.newaxis].astype(np.float32), largest)[0])]


@pytest.mark.parametrize("shape", [(5, 5), (6, 6), (7, 7), (9, 9), (15, 15), (9, 11)])
@pytest.mark.parametrize("kind", SHAPES)
def test_drawn_shapes_are_named_in_all_turns_polarities_and_colours(
    kind: str, shape: tuple[int, int]
) -> None:
    for ink in SHAPES[kind]:
        light = drawn(ink, *shape)
        for turns in range(4):
            turned = np.rot90(light, turns)
            found = {
                "light on dark": kind_of(turned),
                "dark on light": kind_of(255 - turned),
                "mirrored": kind_of(turned[::-1]),
                "faint": kind_of(100 + 0.3 * turned),
                "floats": kind_of(turned / 255, 1.0),
                "grey in three channels": kind_of(np.repeat(turned[..., np.newaxis], 3, axis=2)),
                "red on dark blue": kind_of(
                    np.stack([turned, turned * 0, (255 - turned) / 5], axis=2)
                ),
            }
            assert found == dict.fromkeys(found, kind)


def test_flat_is_below_a_share_of_the_largest_level() -> None:
    edge = drawn(SHAPES["edge"][0], 5, 5)
    edge = (edge - edge.mean()) / edge.std()
    assert kind_of(130 + 0.99 * FLAT * 255 * edge) == "flat"
    assert kind_of(130 + 1.01 * FLAT * 255 * edge) == "edge"
    assert kind_of(np.zeros((5, 5))) == "flat"


@given(st.integers(0, 2**32 - 1), st.sampled_from([(5, 5), (5, 8), (2, 2), (3, 2), (1, 6)]))
def test_a_kind_survives_turns_mirrors_inversion_and_offsets(
    seed: int, shape: tuple[int, int]
) -> None:
    patches = np.random.default_rng(seed).integers(40, 216, (20, *shape)).astype(np.float64)
    found = kinds_of(patches, 255)
    for same in (
        np.rot90(patches, axes=(1, 2)),
        patches[:, ::-1],
        255 - patches,
        patches + 30,
        patches.transpose(0, 2, 1),
    ):
        np.testing.assert_array_equal(kinds_of(same, 255), found)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ([0, 0, 255, 255], "edge"),
        ([9, 9, 9, 9], "flat"),
        ([0, 255, 255, 0], "stroke"),
        ([0, 255, 0, 255, 0, 255], "other"),
        ([7], "flat"),
    ],
)
def test_a_single_line_of_pixels(line: list[int], kind: str) -> None:
    assert kind_of(np.array([line])) == kind_of(np.array([line]).T) == kind


def test_small_ups_and_downs_on_the_border_do_not_count() -> None:
    edge = drawn(SHAPES["edge"][0], 7, 7)
    edge[0, 1] += 40
    assert kind_of(edge) == "edge"
    edge[0, 1] += 100
    assert kind_of(edge) != "edge"


def test_ten_thousand_centroids_take_a_moment() -> None:
    centroids = np.random.default_rng(0).integers(0, 256, (10_000, 5, 5)).astype(np.float32)
    kinds_of(centroids, 255)
    started = time.process_time()
    kinds_of(centroids, 255)
    assert time.process_time() - started < 0.2


def dictionary(*patches: np.ndarray, counts: list[int]) -> xarray.Dataset:
    stacked = np.stack(patches).astype(np.float32)
    axes = ("atom", "row", "col", "channel")[: stacked.ndim]
    return xarray.Dataset({"centroids": (axes, stacked), "count": ("atom", counts)})


def small_tree(dtype: str = "uint8") -> xarray.DataTree:
    edge, dot = (drawn(SHAPES[kind][0], 5, 5) for kind in ("edge", "dot"))
    scale = 1 if dtype == "uint8" else 1 / 255
    tree = xarray.DataTree.from_dict(
        {
            "k00003": dictionary(edge * scale, dot * scale, dot * scale, counts=[6, 1, 1]),
            "k00001": dictionary(edge * scale, counts=[8]),
        }
    )
    tree.attrs["source"] = {"dtype": dtype}
    return tree


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_kinds_of_one_dictionary_are_names_over_its_atoms(dtype: str) -> None:
    tree = small_tree(dtype)
    found = centroid_kinds(tree["k00003"])
    assert found.dims == ("atom",)
    assert found.values.tolist() == ["edge", "dot", "dot"]
    assert found.attrs["rule"] == RULE  # of grey patches: nothing of colours
    dataset = tree["k00003"].to_dataset()
    with pytest.raises(InputError, match="largest=255"):
        centroid_kinds(dataset)
    largest = 255 if dtype == "uint8" else 1.0
    assert centroid_kinds(dataset, largest=largest).equals(found)


def test_kinds_of_a_tree_are_shares_over_k() -> None:
    shares = centroid_kinds(small_tree())
    assert shares["k"].values.tolist() == [1, 3]
    assert shares["kind"].values.tolist() == list(KINDS)
    assert float(shares["of_centroids"].sel(k=3, kind="dot")) == pytest.approx(2 / 3)
    assert float(shares["of_patches"].sel(k=3, kind="edge")) == 0.75
    np.testing.assert_allclose(shares["of_patches"].sum("kind"), 1)


def test_kinds_of_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="no dictionaries"):
        centroid_kinds(xarray.DataTree(), largest=255)
    with pytest.raises(InputError, match="no dictionaries"):
        centroid_kinds(xarray.Dataset(), largest=255)


def test_an_edge_between_colours_that_are_as_bright_is_one_of_colour() -> None:
    light = drawn(SHAPES["edge"][0], 5, 5)
    red_and_green = np.stack([light, 255 - light, np.full_like(light, 127.5)], axis=2)
    assert kind_of(red_and_green) == "colour edge"
    assert kind_of(red_and_green + 0.4 * light[..., np.newaxis]) == "edge"  # brighter on one side
    stroke = drawn(SHAPES["stroke"][0], 5, 5)
    assert kind_of(np.stack([stroke, 255 - stroke, 0 * stroke], axis=2)) == "stroke"


def test_a_slow_change_of_colour_is_no_flat_area() -> None:
    across = np.linspace(-1, 1, 5) * np.ones((5, 1))
    across *= TINTED * 255 / np.sqrt((across**2).mean() * 2 / 3)  # red up, green down, blue still
    ramp = np.stack([across, -across, 0 * across], axis=2)
    assert kind_of(120 + 1.01 * ramp) == "colour gradient"
    assert kind_of(120 + 0.99 * ramp) == "flat"
    ridge = np.stack([abs(across), -abs(across), 0 * across], axis=2)
    assert kind_of(120 + 2.5 * ridge) == "flat"  # there and back
    assert kind_of(np.repeat(120 + ramp[..., :1], 3, axis=2)) == "flat"  # no colours


def test_the_rule_names_every_kind_and_its_thresholds() -> None:
    assert all(kind in RULE for kind in KINDS if kind not in OF_COLOUR)
    assert all(words in COLOUR_RULE for words in (*OF_COLOUR, "1.5 %", "65 %"))
    for threshold in ("6 %", "25 %", "65 %", "75 %"):
        assert threshold in RULE
