"""The look of Bokeh's parts on the page, and code that they share.

Colours follow the page's CSS variables, so that they change with it from light to dark.
"""

from importlib.resources import files
from typing import Any

import numpy as np
from bokeh.models import (
    CategoricalSlider,
    ColumnDataSource,
    CustomJS,
    Div,
    GlyphRenderer,
    RadioGroup,
    Spinner,
)
from bokeh.plotting import figure

EDGE = 0.006
MARK, SOFT = "#e69f00", "#80858c"  # seen on light and dark
# Native radio buttons, which every keyboard and screen reader knows, drawn as pills.
_PILLS = """
:host { width: auto; }
.bk-input-group { display: flex; flex-flow: row wrap; gap: 0.35rem; }
.bk-input-group > label { position: relative; display: inline-flex; align-items: center;
  justify-content: center; margin: 0; padding: 0.3rem 0.7rem; cursor: pointer;
  font: 500 0.875rem/1.3 var(--sans); color: var(--ink); border: 1px solid var(--rule);
  border-radius: 999px; min-width: 2.3rem; background: var(--paper); }
.bk-input-group > label > span { margin: 0; top: 0; }
.bk-input-group > label:hover { border-color: var(--accent); }
.bk-input-group > label:has(input:checked) { background: var(--accent); border-color: var(--accent);
  color: var(--paper); }
.bk-input-group > label:has(input:focus-visible) { outline: 3px solid var(--focus);
  outline-offset: 2px; }
input { position: absolute; inset: 0; opacity: 0; margin: 0; cursor: pointer; }
"""
_SLIDER = """
:host { --handle: 1.4rem; padding: 0 0.7rem; box-sizing: border-box; }
.bk-slider-title { font: 600 1rem/1.4 var(--sans); color: var(--ink); margin-left: -0.7rem; }
.bk-slider-value { font-variant-numeric: tabular-nums; }
.noUi-target { background: var(--rule); border: 0; border-radius: 999px; box-shadow: none;
  height: 0.4rem; }
.noUi-horizontal .noUi-handle { width: var(--handle); height: var(--handle); top: -0.5rem;
  right: -0.7rem; border: 2px solid var(--paper); border-radius: 50%; background: var(--accent);
  box-shadow: 0 1px 3px rgb(0 0 0 / 30%); cursor: grab; }
.noUi-handle::before, .noUi-handle::after { display: none; }
.noUi-handle:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
.noUi-connects { border-radius: 999px; }
"""
_WORDS = ":host, .bk-clearfix { font: inherit; color: inherit; width: 100%; }"
_CHOOSE = """
const {x, y, bottom, width} = tiles.data
const at = x.findIndex((left, i) => left <= cb_obj.x && cb_obj.x < left + (width?.[i] ?? 1) &&
  y[i] <= cb_obj.y && cb_obj.y < bottom[i])
if (at >= 0) atom.value = atom.value == tiles.data.atom[at] ? null : tiles.data.atom[at]
"""
# Over the margin of Bokeh's box, which is white by night, too.
_TIP = (
    "margin: -6px; padding: 0.35rem 0.6rem; background: var(--paper); color: var(--ink);"
    " border: 1px solid var(--soft); font: 0.8125rem/1.45 var(--sans)"
)
PANNABLE = ":host { touch-action: pan-y pinch-zoom; }"


def code(name: str) -> str:
    """A script of this folder."""
    return files("analysis.html_report.page").joinpath(name).read_text(encoding="utf-8")


def choice(name: str, labels: list[str], label: str) -> RadioGroup:
    """One of some words; label: what a screen reader says of the group."""
    return RadioGroup(
        labels=labels,
        active=0,
        inline=True,
        name=name,
        stylesheets=[_PILLS],
        html_attributes={"role": "radiogroup", "aria-label": label},
        margin=0,
    )


def number_field(name: str, largest: int | None = None) -> Spinner:
    """A whole number from 0 on, none at first; the page has a field of its own for it."""
    return Spinner(name=name, value=None, low=0, high=largest)


def size_slider(name: str, sizes: list[int], first: int) -> CategoricalSlider:
    """A slider over K; sizes: at least two. first: the K that it starts at."""
    return CategoricalSlider(
        categories=[f"{k:,}" for k in sizes],
        value=f"{first:,}",
        title="Centroids K",
        name=name,
        stylesheets=[_SLIDER],
        sizing_mode="stretch_width",
        margin=0,
    )


def picture(name: str, label: str, height: float, width: float, **options: Any) -> figure:
    """A figure without axes that shows an image of height × width pixels, as wide as its room.

    label: what a screen reader says of it. Its y axis grows downwards: (x, y) is (column, row).
    """
    plot = figure(
        name=name,
        # room for the outer half of a line that runs along the edge
        x_range=(-EDGE * width, (1 + EDGE) * width),
        y_range=((1 + EDGE) * height, -EDGE * height),
        aspect_ratio=width / height,
        sizing_mode="stretch_width",
        min_border=0,
        outline_line_color=None,
        background_fill_color=None,
        border_fill_color=None,
        stylesheets=[PANNABLE],
        html_attributes={"role": "img", "aria-label": label},
        margin=0,
        **({"toolbar_location": None, "tools": ""} | options),
    )
    plot.axis.visible = False
    plot.grid.visible = False
    return plot


def framed_tiles(plot: figure, source: ColumnDataSource, tall: float, size: str) -> GlyphRenderer:
    """Images in frames with words below each, on a `picture` measured in widths of a tile.

    source: columns image, x, y, bottom, words, and thick, the width of the frame's mark.
    tall: height of a tile. size: of the words.
    Returns: the frames.
    """
    plot.image_rgba("image", "x", "y", 1, tall, source=source)
    words = {"text_font_size": size, "text_color": SOFT, "text_baseline": "top", "y_offset": 7}
    plot.text("x", "bottom", "words", source=source, **words)
    plot.block("x", "y", 1, tall, source=source, fill_alpha=0, line_color=SOFT)
    # over it, of the width that a script gives it: 0 of all but the chosen one
    chosen = {"line_color": MARK, "line_width": "thick", "fill_alpha": 0}
    return plot.block("x", "y", 1, tall, source=source, **chosen)


def tips(lines: list[tuple[str, str]]) -> str:
    """What the pointer is told, in the page's colours; lines: name and value, as in @count{0,0}."""
    told = "".join(f"<div><span>{name}:</span> <b>{value}</b></div>" for name, value in lines)
    return f'<div style="{_TIP}">{told}</div>'


def choose_on_tap(plot: figure, tiles: ColumnDataSource, atom: Spinner) -> None:
    """A tap on a tile chooses its centroid, another lets it go.

    tiles: columns x, y, bottom, atom and perhaps width, else 1.
    """
    plot.js_on_event("tap", CustomJS(args={"tiles": tiles, "atom": atom}, code=_CHOOSE))


def text(name: str) -> Div:
    """Words that a script writes, in the fonts and colours around them."""
    return Div(name=name, sizing_mode="stretch_width", margin=0, stylesheets=[_WORDS])


def image_source(name: str, height: int, width: int) -> ColumnDataSource:
    """A source of one image for `image_rgba`, black until a script draws it."""
    blank = np.full((height, width), 0xFF000000, np.uint32)
    return ColumnDataSource({"image": [blank], "width": [width], "height": [height]}, name=name)
