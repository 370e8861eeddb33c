"""What a section of the page is made of."""

from collections.abc import Callable
from dataclasses import dataclass

from analysis.html_report.figures.figure import ReportFigure
from analysis.html_report.measured import Measured


def _nothing(_: Measured) -> list[str]:
    return []


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
    paragraphs: Callable[[Measured], list[str]] = _nothing
    caveats: Callable[[Measured], list[str]] = _nothing


@dataclass(frozen=True)
class WrittenSection:
    """The words of a section."""

    section: Section
    paragraphs: list[str]
    caveats: list[str]

    @classmethod
    def of(cls, section: Section, measured: Measured) -> "WrittenSection":
        """Written from the measures."""
        return cls(section, section.paragraphs(measured), section.caveats(measured))


def which_sizes(measured: Measured, every: str) -> str:
    """For which K a figure has a part; every: the words for all of them."""
    shown, sizes = len(measured.shown), len(measured.sizes)
    return every if shown == sizes else f"{shown} of the {sizes} K"
