"""A figure's files: PNG, SVG, PDF, and what it shows as CSV."""

import base64
import io
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import xarray
from matplotlib.image import imread

from analysis.html_report.figures.figure import (
    ReportFigure,
    finished,
    long_table,
    strips_over_k,
    table,
    table_of_lines,
    with_unit,
)
from analysis.html_report.figures.image_boards import Board
from analysis.html_report.figures.style import new_figure, styled, to_svg

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"
SPOTS = np.random.default_rng(0).integers(0, 256, (7, 9, 3)).astype(np.uint8)


def read(csv: bytes) -> xarray.Dataset:
    """The columns of a CSV file."""
    pandas = pytest.importorskip("pandas")  # xarray brings it
    return xarray.Dataset.from_dataframe(pandas.read_csv(io.BytesIO(csv)))


def plate() -> Board:
    board = Board(60, 60)
    board.image(SPOTS, 20, 40)
    board.text(2, 2, "K = 1,000")
    return board


def image_of(svg: bytes) -> ElementTree.Element:
    (image,) = ElementTree.fromstring(svg).iter(f"{SVG}image")
    return image


def test_an_svg_holds_the_pixels_themselves_unblurred() -> None:
    with styled():
        image = image_of(to_svg(plate().finished()))
    content = image.attrib[HREF].removeprefix("data:image/png;base64,")
    pixels = np.rint(255 * imread(io.BytesIO(base64.b64decode(content)))).astype(np.uint8)
    assert pixels.shape[:2] == (60, 60)
    np.testing.assert_array_equal(pixels[40:47, 20:29, :3], SPOTS)
    assert (pixels[39, 19:30, :3] == 150).all()  # the frame, outside
    assert (pixels[50:, :, :3] == 255).all()
    assert "image-rendering:pixelated" in image.attrib["style"]


def test_a_png_holds_a_dot_for_each_dot_of_the_board() -> None:
    with styled():
        figure = finished("a", "A.", "B.", plate().finished(), b"")
    pixels = np.rint(255 * imread(io.BytesIO(figure.files["png"]))).astype(np.uint8)
    assert pixels.shape[:2] == (60, 60)
    np.testing.assert_array_equal(pixels[40:47, 20:29, :3], SPOTS)
    assert figure.width == 35


def test_a_drawing_has_300_dots_to_an_inch_and_a_pdf_that_is_the_same_every_time() -> None:
    def drawn() -> ReportFigure:
        with styled():
            figure = new_figure(2)
            figure.subplots().plot([1, 2], [3, 4])
            return finished("a", "A.", "B.", figure, b"")

    made = drawn()
    assert imread(io.BytesIO(made.files["png"]), format="png").shape[:2] == (600, 2100)
    assert made.files["pdf"].startswith(b"%PDF")
    assert made.files == drawn().files


def test_strips_over_k_meet_between_their_points() -> None:
    with styled():
        figure = new_figure(2)
        axes = figure.subplots()
        axes.set_xlim(0, 100)
        finished("a", "A.", "B.", figure, b"")
        strips = strips_over_k(figure, {10: "ten", 30: "thirty", 90: "ninety"})
        left, right = (100 * x for x in axes.get_position().intervalx)
    at = [left, *(left + share * (right - left) for share in (0.2, 0.6)), right]
    assert [strip.k for strip in strips] == [10, 30, 90]
    np.testing.assert_allclose([strip.left for strip in strips], at[:-1])
    np.testing.assert_allclose([strip.left + strip.width for strip in strips], at[1:])


def test_what_reaches_beyond_a_board_is_cut_off() -> None:
    with styled():
        board = Board(20, 10)
        board.image(np.zeros((5, 40, 3), np.uint8), 4, 7, frame=False)
        figure = finished("a", "A.", "B.", board.finished(), b"")
    dark = imread(io.BytesIO(figure.files["png"]))[..., 0] < 0.5
    assert dark[7:, 4:].all()
    assert dark.sum() == 3 * 16


def test_an_svg_has_its_text_as_text_and_is_the_same_every_time() -> None:
    def drawn() -> bytes:
        with styled():
            figure = new_figure(2)
            axes = figure.subplots()
            axes.plot([1, 2], [3, 4], "o", label="training")
            axes.set_xlabel("number of centroids K")
            axes.fill_between([1, 2], [3, 4], clip_on=True)
            return to_svg(figure)

    first = drawn()
    texts = [text.text for text in ElementTree.fromstring(first).iter(f"{SVG}text")]
    assert "number of centroids K" in texts
    assert b"sans-serif" in first
    assert first == drawn()
    assert b"dc:date" not in first
    assert matplotlib.__version__.encode() not in first


def test_figures_with_axes_or_words_have_small_print() -> None:
    with styled():
        figure = new_figure(1)
        figure.subplots()
        assert finished("a", "A.", "B.", figure, b"").small_print
        assert finished("a", "A.", "B.", plate().finished(), b"").small_print
        board = Board(60, 40)
        board.image(SPOTS, 20, 20)
        assert not finished("a", "A.", "B.", board.finished(), b"").small_print


def test_a_table_gives_numbers_in_full_and_what_is_missing_as_nothing() -> None:
    third = 1 / 3
    csv = table({"k": [1, 2], "mse": [third, np.nan], "name": ["a, b", "c"], "all": 7})
    assert csv.decode().splitlines()[0] == "k,mse,name,all"
    assert b"nan" not in csv
    found = read(csv)
    assert found["mse"].values[0] == third
    assert np.isnan(found["mse"].values[1])
    assert found["name"].values.tolist() == ["a, b", "c"]
    assert found["all"].values.tolist() == [7, 7]
    assert found["k"].dtype == np.int64


def test_a_table_of_lines_is_the_same() -> None:
    lines = [(1, "a", 0.5), (2, "b", 0.25)]
    assert table_of_lines(("k", "name", "mse"), lines) == table(
        {"k": [1, 2], "name": ["a", "b"], "mse": [0.5, 0.25]}
    )


def test_a_long_table_has_a_line_for_each_place_of_the_axes() -> None:
    shares = xarray.Dataset(
        {"share": (("k", "kind"), [[0.25, 0.75], [0.5, 0.5]])}, {"k": [4, 8], "kind": ["a", "b"]}
    )
    assert long_table(shares).decode().splitlines() == [
        "k,kind,share",
        "4,a,0.25",
        "4,b,0.75",
        "8,a,0.5",
        "8,b,0.5",
    ]


def test_a_columns_name_has_its_unit() -> None:
    assert with_unit("mse", "squared grey levels") == "mse_squared_grey_levels"
