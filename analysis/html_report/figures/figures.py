"""The report's figures, in the order of the page."""

from analysis.experiment import Experiment
from analysis.html_report.figures.charts import (
    classes_charts,
    convergence_charts,
    kinds_charts,
    mse_charts,
    rate_charts,
    use_chart,
    within_chart,
)
from analysis.html_report.figures.figure import ReportFigure
from analysis.html_report.figures.image_boards import (
    galleries,
    kinds_examples,
    patches_and_centroids,
    rebuilt_images,
    sample_images,
    worst_patches,
)
from analysis.html_report.figures.style import styled
from analysis.html_report.findings import Findings
from analysis.html_report.investigation import Material

__all__ = ["ReportFigure", "draw_figures"]


def draw_figures(experiment: Experiment, found: Findings, material: Material) -> list[ReportFigure]:
    """All figures, in the order of the page."""
    with styled():
        return [
            sample_images(experiment, found, material),
            use_chart(experiment),
            patches_and_centroids(found, material),
            *mse_charts(experiment, found),
            *rate_charts(experiment, found),
            within_chart(found, material),
            worst_patches(found, material),
            kinds_examples(experiment, found),
            *kinds_charts(experiment, found),
            *galleries(experiment, found),
            rebuilt_images(found, material),
            *classes_charts(experiment, material),
            *convergence_charts(experiment, found),
        ]
