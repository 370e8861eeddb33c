"""The sections of the page, a file for each: its paragraphs, its caveats, its figures, their data.

`rate` is a part of the section on coverage, which tells of the elbow, too.
"""

from analysis.html_report.section import Section
from analysis.html_report.sections.change import CHANGE
from analysis.html_report.sections.classification import CLASSIFICATION
from analysis.html_report.sections.composition import COMPOSITION
from analysis.html_report.sections.coverage import COVERAGE
from analysis.html_report.sections.data import DATA
from analysis.html_report.sections.dictionaries import DICTIONARIES
from analysis.html_report.sections.elbow import CURVE
from analysis.html_report.sections.kinds import NATURE
from analysis.html_report.sections.quality import QUALITY

__all__ = ["CHANGE", "CLASSIFICATION", "COMPOSITION", "COVERAGE", "NATURE", "QUALITY", "SECTIONS"]

# In the order of the page; the study's five questions in the study's order, then what they serve.
SECTIONS: tuple[Section, ...] = (
    CURVE,
    DATA,
    CHANGE,
    QUALITY,
    COVERAGE,
    NATURE,
    COMPOSITION,
    CLASSIFICATION,
    DICTIONARIES,
)
