"""What a section of the page is made of."""

from collections.abc import Callable
from dataclasses import dataclass

from analysis.html_report.figures.figure import ReportFigure
from analysis.html_report.measured import Measured


@dataclass(frozen=True)
class Section:
    """A section of the page. Its parts are functions of the measures.

    name: its anchor. short: its name in the contents. question: its heading; none for a section
        of figures alone.
    figures: drawn within `styled()`, in the order of the page.
    paragraphs: the first begins with the answer in one sentence.
    caveats: where the evidence is weak, a sentence each; often none.
    """

    name: str
    figures: Callable[[Measured], list[ReportFigure]]
    short: str = ""
    question: str = ""
    paragraphs: Callable[[Measured], list[str]] = lambda _: []
    caveats: Callable[[Measured], list[str]] = lambda _: []


def which_sizes(measured: Measured, every: str) -> str:
    """For which K a figure has a part; every: the words for all of several."""
    shown, sizes = len(measured.shown), len(measured.sizes)
    if sizes == 1:
        return f"K = {measured.sizes[0]:,}"
    return every if shown == sizes else f"{shown} of the {sizes} K"
