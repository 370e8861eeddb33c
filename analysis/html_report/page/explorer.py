"""The explorer: an image, what a dictionary makes of it, and which centroids make it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray
from bokeh.models import ColumnDataSource, CustomJS, HoverTool, LinearColorMapper
from bokeh.palettes import interp_palette
from bokeh.plotting import figure

from analysis.html_report.page import widgets
from analysis.measures.kinds import KINDS
from analysis.measures.pixel_scale import PixelScale
from analysis.text import SPLIT_NAMES
from storage import PatchSpec

ACROSS = 5  # centroids of a pixel or an image in a row, at most, and rows
GAP, CAPTION = 0.12, 0.3  # between tiles and of the words below one, in widths of a tile
# Too dark, exact, too bright: by day and by night; also for colour-blind readers.
ERROR_COLOURS = (("#0072B2", "#f4f4f2", "#D55E00"), ("#56B4E9", "#26282c", "#F0853C"))
# What a screen reader says of the pictures; of the error by whether there are several channels.
LABELS = {"original": "Original image", "rebuilt": "Rebuilt image"}
ERROR_LABELS = ("Error, rebuilt minus original", "Error, root mean square over the channels")
TILE_COLUMNS = ("image", "x", "y", "bottom", "thick", "weight", "words", "atom", "kind", "level")
MARK_COLUMNS = ("x", "y", "width", "height")
WORDS = ("score", "error-words", "made-words")
_EVENTS = ("mousemove", "tap", "mouseleave")


def explorer(
    seen: xarray.Dataset,
    dictionaries: ColumnDataSource,
    spec: PatchSpec,
    scales: tuple[PixelScale, PixelScale],
    shared: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], CustomJS]:
    """Bokeh models by their place on the page, the controls, and the script that draws them.

    Args:
        seen: as `rebuilt_images` returns it.
        dictionaries: see `atlas_source`, of the same K.
        spec: how the patches were cut.
        scales: range and unit of the pixels, and the scale on which they are shown.
        shared: controls of the whole page: `atom`, the chosen centroid, and perhaps `size`, the K.
    """
    height, width, *channels = seen["original"].shape[2:]
    pictures = _sources(height, width)
    marks, places = (
        ColumnDataSource({name: [] for name in MARK_COLUMNS}, name=f"explorer-{name}")
        for name in ("marks", "places")
    )
    tiles = ColumnDataSource({name: [] for name in TILE_COLUMNS}, name="explorer-tiles")
    signed = math.prod(channels) == 1
    labels = LABELS | {"error": ERROR_LABELS[not signed]}
    palettes = _error_colours(signed=signed)
    scale = LinearColorMapper(palettes[0], low=-1, high=1)  # a script sets where it ends
    controls = _controls(seen) | dict(shared)
    words = {name: widgets.text(f"explorer-{name}") for name in WORDS}
    board = _made_of(tiles, spec)
    widgets.choose_on_tap(board, tiles, shared["atom"])
    draw = CustomJS(
        args={
            "data": _data(seen, spec, *scales),
            "dictionaries": dictionaries,
            "kinds": list(KINDS),
            "layout": {"across": ACROSS, "gap": GAP, "caption": CAPTION},
            "board": board,
            "palettes": palettes,
            "scale": scale,
            "marks": marks,
            "places": places,
            "tiles": tiles,
            "pictures": pictures,
            "controls": controls,
            "words": words,
        },
        code=widgets.code("shading.js") + widgets.code("explorer.js"),
        name="explorer-draw",
    )
    plots = {
        name: _picture(name, labels[name], source, (marks, places), scale, (height, width))
        for name, source in pictures.items()
    }
    for plot in plots.values():
        _answer_pointer(plot, draw)
    board.js_on_change("inner_width", draw)
    models = {n: controls[n] for n in ("split", "shown")} | plots | {"made": board} | words
    parts = {f"explorer_{name.replace('-', '_')}": model for name, model in models.items()}
    return parts, controls, draw


def _answer_pointer(plot: figure, draw: CustomJS) -> None:
    """A picture tells the script of what the pointer does on it."""
    pointed = CustomJS(args={"draw": draw}, code="draw.execute(cb_obj)")
    for event in _EVENTS:
        plot.js_on_event(event, pointed)


def _sources(height: int, width: int) -> dict[str, ColumnDataSource]:
    """What each of the three pictures shows, until a script draws it."""
    errors = {"image": [np.zeros((height, width), np.float32)]}
    return {
        "original": widgets.image_source("explorer-original", height, width),
        "rebuilt": widgets.image_source("explorer-rebuilt", height, width),
        "error": ColumnDataSource(errors, name="explorer-error"),
    }


def _error_colours(*, signed: bool) -> list[tuple[str, ...]]:
    """Palettes of the error map by day and by night."""
    return [interp_palette(ends if signed else ends[1:], 255) for ends in ERROR_COLOURS]


def _controls(seen: xarray.Dataset) -> dict[str, Any]:
    """Choices of split, image and pixel."""
    height, width = seen["original"].shape[2:4]
    splits = [f"{SPLIT_NAMES[split]} image" for split in seen["split"].values]
    return {
        "split": widgets.choice("explorer-split", splits, "Split"),
        "shown": widgets.choice("explorer-shown", list(seen["shown"].values), "Image"),
        "row": widgets.number_field("explorer-row", height - 1),
        "col": widgets.number_field("explorer-col", width - 1),
    }


def _data(
    seen: xarray.Dataset, spec: PatchSpec, pixels: PixelScale, shades: PixelScale
) -> dict[str, Any]:
    """What the script reads; arrays go as bytes."""
    atoms = seen["atom"].values
    few = atoms.max() <= np.iinfo(np.int16).max
    return {
        "sizes": seen["k"].values.tolist(),
        "shape": list(seen["original"].shape[2:]),
        "grid": list(atoms.shape[3:]),
        "original": np.ascontiguousarray(seen["original"].values, np.float32),
        "rebuilt": seen["rebuilt"].values,
        "atom": atoms.astype(np.int16) if few else atoms,
        "index": seen["index"].values.ravel().tolist(),
        "mse": seen["mse"].values.ravel().tolist(),
        "patches": seen["patches"].values.ravel().tolist(),
        "distinct": seen["distinct"].values.ravel().tolist(),
        "images": list(seen["original"].shape[:2]),
        "rows": spec.rows,
        "cols": spec.cols,
        "stride": spec.stride,
        "before": list(spec.before),
        "black": shades.black,
        "span": shades.span,
        "peak": pixels.span,
        "unit": pixels.unit,
    }


def _picture(
    name: str,
    label: str,
    source: ColumnDataSource,
    marks: tuple[ColumnDataSource, ColumnDataSource],
    scale: LinearColorMapper,
    shape: tuple[int, int],
) -> figure:
    """One of the three pictures.

    marks: the pixel that is pointed at and its patches; where the chosen centroid lies.
    """
    height, width = shape
    plot = widgets.picture(f"explorer-{name}-picture", label, height, width)
    place = {"x": 0, "y": 0, "dw": width, "dh": height, "source": source}
    if name == "error":
        plot.image("image", color_mapper=scale, **place)
    else:
        plot.image_rgba("image", **place)
    line = {"line_color": widgets.MARK, "line_width": 2}
    pointed, chosen = marks
    plot.rect(*MARK_COLUMNS, source=pointed, fill_color=None, **line)
    plot.rect(*MARK_COLUMNS, source=chosen, fill_color=widgets.MARK, fill_alpha=0.25, **line)
    return plot


def _made_of(tiles: ColumnDataSource, spec: PatchSpec) -> figure:
    """The centroids of a pixel or an image, each with its weight below it."""
    tall = spec.rows / spec.cols
    plot = widgets.picture(
        "explorer-made-picture",
        "Centroids that it is made of",
        ACROSS * (tall + CAPTION + GAP),
        ACROSS * (1 + GAP) - GAP,
    )
    frame = widgets.framed_tiles(plot, tiles, tall, "0.7rem")
    frame.hover_glyph = frame.glyph.clone(line_color=widgets.MARK, line_width=2)
    told = [("centroid", "@atom"), ("kind", "@kind"), ("weight", "@weight{0.0 %}")]
    told.append(("level at the pixel", "@level"))
    plot.add_tools(HoverTool(renderers=[frame], tooltips=widgets.tips(told)))
    return plot
