"""The explorer: an image, what a dictionary makes of it, and which centroids make it."""

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
TOO_DARK, EXACT, TOO_BRIGHT = "#0072B2", "#f4f4f2", "#D55E00"  # also for colour-blind readers
# What a screen reader says of the pictures; of the error by whether there are several channels.
LABELS = {"original": "Original image", "rebuilt": "Rebuilt image"}
ERROR_LABELS = ("Error, rebuilt minus original", "Error, root mean square over the channels")
TILE_COLUMNS = ("image", "x", "y", "bottom", "weight", "words", "atom", "kind", "level")
_EVENTS = ("mousemove", "tap", "mouseleave")


def explorer(
    seen: xarray.Dataset,
    dictionaries: ColumnDataSource,
    spec: PatchSpec,
    pixels: PixelScale,
    first: int,
) -> tuple[dict[str, Any], CustomJS]:
    """Bokeh models by their place on the page, and the script that draws them.

    Args:
        seen: as `rebuilt_images` returns it.
        dictionaries: see `atlas_source`, of the same K.
        spec: how the patches were cut.
        pixels: their range and unit.
        first: the K that is shown at first.
    """
    height, width, *channels = seen["original"].shape[2:]
    pictures = _sources(height, width)
    marks = ColumnDataSource({name: [] for name in ("x", "y", "width", "height")})
    tiles = ColumnDataSource({name: [] for name in TILE_COLUMNS}, name="explorer-tiles")
    labels = LABELS | {"error": ERROR_LABELS[bool(channels)]}
    scale = _error_colours(signed=not channels)
    controls = _controls(seen, first)
    words = {
        name: widgets.text(f"explorer-{name}") for name in ("score", "error-words", "made-words")
    }
    board = _made_of(tiles, spec)
    draw = CustomJS(
        args={
            "data": _data(seen, spec, pixels),
            "dictionaries": dictionaries,
            "kinds": list(KINDS),
            "places": {"across": ACROSS, "gap": GAP, "caption": CAPTION},
            "board": board,
            "scale": scale,
            "marks": marks,
            "tiles": tiles,
            "pictures": pictures,
            "controls": controls,
            "words": words,
        },
        code=widgets.code("shading.js") + widgets.code("explorer.js"),
        name="explorer-draw",
    )
    plots = {
        name: _picture(name, labels[name], source, marks, scale, (height, width))
        for name, source in pictures.items()
    }
    pointed = CustomJS(args={"draw": draw}, code="draw.execute(cb_obj)")
    for plot in plots.values():
        for event in _EVENTS:
            plot.js_on_event(event, pointed)
    for name, control in controls.items():
        control.js_on_change("active" if name in ("split", "shown") else "value", draw)
    models = {**controls, **plots, "made": board, **words}
    return {f"explorer_{name.replace('-', '_')}": model for name, model in models.items()}, draw


def _sources(height: int, width: int) -> dict[str, ColumnDataSource]:
    """What each of the three pictures shows, until a script draws it."""
    errors = {"image": [np.zeros((height, width), np.float32)]}
    return {
        "original": widgets.image_source("explorer-original", height, width),
        "rebuilt": widgets.image_source("explorer-rebuilt", height, width),
        "error": ColumnDataSource(errors, name="explorer-error"),
    }


def _error_colours(*, signed: bool) -> LinearColorMapper:
    """Colours of the error map; a script sets where they end."""
    ends = [TOO_DARK, EXACT, TOO_BRIGHT] if signed else [EXACT, TOO_BRIGHT]
    return LinearColorMapper(interp_palette(ends, 255), low=-1, high=1)


def _controls(seen: xarray.Dataset, first: int) -> dict[str, Any]:
    """Choices of split, image, pixel and, where there are several, K."""
    height, width = seen["original"].shape[2:4]
    splits = [f"{SPLIT_NAMES[split]} image" for split in seen["split"].values]
    controls = {
        "split": widgets.choice("explorer-split", splits, "Split"),
        "shown": widgets.choice("explorer-shown", list(seen["shown"].values), "Image"),
        "row": widgets.number_field("explorer-row", "Row", height - 1),
        "col": widgets.number_field("explorer-col", "Column", width - 1),
    }
    sizes = [int(k) for k in seen["k"].values]
    if len(sizes) > 1:
        controls["size"] = widgets.size_slider("explorer-k", sizes, first)
    return controls


def _data(seen: xarray.Dataset, spec: PatchSpec, pixels: PixelScale) -> dict[str, Any]:
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
        "black": pixels.black,
        "span": pixels.span,
        "unit": pixels.unit,
    }


def _picture(
    name: str,
    label: str,
    source: ColumnDataSource,
    marks: ColumnDataSource,
    scale: LinearColorMapper,
    shape: tuple[int, int],
) -> figure:
    """One of the three pictures, with the pixel that is pointed at and its patches marked."""
    height, width = shape
    plot = widgets.picture(f"explorer-{name}-picture", label, height, width)
    place = {"x": 0, "y": 0, "dw": width, "dh": height, "source": source}
    if name == "error":
        plot.image("image", color_mapper=scale, **place)
    else:
        plot.image_rgba("image", **place)
    line = {"line_color": widgets.MARK, "line_width": 2}
    plot.rect("x", "y", "width", "height", source=marks, fill_color=None, **line)
    return plot


def _made_of(tiles: ColumnDataSource, spec: PatchSpec) -> figure:
    """The centroids of a pixel or an image, each with its weight below it."""
    tall = spec.rows / spec.cols
    plot = widgets.picture(
        "explorer-made-picture",
        "Centroids that it is made of",
        ACROSS * (tall + CAPTION + GAP) - GAP,
        ACROSS * (1 + GAP) - GAP,
    )
    frame = widgets.framed_tiles(plot, tiles, tall, "0.7rem")
    frame.hover_glyph = frame.glyph.clone(line_color=widgets.MARK, line_width=2)
    plot.add_tools(
        HoverTool(
            renderers=[frame],
            tooltips=[
                ("centroid", "@atom"),
                ("kind", "@kind"),
                ("weight", "@weight{0.0 %}"),
                ("level at the pixel", "@level"),
            ],
        )
    )
    return plot
