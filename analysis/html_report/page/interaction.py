"""All interactive parts of the page, made from what is measured of an experiment."""

from bokeh.models import CustomJS

from analysis.html_report.exploration import Chosen, atlases, explored_sizes, rebuilt_images
from analysis.html_report.measured import Measured
from analysis.html_report.page.atlas import atlas_source, atlas_view
from analysis.html_report.page.curve import curve_chart
from analysis.html_report.page.embedding import Embedded, embed
from analysis.html_report.page.explorer import explorer
from analysis.html_report.page.widgets import code


def interactive_parts(measured: Measured, chosen: Chosen) -> Embedded:
    """The explorer, the atlas and, where there are several K, the curve of the MSE, embedded.

    Explorer and atlas show the elbow first.
    """
    experiment, elbow = measured.experiment, measured.elbow
    sizes = explored_sizes(measured, chosen)
    first = elbow if elbow in sizes else sizes[-1]
    source = atlas_source(atlases(measured, sizes), experiment.pixels)
    seen = rebuilt_images(measured, chosen, sizes)
    spec = chosen.cut(experiment.spec)
    explored, draw = explorer(seen, source, spec, experiment.pixels, first)
    board, draw_board = atlas_view(source, experiment.patch_shape, experiment.pixels, first)
    parts = explored | board
    if len(measured.sizes) > 1:
        limits = measured.elbow_limits
        parts["curve"] = curve_chart(measured.curve, experiment.pixels, elbow, limits)
    name = CustomJS(code=code("naming.js"), name="naming")
    return embed(parts, [draw, draw_board, name])
