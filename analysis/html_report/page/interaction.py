"""All interactive parts of the page, made from an experiment."""

from collections.abc import Collection, Mapping

import xarray
from bokeh.models import CustomJS

from analysis.experiment import Experiment
from analysis.html_report.exploration import Chosen, atlases, explored_sizes, rebuilt_images
from analysis.html_report.findings import Findings
from analysis.html_report.page.atlas import atlas_source, atlas_view
from analysis.html_report.page.embedding import Embedded, embed
from analysis.html_report.page.explorer import explorer
from analysis.html_report.page.panels import panels
from analysis.html_report.page.widgets import code


def interactive_parts(
    experiment: Experiment,
    found: Findings,
    chosen: Chosen,
    coverage: Mapping[int, xarray.Dataset],
    figures: Collection[str],
) -> Embedded:
    """The explorer, the atlas and the charts, embedded.

    coverage: K -> as `coverage` returns it, of every K. figures: names of those on the page, in
    whose places the charts stand.
    """
    sizes = explored_sizes(experiment, chosen)
    first = found.elbow if found.elbow in sizes else sizes[-1]
    source = atlas_source(atlases(experiment, sizes), experiment.pixels)
    seen = rebuilt_images(experiment, chosen, sizes)
    explored, draw = explorer(seen, source, experiment.spec, experiment.pixels, first)
    board, draw_board = atlas_view(source, experiment.patch_shape, experiment.pixels, first)
    charts = {
        f"{name}-{at}": chart
        for name, several in panels(experiment, found, coverage).items()
        for at, chart in enumerate(several)
        if name in figures
    }
    name = CustomJS(code=code("naming.js"), name="naming")
    return embed(explored | board | charts, [draw, draw_board, name])
