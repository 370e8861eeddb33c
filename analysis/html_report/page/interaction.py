"""All interactive parts of the page, made from an experiment."""

from bokeh.models import CustomJS

from analysis.experiment import Experiment
from analysis.html_report.exploration import Chosen, atlases, explored_sizes, rebuilt_images
from analysis.html_report.page.atlas import atlas_source, atlas_view
from analysis.html_report.page.curve import curve_chart
from analysis.html_report.page.embedding import Embedded, embed
from analysis.html_report.page.explorer import explorer
from analysis.html_report.page.widgets import code


def interactive_parts(
    experiment: Experiment,
    chosen: Chosen,
    elbow: int | None,
    interval: tuple[int, int] | None = None,
) -> Embedded:
    """The explorer, the atlas and, where there are several K, the curve of the MSE, embedded.

    elbow: of that curve; explorer and atlas show it first. interval: see `curve_chart`.
    """
    sizes = explored_sizes(experiment, chosen)
    first = elbow if elbow in sizes else sizes[-1]
    source = atlas_source(atlases(experiment, sizes), experiment.pixels)
    seen = rebuilt_images(experiment, chosen, sizes)
    explored, draw = explorer(seen, source, experiment.spec, experiment.pixels, first)
    board, draw_board = atlas_view(source, experiment.patch_shape, experiment.pixels, first)
    parts = explored | board
    if len(experiment.sizes) > 1:
        parts["curve"] = curve_chart(experiment.curve, experiment.pixels, elbow, interval)
    name = CustomJS(code=code("naming.js"), name="naming")
    return embed(parts, [draw, draw_board, name])
