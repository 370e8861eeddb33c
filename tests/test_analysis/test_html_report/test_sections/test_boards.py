"""Figures made of images: where their parts lie."""

from pathlib import Path

import numpy as np
import pytest
import xarray
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis.html_report.figures import image_boards as drawing
from analysis.html_report.figures.image_boards import dots
from analysis.html_report.figures.style import styled
from analysis.html_report.samples import TypicalImage, typical_image
from analysis.html_report.sections.composition import rebuilt_plate
from analysis.html_report.sections.coverage import worst_plate
from analysis.html_report.sections.data import sample_plate
from analysis.html_report.sections.kinds import gallery_plate, kinds_plate
from analysis.measures.kinds import KINDS, plural
from pipeline.extraction.extract import extract
from storage import PatchSpec
from tests.test_analysis.test_html_report.made_up import GREY_LEVELS

Places = list[tuple[int, int, int, int]]  # left, top, right, bottom


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> Places:
    """Where the images of a board have been laid."""
    found: Places = []
    original = drawing.Board.image

    def note(self: drawing.Board, pixels: np.ndarray, left: int, top: int, **rest: bool) -> None:
        found.append((left, top, left + pixels.shape[1], top + pixels.shape[0]))
        original(self, pixels, left, top, **rest)

    monkeypatch.setattr(drawing.Board, "image", note)
    return found


@pytest.mark.parametrize(
    "shape", [(8, 8), (28, 28), (256, 256), (1000, 1000), (3000, 4), (4, 3000), (1, 1)]
)
def test_images_of_any_size_lie_side_by_side(shape: tuple[int, int], placed: Places) -> None:
    image = np.zeros(shape, np.uint8)
    sample_plate({"training": [image] * 10, "test": [image] * 10}, GREY_LEVELS)
    assert len(placed) == 20
    check(placed)
    placed.clear()
    one = TypicalImage("test", 7, image, dict.fromkeys(range(1, 8), (image, 1.0)))
    rebuilt_plate([one] * 2, GREY_LEVELS)
    assert len(placed) == 16
    check(placed)


@pytest.mark.parametrize("shapes", [((40, 30), (50, 90)), ((500, 400), (300, 700))])
def test_images_of_splits_of_other_sizes_lie_apart(
    shapes: tuple[tuple[int, int], tuple[int, int]], placed: Places
) -> None:
    first, second = (np.zeros(shape, np.uint8) for shape in shapes)
    sample_plate({"training": [first] * 10, "test": [second] * 10}, GREY_LEVELS)
    check(placed)
    placed.clear()
    rebuilt_plate(
        [
            TypicalImage("training", 7, first, {5: (first, 1.0)}),
            TypicalImage("test", 3, second, {5: (second, 1.0)}, (2000, 900)),
        ],
        GREY_LEVELS,
    )
    assert len(placed) == 4
    check(placed)


@pytest.mark.parametrize("shape", [(5, 5), (2, 9), (7, 3, 3), (40, 40), (3, 700)])
@pytest.mark.parametrize("count", [1, 20])
def test_the_worst_patches_stand_above_their_centroids_with_their_errors(
    shape: tuple[int, ...], count: int, placed: Places
) -> None:
    axes = ("worst", "row", "col", "channel")[: 1 + len(shape)]
    worst = xarray.Dataset(
        {
            "worst_patch": (axes, np.zeros((count, *shape), np.uint8)),
            "worst_centroid": (axes, np.zeros((count, *shape))),
            "worst_rmse": ("worst", np.linspace(90, 12.5, count)),
            "worst_image": ("worst", np.arange(59000, 59000 + count)),
        }
    )
    texts = [text.get_text() for text in worst_plate(worst, GREY_LEVELS).texts]
    assert len(placed) == 2 * count
    check(placed)
    for patch, centroid in zip(placed[::2], placed[1::2], strict=True):
        assert patch[0] == centroid[0]
        assert patch[3] < centroid[1]
    assert "90.0" in texts
    assert str(59000 + count - 1) in texts
    assert texts.count("RMSE") == len({top for _, top, _, _ in placed[::2]})


def test_names_of_kinds_of_colour_end_before_their_tiles(placed: Places) -> None:
    names = [f"{plural(kind)}, 13.6 %" for kind in KINDS]
    with styled():
        figure = kinds_plate(dict.fromkeys(names, np.zeros((15, 7, 7, 3))), GREY_LEVELS)
    check(placed)
    renderer = FigureCanvasAgg(figure).get_renderer()
    first = min(left for left, _, _, _ in placed)
    assert [text.get_text() for text in figure.texts] == names
    ends = [text.get_window_extent(renderer).x1 for text in figure.texts]
    assert first - dots(0.15) < max(ends) < first - dots(0.02)


def test_a_gallery_says_where_its_centroids_stand() -> None:
    centroids = np.random.default_rng(0).uniform(0, 255, (7, 5, 5))
    _, order = gallery_plate(centroids, GREY_LEVELS)
    assert sorted(order[order >= 0].tolist()) == list(range(7))


def check(placed: Places) -> None:
    for index, (left, top, right, bottom) in enumerate(placed):
        assert 0 <= left < right <= drawing.BOARD_WIDTH
        assert 0 < bottom - top < 1000
        for other in placed[index + 1 :]:
            apart = right < other[0] or other[2] < left or bottom < other[1] or other[3] < top
            assert apart


def test_the_typical_image_has_patches(tmp_path: Path) -> None:
    images = np.zeros((9, 6, 6), np.uint8)
    images[2, :, :3] = images[4] = images[7, 0, 0] = 200  # most keep nothing
    np.save(tmp_path / "few.npy", images)
    store, *_ = extract(str(tmp_path / "few.npy"), patch=PatchSpec(2, 2), out=tmp_path)
    assert typical_image(store) == 2  # of 1, 20 and 25 patches the middle one
