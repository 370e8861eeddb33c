"""All interactive parts of the page, made from what is measured of an experiment."""

from typing import Any

from bokeh.models import CustomJS

from analysis.html_report.exploration import (
    Chosen,
    atlases,
    classed_patches,
    explored_sizes,
    rebuilt_images,
)
from analysis.html_report.measured import Measured
from analysis.html_report.page.atlas import ORDERS, atlas_source, atlas_view
from analysis.html_report.page.embedding import Embedded, embed
from analysis.html_report.page.explorer import explorer
from analysis.html_report.page.widgets import code, number_field, size_slider

VALUED = ("atom", "size", "row", "col")  # controls that have a value; of others one is active


def interactive_parts(measured: Measured, chosen: Chosen) -> Embedded:
    """The explorer and the atlas, embedded.

    Explorer and atlas show the elbow first.
    """
    experiment, elbow = measured.experiment, measured.elbow
    sizes = explored_sizes(measured, chosen)
    first = elbow if elbow in sizes else sizes[-1]
    source = atlas_source(atlases(measured, sizes), measured.pictures)
    seen = rebuilt_images(measured, chosen, sizes)
    spec = chosen.cut(experiment.spec)
    shared: dict[str, Any] = {"atom": number_field("centroid")}
    if len(sizes) > 1:
        shared["size"] = size_slider("k", sizes, first)
    scales = measured.pixels, measured.pictures
    explored, image_controls, draw = explorer(seen, source, spec, scales, shared)
    board, atlas_controls, draw_board = atlas_view(
        source, experiment.patch_shape, experiment.pixels, shared, classed_patches(measured, sizes)
    )
    controls = image_controls | atlas_controls
    linked = {"controls": controls, "dictionaries": source, "orders": list(ORDERS)}
    linking = CustomJS(
        args=linked | {"splits": list(chosen.images)}, code=code("shading.js") + code("linking.js")
    )
    if "size" in shared:
        shared["size"].js_on_change("value", linking)  # before others draw
    for script, changing in ((draw, image_controls), (draw_board, atlas_controls)):
        for name, control in changing.items():
            control.js_on_change("value" if name in VALUED else "active", script)
    parts = explored | board | {name: shared[name] for name in ("size",) if name in shared}
    name = CustomJS(args={"draw": draw}, code=code("naming.js"), name="naming")
    return embed(parts, [draw, draw_board, name, linking])
