"""The report of an experiment: report.html, and its figures and their data, written atomically.

Each figure is four files: NAME.png, NAME.svg, NAME.pdf, and what it shows as NAME.csv.
"""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from analysis.experiment_folders import experiment_folders, only_experiment
from analysis.html_report.freshness import digest_of, read_marks, with_classification
from pipeline import USUAL_MEMORY, MemoryOptions, Progress, SilentProgress
from storage import PatchDictError
from storage.atomic import remove_orphans, write_whole
from storage.layout import ExperimentLayout
from storage.places.place import Place, place_of

if TYPE_CHECKING:
    from analysis.html_report.section import Section

PICTURE, OTHERS = "png", ("svg", "pdf", "csv")  # files of a figure
PARTS = 19  # of the work, about: what is loaded, words and figures of each section, the page
DRAWING_BYTES = 160 << 20  # of the largest figure but the next while it is drawn, as measured
DRAWING_BYTES_OF_SIZE = 12 << 20  # of each line of patches above their centroids, one for a K


class _Within(SilentProgress):
    """Of work within a part of the report: what begins is told beside the report's bar."""

    def __init__(self, report: Progress) -> None:
        self._report = report

    def start(self, label: str, total: int, unit: str) -> None:
        self._report.advance(0, doing=label)


def report(
    out: str | Place,
    *,
    data: Place | None = None,
    dataset: str | None = None,
    labels: Place | None = None,
    only_stale: bool = False,
    memory: int | str = USUAL_MEMORY,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Write the reports of all experiments under a sweep's OUT, or of one experiment's folder.

    An experiment that cannot be reported does not keep the others from it.

    Args:
        out: a sweep's OUT, or an experiment's folder, or the URL of one.
        data: folder of downloads; None: the one that the sweep used.
        dataset: file of the images, where it is no longer the one that the sweep used; others than
            those of an experiment are passed over.
        labels: CSV file of the images' classes, which their experiment keeps: `out` is its folder.
        only_stale: leave a report as it is that was made from exactly the present dictionaries.
        memory: cap on the resident memory of the process, as in "1GiB".
        progress: an observer; None: nobody looks.

    Returns: for each experiment plain JSON: report (path), made, seconds, figures (paths of the
        PNG files), files (paths of all files beside the page).
    Raises: InputError where there are no dictionaries, or images or patches are gone;
        IntegrityError where they are damaged or others; MemoryBudgetError, with both numbers,
        where a step does not fit under the cap.
    """
    cap = MemoryOptions.checked(memory=memory).memory
    results, failures = [], []
    place = place_of(out)
    folders = experiment_folders(place) if labels is None else [only_experiment(place)]
    for folder in folders:
        try:
            if labels is not None:
                from analysis.experiment import open_experiment  # loads what a page takes

                open_experiment(folder, data, dataset, labels)
            results.append(
                report_experiment(
                    folder,
                    data=data,
                    dataset=dataset,
                    only_stale=only_stale,
                    memory=cap,
                    progress=progress,
                )
            )
        except PatchDictError as error:
            failures.append(error)
    if failures:
        raise type(failures[0])("; ".join(map(str, failures)))
    return results


def report_experiment(
    folder: Place,
    *,
    data: Place | None = None,
    dataset: str | None = None,
    only_stale: bool = False,
    memory: int = USUAL_MEMORY,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the report of one experiment; see `report`. memory: in bytes."""
    progress = progress or SilentProgress()
    started = time.perf_counter()
    page = ExperimentLayout(folder).report
    digest = digest_of(folder)
    if only_stale:
        known, names = read_marks(page)
        files = _files(folder, names)
        there = {path.name for path in ExperimentLayout(folder).figures.glob("*")}
        whole = there.issuperset(path.name for path in files)
        if whole and known == with_classification(digest, folder):
            return _result(page, files, made=False, started=started)
    progress.stage({"report": 1.0}, kept=False)
    progress.start("report", PARTS, "parts")
    # Heavy (torch, matplotlib), and not needed where every report is up to date.
    from analysis.experiment import open_experiment
    from analysis.html_report.figures.style import styled
    from analysis.html_report.measured import Measured
    from analysis.html_report.sections import SECTIONS
    from pipeline import check_budget

    measured = Measured(open_experiment(folder, data, dataset), memory, _Within(progress))
    drawn = max(DRAWING_BYTES, DRAWING_BYTES_OF_SIZE * len(measured.shown))
    check_budget("a report", drawn, memory)  # before seconds of work that would be for nothing
    progress.advance(1)
    # The words first: for them patches and images are streamed, while no figure takes memory.
    asked = [section for section in SECTIONS if section.question]
    told = [(section, section.paragraphs(measured)) for section in _each(asked, "words", progress)]
    answers = [(section, words, section.caveats(measured)) for section, words in told if words]
    digest = with_classification(digest, folder)
    check_budget("drawing the figures", drawn, memory)
    with styled():
        figures = {
            section.name: section.figures(measured)
            for section in _each(SECTIONS, "figures", progress)
        }
    drawn_figures = [figure for several in figures.values() for figure in several]
    from analysis.html_report.page.document import render  # 60 MiB that figures do without

    progress.advance(0, doing="page")
    text = render(measured, answers, figures, digest)
    ExperimentLayout(folder).figures.mkdir(exist_ok=True)
    for figure in drawn_figures:
        for ending, content in figure.files.items():
            _write(_file(folder, figure.name, ending), content)
    # Last: it says that the figures are there. Paths may hold bytes that are no text.
    _write(page, text.encode(errors="backslashreplace"))
    progress.finish()
    files = _files(folder, [figure.name for figure in drawn_figures])
    return _result(page, files, made=True, started=started)


def _each(sections: Sequence["Section"], what: str, progress: Progress) -> Iterator["Section"]:
    """The sections one by one, each a part that is told; what: is made of them."""
    for section in sections:
        progress.advance(0, doing=f"{what} of {section.name}")
        yield section
        progress.advance(1)


def _files(folder: Place, names: list[str]) -> list[Place]:
    """All files of the figures, the pictures first."""
    return [_file(folder, name, ending) for ending in (PICTURE, *OTHERS) for name in names]


def _file(folder: Place, name: str, ending: str) -> Place:
    return ExperimentLayout(folder).figures / f"{name}.{ending}"


def _result(page: Place, files: list[Place], *, made: bool, started: float) -> dict[str, Any]:
    return {
        "report": str(page),
        "made": made,
        "seconds": time.perf_counter() - started,
        "figures": [str(path) for path in files if path.suffix == f".{PICTURE}"],
        "files": [str(path) for path in files],
    }


def _write(path: Place, content: bytes) -> None:
    remove_orphans(path)
    write_whole(path, content)
