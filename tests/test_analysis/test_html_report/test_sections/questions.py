"""The study's five questions, and what their sections say."""

from analysis.html_report.measured import Measured
from analysis.html_report.sections import SECTIONS

ASKED = [section for section in SECTIONS if section.question]
CHANGE, QUALITY, COVERAGE, NATURE, COMPOSITION = range(5)


def text(measured: Measured, question: int) -> str:
    return " ".join(ASKED[question].paragraphs(measured))


def caveats(measured: Measured, question: int) -> str:
    return " ".join(ASKED[question].caveats(measured))
