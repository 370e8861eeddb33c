"""The atlas: all centroids of a dictionary in one picture, to be sorted and pointed at."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray
from bokeh.models import ColumnDataSource, CustomJS, HoverTool
from bokeh.plotting import figure

from analysis.html_report.exploration import ClassedPatches
from analysis.html_report.page import widgets
from analysis.measures.gallery import LINE_COLOUR
from analysis.measures.kinds import KINDS, plural
from analysis.measures.pixel_scale import PixelScale

_PLACE = ("x", "y", "width", "height")
BOARD_COLUMNS = (*_PLACE, "bottom", "atom", "count", "share", "sse_share", "kind", "near")
NEAR_COLUMNS = ("image", "x", "y", "bottom", "thick", "words", "atom")
ORDERS = ("likeness", "use", "error", "kind")
LINE_SHADE = 0xFF000000 | LINE_COLOUR[2] << 16 | LINE_COLOUR[1] << 8 | LINE_COLOUR[0]
NEAR_GAP, NEAR_CAPTION = 0.15, 0.3  # in widths of a tile


def atlas_source(atlases: dict[int, xarray.Dataset], pixels: PixelScale) -> ColumnDataSource:
    """All atlases, a row each, as the scripts of the page share them.

    Args:
        atlases: K -> as `analysis.html_report.exploration.atlas` returns it.
        pixels: the scale on which pictures are shown.

    Returns:
        Columns, each of arrays over the atoms: centroids (uint8; on a narrowed scale uint16, for a
        few may be far brighter than what is shown), count, sse_share, kind, near (nearest first),
        distance; and order (down, across), cells of the grid. `coding` says of the centroids'
        numbers: the level of 0, levels from one to the next, which one is black, and how many there
        are from black to white. `blank` holds an array whose type scripts make new arrays of.
    """
    centroids = [one["centroids"].values for one in atlases.values()]
    low, high = _reach(centroids, pixels)
    dtype, most = ("uint16", 65535) if pixels.narrowed else ("uint8", 255)
    step = (high - low) / most
    black, white = (round((level - low) / step) for level in (pixels.black, pixels.white))
    columns: dict[str, list[Any]] = {
        "k": list(atlases),
        "centroids": [
            np.rint(most * np.clip((one - low) / (high - low), 0, 1)).astype(dtype)
            for one in centroids
        ],
        "coding": [[low, step, black, max(1, white - black)] for _ in atlases],
        "count": [_narrowed(one["count"].values) for one in atlases.values()],
        "kind": [one["kind"].values.astype(np.uint8) for one in atlases.values()],
        "blank": [np.zeros((1, 1), np.uint32) for _ in atlases],
    }
    for name in ("sse_share", "distance"):
        columns[name] = [one[name].values.astype(np.float32) for one in atlases.values()]
    for name in ("near", "order"):
        columns[name] = [_narrowed(one[name].values) for one in atlases.values()]
    return ColumnDataSource(columns, name="dictionaries")


def _reach(centroids: Sequence[np.ndarray], pixels: PixelScale) -> tuple[float, float]:
    """Levels of the first and the last number: all that are shown, and of a narrowed scale more."""
    low, high = pixels.black, pixels.white
    if pixels.narrowed:  # what lies beyond it is told, and likened to others, as it is
        low = min(low, *(float(one.min()) for one in centroids))
        high = max(high, *(float(one.max()) for one in centroids))
    return low, high


def _narrowed(values: np.ndarray) -> np.ndarray:
    """In the narrowest of 16 or 32 signed bits, or 64 as floats; scripts know no other."""
    largest = values.max(initial=0)
    for dtype in (np.int16, np.int32):
        if largest <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values.astype(np.float64)


def atlas_view(
    dictionaries: ColumnDataSource,
    patch: tuple[int, ...],
    pixels: PixelScale,
    shared: Mapping[str, Any],
    classed: ClassedPatches | None,
) -> tuple[dict[str, Any], dict[str, Any], CustomJS]:
    """Bokeh models by their place on the page, the controls, and the script that draws them.

    Args:
        dictionaries: see `atlas_source`.
        patch: (rows, cols[, channels]).
        pixels: unit of distances.
        shared: see `explorer`.
        classed: patches of known class, at the same K.
    """
    controls = {"order": widgets.choice("atlas-order", list(ORDERS), "Order")} | dict(shared)
    board = widgets.image_source("atlas-picture", 1, 1)
    tiles, near, chosen, scale = (
        ColumnDataSource({name: [] for name in columns}, name=f"atlas-{name}")
        for name, columns in (
            ("tiles", BOARD_COLUMNS),
            ("near", NEAR_COLUMNS),
            ("chosen", _PLACE),
            ("scale", ("x", "y", "words")),
        )
    )
    words = widgets.text("atlas-words")
    plot, beside = _board(board, tiles, chosen, scale), _near(near, patch)
    widgets.choose_on_tap(plot, tiles, shared["atom"])
    widgets.choose_on_tap(beside, near, shared["atom"])
    draw = CustomJS(
        args={
            "dictionaries": dictionaries,
            "kinds": list(KINDS),
            "plurals": [plural(kind) for kind in KINDS],
            "orders": list(ORDERS),
            "patch": list(patch),
            "line_shade": LINE_SHADE,
            "places": {"gap": NEAR_GAP, "caption": NEAR_CAPTION},
            "level": pixels.level,
            "classed": None if classed is None else _classed(classed),
            "controls": controls,
            "plot": plot,
            "board": board,
            "tiles": tiles,
            "near": near,
            "chosen": chosen,
            "scale": scale,
            "words": words,
        },
        code=widgets.code("shading.js") + widgets.code("atlas.js"),
        name="atlas-draw",
    )
    plot.js_on_change("inner_width", draw)
    models = {"order": controls["order"], "board": plot, "near": beside, "words": words}
    return {f"atlas_{name}": model for name, model in models.items()}, controls, draw


def _classed(patches: ClassedPatches) -> dict[str, Any]:
    """The same as a script reads it; arrays go as bytes."""
    nearest = [_narrowed(found) for found in patches.nearest.values()]
    return {"names": list(patches.names), "classes": patches.classes, "nearest": nearest}


def _board(
    board: ColumnDataSource,
    tiles: ColumnDataSource,
    chosen: ColumnDataSource,
    scale: ColumnDataSource,
) -> figure:
    """The picture of all centroids, their frames that answer the pointer, and words beside it."""
    plot = widgets.picture(
        "atlas-board", "All centroids", 2, 3, tools="pan,wheel_zoom,reset", toolbar_location="below"
    )
    plot.html_attributes["role"] = "group"  # there are buttons in it
    plot.toolbar.active_drag = plot.toolbar.active_scroll = None  # they would hold the page
    plot.toolbar.logo = None
    plot.aspect_ratio = None  # the script sets the height
    plot.image_rgba("image", 0, 0, "width", "height", source=board)
    words: dict[str, Any] = {"text_font_size": "0.75rem", "text_color": widgets.SOFT}
    words |= {"text_baseline": "top", "y_offset": 2}
    plot.text("x", "y", "words", source=scale, **words)
    frames = plot.block(*_PLACE, source=tiles, fill_alpha=0, line_alpha=0)
    frames.hover_glyph = frames.glyph.clone(line_color=widgets.MARK, line_alpha=1, line_width=2)
    line = {"line_color": widgets.MARK, "line_width": 4, "fill_alpha": 0}
    plot.block(*_PLACE, source=chosen, **line)
    plot.add_tools(
        HoverTool(
            renderers=[frames],
            visible=False,
            tooltips=widgets.tips(
                [
                    ("centroid", "@atom, @kind"),
                    ("patches", "@count{0,0} (@share{0.000 %})"),
                    ("share of SSE", "@sse_share{0.000 %}"),
                    ("nearest", "@near"),
                ]
            ),
        )
    )
    return plot


def _near(near: ColumnDataSource, patch: tuple[int, ...]) -> figure:
    """The centroid that is pointed at, and its nearest neighbours."""
    tall = patch[0] / patch[1]
    plot = widgets.picture(
        "atlas-near-picture",
        "The centroid and its nearest neighbours",
        2 * (tall + NEAR_CAPTION) + NEAR_GAP,
        3 + 2 * NEAR_GAP,
    )
    widgets.framed_tiles(plot, near, tall, "0.75rem")
    return plot
